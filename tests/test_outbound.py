"""Whom a running gateway turns to: the configured addresses and nobody else (house.md 1.6), whatever SDKs would like to
ask on their own; which SDKs it loads, when, and what they may log; and how it fares without one of them.

Each test starts the gateway as its own process under tests/eyes.py, in front of fakes on ports of this one.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from doors import CHAT, V1, Ask, Turn
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.huggingface_wire import FakeHuggingFace
from fakes.openai_wire import KEY
from fakes.script import Script, Upstream
from gateway import LEAST, Gateway, ask_least
from rich.console import Console
from transports import TRANSPORTS

from ollama_bridge.config import load
from ollama_bridge.terminal import screen

ROOT = Path(__file__).parents[1]
GUARD = 30.0  # seconds after which a test gives up waiting for what must come
READY = "ollama run echo"  # the last line of the start-up screen
SECRET = "swordfish"

# What each kind of provider loads: its SDK, and the wire type that SDKs share.
LOADS = {
    "openai": {"openai", "httpx2"},
    "anthropic": {"anthropic", "httpx2"},
    "google": {"google.genai", "httpx2"},
    "huggingface": {"openai", "httpx2"},
    "ollama": set(),
}
PACKAGES = {"openai": "openai", "anthropic": "anthropic", "google": "google-genai", "huggingface": "openai"}


@dataclass
class Process:
    """A gateway with eyes on it. `said`: its standard error so far; `seen`: what it did, complete once it has ended."""

    gateway: Gateway
    upstreams: Mapping[str, Upstream]
    said: list[str] = field(default_factory=list)
    seen: list[list[Any]] = field(default_factory=list)

    def did(self, what: str) -> set[Any]:
        """Addresses for "connect", else names."""
        found = [line[1:] for line in self.seen if line[0] == what]
        return {(host, port) for host, port in found} if what == "connect" else {name for (name,) in found}

    @property
    def ports(self) -> dict[str, int]:
        return {kind: int(upstream.url.rpartition(":")[2]) for kind, upstream in self.upstreams.items()}


@asynccontextmanager
async def watched(
    folder: Path,
    kinds: Iterable[str],
    without: Collection[str] = (),
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> AsyncIterator[Process]:
    """Every model of every fake answers "fine". `more`: keys of their providers."""
    async with AsyncExitStack() as stack:
        upstreams = {kind: await stack.enter_async_context(TRANSPORTS[kind].fake()) for kind in kinds}
        for upstream in upstreams.values():
            upstream.play("m", Script(text=("fine",)))
        entries = {kind: TRANSPORTS[kind].entry(upstream.url, **more) for kind, upstream in upstreams.items()}
        nobody = {} if "ollama" in entries else {"ollama": {"kind": "ollama", "base_url": "http://127.0.0.1:9"}}
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump({"state_dir": str(folder / "state"), "providers": {**entries, **nobody}}))
        record = folder / "record"
        process = await asyncio.create_subprocess_exec(
            sys.executable, ROOT / "tests" / "eyes.py", record, ",".join(without),
            ROOT / "start_gateway.py", "127.0.0.1:0", "--config", config,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **(environment or {})},
            cwd=folder, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        http = await stack.enter_async_context(aiohttp.ClientSession())
        made = Process(Gateway("", http), upstreams)
        assert process.stderr is not None
        try:
            async with asyncio.timeout(GUARD):
                while not made.said or READY not in made.said[-1]:
                    line = await process.stderr.readline()
                    assert line, made.said
                    made.said.append(line.decode())
            (made.gateway.url,) = [line.split("=")[1].strip() for line in made.said if "OLLAMA_HOST=" in line]
            yield made
        finally:
            if process.returncode is None:
                process.terminate()
            made.said.append((await process.stderr.read()).decode())
            await process.wait()
            if record.exists():
                made.seen = [json.loads(line) for line in record.read_text("utf-8").splitlines()]


async def listed(process: Process) -> None:
    """Waits until every upstream has been asked what it has."""
    async with asyncio.timeout(GUARD):
        for upstream in process.upstreams.values():
            while not any(seen.method == "GET" for seen in upstream.seen):
                async with process.gateway.http.get(f"{process.gateway.url}/api/version") as response:
                    await response.read()


async def ask_everything(process: Process) -> None:
    gateway = process.gateway
    for path in ("/api/tags", "/api/ps", "/v1/models", "/health", "/metrics", "/", "/nowhere"):
        async with gateway.http.get(gateway.url + path) as response:
            await response.read()
    for kind in process.upstreams:
        for door in (CHAT, V1):
            heard = await gateway.ask(door, Ask((Turn("user", "Hi"),)), f"{kind}/m", True)
            assert heard.text == "fine", (kind, heard)
        for path in LEAST:
            await ask_least(gateway, path, f"{kind}/m")
        for model in (f"{kind}/m", f"{kind}/other"):
            async with gateway.http.post(f"{gateway.url}/api/show", json={"model": model}) as response:
                await response.read()


async def test_only_configured_addresses_are_turned_to(tmp_path: Path) -> None:
    async with watched(tmp_path, TRANSPORTS) as process:
        await listed(process)
        await ask_everything(process)
    assert process.did("connect") == {("127.0.0.1", port) for port in process.ports.values()}
    assert process.did("look up") <= {"127.0.0.1"}
    assert process.did("run") <= {"uname"}  # by which Python's `platform` finds what SDKs tell of the machine


async def test_the_hub_is_a_configured_address(tmp_path: Path) -> None:
    """Of embeddings by a provider behind Hugging Face's router it is asked for a name, and nobody else is."""
    async with FakeHuggingFace() as hub:
        assert isinstance(hub, FakeHuggingFace)
        hub.offers = {"org/embedder": {"together": "m"}}
        async with watched(tmp_path, ["huggingface"], hub_url=hub.url) as process:
            await listed(process)
            for path in ("/api/embed", "/v1/embeddings"):
                status, words, _ = await ask_least(process.gateway, path, "huggingface/org/embedder:together")
                assert status == 200, words
        (asked,) = hub.seen
        assert (asked.method, asked.path) == ("GET", "/api/models/org/embedder")
        assert process.upstreams["huggingface"].seen[-1].path == "/together/v1/embeddings"
        ports = [*process.ports.values(), int(hub.url.rpartition(":")[2]), 9]  # 9: the Ollama that is not there
    assert process.did("connect") == {("127.0.0.1", port) for port in ports}
    assert process.did("look up") <= {"127.0.0.1"}
    assert process.did("run") <= {"uname"}


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_no_sdk_is_loaded_that_is_not_used(tmp_path: Path, kind: str) -> None:
    async with watched(tmp_path, [kind]) as process:
        await listed(process)
        await ask_everything(process)
    assert process.did("import") == LOADS[kind]


