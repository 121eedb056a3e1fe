"""Fixtures that more than one test file uses: fake upstreams, and a whole gateway for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import FakeOpenAI
from gateway import Gateway, running

Start = Callable[..., AbstractAsyncContextManager[Gateway]]


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


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may depend on a key, a proxy or an address of the machine it runs on."""
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY",
                 "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
