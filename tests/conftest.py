"""Fixtures that more than one test file uses: fake upstreams, and a whole gateway for one test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import evidence
import pytest
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from gateway import Gateway, hardly_any_pause, running
from recordings import FOLDER

Start = Callable[..., AbstractAsyncContextManager[Gateway]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-recordings", action="store_true", help="fail where the recorded traffic is not there")
    parser.addoption("--write-evidence", action="store_true", help="keep the outcomes of faults in docs/evidence")


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than cores, as tests wait for time-outs more often than for a core."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--require-recordings") and not FOLDER.is_dir():
        raise pytest.UsageError(f"no recordings at {FOLDER}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--write-evidence"):
        if exitstatus != pytest.ExitCode.OK:
            raise pytest.UsageError("no evidence is written of tests that fail")
        evidence.write()


@pytest.fixture
async def fake_openai() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as upstream:
        yield upstream


@pytest.fixture
async def fake_ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as upstream:
        yield upstream


@pytest.fixture
def gateway_of(tmp_path: Path) -> Start:
    """`async with gateway_of(config, environment) as gateway`: a gateway for this test alone."""
    return partial(running, tmp_path)


@pytest.fixture
def no_pause() -> Iterator[None]:
    """See gateway.hardly_any_pause."""
    with hardly_any_pause():
        yield


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may depend on a key, a proxy or an address of the machine it runs on."""
    for name in (
        "OLLAMA_HOST", "OLLAMA_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY", "HF_TOKEN",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