@pytest.mark.parametrize("absent", ["openai", "anthropic", "google"])
async def test_without_one_sdk_the_others_serve(tmp_path: Path, absent: str) -> None:
    """`google` as a whole is absent, as it is where nothing of Google's is installed."""
    package = PACKAGES[absent]
    without = {kind for kind, name in PACKAGES.items() if name == package}
    async with watched(tmp_path, TRANSPORTS, without=[absent]) as process:
        for kind in TRANSPORTS:
            status, words, _ = await ask_least(process.gateway, "/api/chat", f"{kind}/m")
            if kind in without:
                assert (status, words) == (500, f"provider '{kind}' needs the {package} SDK: pip install {package}")
                assert process.upstreams[kind].seen == []
            else:
                assert status == 200, words
    screen_lines = {line.split()[1]: line.split() for line in process.said if line.startswith(("  on ", "  off "))}
    assert {kind for kind in TRANSPORTS if screen_lines[kind][0] == "off"} == without
    assert all(screen_lines[kind][2:] == ["pip", "install", package] for kind in without)


def test_check_says_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    config = load(None, env={"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY})
    assert config.providers["anthropic"].off == "provider 'anthropic' needs the anthropic SDK: pip install anthropic"
    assert config.providers["openai"].off is None
    table = io.StringIO()
    screen.check(config, Console(file=table, width=200))
    (row,) = [line.split() for line in table.getvalue().splitlines() if line.split()[:1] == ["anthropic"]]
    assert row[1] == "off" and row[-3:] == ["pip", "install", "anthropic"]


async def test_no_word_in_the_environment_makes_an_sdk_log_prompts(tmp_path: Path) -> None:
    loud = {"OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug", "HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"}
    async with watched(tmp_path, TRANSPORTS, environment=loud) as process:
        for kind in TRANSPORTS:
            for path in ("/api/chat", "/v1/chat/completions"):
                words = [{"role": "user", "content": SECRET}]
                status, said, _ = await ask_least(process.gateway, path, f"{kind}/m", messages=words)
                assert status == 200, said
    log = "".join(process.said)
    assert log.count('"message":"attempt"') == 2 * len(TRANSPORTS)
    assert not [word for word in (SECRET, KEY, GEMINI_KEY, "DEBUG", "httpx") if word in log], log
