"""A changed configuration without a restart (product.md 5, row 20): no request fails, a bad file changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from doors import CHAT, V1, Ask, Turn
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script
from gateway import Gateway, alias, openai_provider, running
from watch import until, watching
from web_stubs import StubLog

from ollama_bridge.config import Config, load
from ollama_bridge.errors import GatewayError
from ollama_bridge.logs import logger
from ollama_bridge.reload import Reloading

ROOT = Path(__file__).resolve().parent.parent
ASK = Ask((Turn("user", "Count."),))
ANSWER = Script(text=("one ", "two"))
PATIENCE = 20.0  # seconds


class Files:
    """The configuration of a gateway that is being changed."""

    def __init__(self, folder: Path, wire: str) -> None:
        self.path = folder / "config.yaml"
        self.folder = folder
        self.wire = wire

    def content(self, **more: Any) -> dict[str, Any]:
        return {
            "server": {"listen": "127.0.0.1:0", **more.pop("server", {})},
            "providers": {"wire": openai_provider(self.wire, **more.pop("provider", {}))},
            "models": {"m": alias("wire", "m"), **more.pop("models", {})},
            "state_dir": str(self.folder / "state"),
            **more,
        }

    def write(self, **more: Any) -> None:
        self.path.write_text(yaml.safe_dump(self.content(**more)), encoding="utf-8")

    def read(self) -> Config:
        return load(self.path, env={})


@asynccontextmanager
async def gateway_of(folder: Path) -> AsyncIterator[tuple[Gateway, Files, FakeOpenAI]]:
    async with FakeOpenAI() as wire:
        wire.play("m", ANSWER)
        wire.play("n", ANSWER)
        files = Files(folder, wire.url)
        async with running(folder, files.content()) as gateway:
            yield gateway, files, wire


async def status(gateway: Gateway, model: str) -> int:
    return (await gateway.ask(CHAT, ASK, model, False)).status


async def test_models_come_and_go(tmp_path: Path) -> None:
    async with gateway_of(tmp_path) as (gateway, files, _):
        assert [await status(gateway, "m"), await status(gateway, "new")] == [200, 404]
        files.write(models={"new": alias("wire", "n")})
        gateway.running.change(files.read())
        assert [await status(gateway, "m"), await status(gateway, "new")] == [200, 200]
        files.write()
        gateway.running.change(files.read())
        assert [await status(gateway, "m"), await status(gateway, "new")] == [200, 404]


async def test_a_new_provider_key_is_used_and_a_new_key_of_ours_asked_for(tmp_path: Path) -> None:
    async with gateway_of(tmp_path) as (gateway, files, wire):
        assert await status(gateway, "m") == 200
        files.write(provider={"api_key": "sk-another-key"}, server={"api_key": "ours"})
        gateway.running.change(files.read())
        assert await status(gateway, "m") == 401
        gateway.http.headers["Authorization"] = "Bearer ours"
        assert await status(gateway, "m") == 502  # the fake takes only its own key, so it has got the new one
        assert wire.seen[-1].headers["authorization"] == "Bearer sk-another-key"


async def test_a_mended_key_works_at_once(tmp_path: Path) -> None:
    """Its breaker is open for what the old one did; that of a provider that did not change stays as it is."""
    async with FakeOpenAI() as other, gateway_of(tmp_path) as (gateway, files, wire):
        other.play("m", Script(status=401, error="Who?"))
        more = {
            "providers": {"wire": openai_provider(wire.url), "other": openai_provider(other.url)},
            "models": {"m": alias("wire", "m"), "o": alias("other", "m")},
            "backoff": {"base": "60s"},
        }
        good = more["providers"]["wire"]
        files.write(**{**more, "providers": {**more["providers"], "wire": {**good, "api_key": "sk-revoked-key"}}})
        gateway.running.change(files.read())
        for name in ("m", "o"):
            for _ in range(4):
                heard = await gateway.ask(CHAT, ASK, name, False)
            assert heard.status == 502 and "is asked again in" in str(heard.error)
        files.write(**more)
        gateway.running.change(files.read())
        assert await status(gateway, "m") == 200
        assert "is asked again in" in str((await gateway.ask(CHAT, ASK, "o", False)).error)
        assert len(other.about("m")) == 3


async def test_a_provider_that_did_not_change_stays(tmp_path: Path) -> None:
    async with gateway_of(tmp_path) as (gateway, files, _):
        await status(gateway, "m")
        before = gateway.running._engine
        files.write(models={"new": alias("wire", "n")})
        gateway.running.change(files.read())
        await until(lambda: not gateway.running._leaving)
        assert gateway.running._engine is not before
        assert gateway.running._engine.providers["wire"] is before.providers["wire"]
        assert before.providers["wire"]._calls is not None, "closed, though it is still used"
        assert await status(gateway, "new") == 200


async def test_a_stream_under_way_ends_with_what_it_began_with(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    async with gateway_of(tmp_path) as (gateway, files, wire):
        wire.play("m", Script(text=("one ", "two"), hold_content=go_on))
        asking = asyncio.ensure_future(gateway.ask(V1, ASK, "m", True))
        await wire.request_about("m")
        engine = gateway.running._engine
        files.write(provider={"api_key": "sk-another-key"})
        gateway.running.change(files.read())
        assert gateway.running._engine is not engine
        await asyncio.sleep(0)
        assert engine.providers["wire"]._calls is not None, "closed under a stream"
        go_on.set()
        heard = await asking
        assert (heard.text, heard.error, heard.finished) == ("one two", None, True)
        await until(lambda: engine.providers["wire"]._calls is None)  # closed soon after the stream


BROKEN = {
    "no YAML": "models: [",
    "an unknown key": "models: {m: {provider: wire, model: m, systme: x}}",
    "an unknown provider": "models: {m: nowhere/m}",
    "gone": None,
}


@pytest.mark.parametrize("what", list(BROKEN))
async def test_a_bad_file_changes_nothing_and_the_log_names_the_place(tmp_path: Path, what: str) -> None:
    with watching() as watch:
        async with gateway_of(tmp_path) as (gateway, files, _):
            text = BROKEN[what]
            if text is None:
                files.path.unlink()
            else:
                files.path.write_text(text)
            reloading = Reloading(gateway.running, files.read, logger("test"))
            engine = gateway.running._engine
            await reloading._reload()
            assert gateway.running._engine is engine
            assert await status(gateway, "m") == 200
        [line] = map(json.loads, watch.lines.bugs)
        assert line["message"] == "configuration not reloaded, the old one stays"
        where = r"config\.yaml: cannot be read" if text is None else r"config\.yaml:1: "
        assert re.search(where, line["problems"][0]), line
        watch.lines.bugs.clear()


RELOADS = 40


async def test_reloads_under_load_fail_nobody(tmp_path: Path) -> None:
    """Half of the files are broken; of the others each changes the provider, so that clients are built anew."""
    with watching() as watch:
        async with gateway_of(tmp_path) as (gateway, files, _):
            over = False
            answered = 0

            async def keep_asking(stream: bool) -> None:
                nonlocal answered
                while not over:
                    heard = await gateway.ask(V1 if stream else CHAT, ASK, "m", stream)
                    assert (heard.text, heard.error, heard.finished) == ("one two", None, True), heard
                    answered += 1

            load = [asyncio.ensure_future(keep_asking(bool(number % 2))) for number in range(8)]
            reloading = Reloading(gateway.running, files.read, logger("test"))
            for number in range(RELOADS):
                if number % 2:
                    files.path.write_text("providers: {")
                else:
                    files.write(provider={"headers": {"X-Reload": str(number)}})
                wanted = answered + 8
                await reloading._reload()
                await until(lambda wanted=wanted: answered >= wanted or any(task.done() for task in load))  # type: ignore[misc]
            over = True
            await asyncio.gather(*load)
            await until(lambda: not gateway.running._leaving)
            print(f"{answered} requests over {RELOADS} reloads")
            assert gateway.running.config.providers["wire"].headers["X-Reload"].get_secret_value() == str(RELOADS - 2)
        told = [line for line in watch.lines.bugs if "the old one stays" in line]
        assert len(told) == RELOADS // 2
        assert not set(watch.bugs) - set(told)


async def test_what_everybody_can_reach_keeps_its_key(tmp_path: Path) -> None:
    """The file may say what is good for another address: where we listen is what counts."""
    async with FakeOpenAI() as wire:
        files = Files(tmp_path, wire.url)
        content = files.content(server={"listen": "0.0.0.0:0", "api_key": "ours"})
        async with running(tmp_path, content) as gateway:
            files.write()
            with pytest.raises(ValueError, match=r"^it listens on 0\.0\.0\.0:0 without a key: "):
                gateway.running.change(files.read())
            assert await status(gateway, "m") == 401
            files.write(server={"api_key": "another"})
            gateway.running.change(files.read())
            async with gateway.http.get(f"{gateway.url}/api/version", headers={"X-API-Key": "another"}) as response:
                assert response.status == 200


async def test_what_only_this_machine_can_reach_stays_guarded(tmp_path: Path) -> None:
    async with gateway_of(tmp_path) as (gateway, files, _):
        files.write(server={"listen": "0.0.0.0:0", "open": True})
        gateway.running.change(files.read())
        async with gateway.http.get(f"{gateway.url}/api/version", headers={"Host": "evil.example"}) as response:
            assert response.status == 403


async def test_a_provider_is_kept_as_long_as_any_stream_needs_it(tmp_path: Path) -> None:
    """Two engines share it, a third has another: the first to become idle does not close it."""
    first, second = asyncio.Event(), asyncio.Event()
    async with gateway_of(tmp_path) as (gateway, files, wire):
        wire.play("m", Script(text=("one ", "two"), hold_content=first))
        wire.play("n", Script(text=("one ", "two"), hold_content=second))
        asking = [asyncio.ensure_future(gateway.ask(V1, ASK, "m", True))]
        await wire.request_about("m")
        files.write(models={"new": alias("wire", "n")})
        gateway.running.change(files.read())
        asking.append(asyncio.ensure_future(gateway.ask(V1, ASK, "new", True)))
        await wire.request_about("n")
        shared = gateway.running._engine.providers["wire"]
        files.write(provider={"api_key": "sk-another-key"})
        gateway.running.change(files.read())
        first.set()
        await asking[0]
        await until(lambda: len(gateway.running._leaving) == 1)
        assert shared._calls is not None, "closed under a stream"
        second.set()
        heard = await asking[1]
        assert (heard.text, heard.error, heard.finished) == ("one two", None, True)
        await until(lambda: shared._calls is None)


class Stand:
    """A gateway that takes every configuration, unless it is told otherwise."""

    def __init__(self, *files: Path) -> None:
        self.config = replace(load(None, env={}), files=frozenset(files))
        self.fails: Exception | None = None

    def change(self, config: Config) -> None:
        if self.fails is not None:
            raise self.fails
        self.config = config


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (RuntimeError("sk-secret"), "RuntimeError"),
        (GatewayError("no such thing", status=500), "no such thing"),
    ],
    ids=["OSError", "a bug", "GatewayError"],
)
@pytest.mark.parametrize("where", ["read", "change"])
async def test_nothing_ends_reloading(where: str, error: Exception, told: str) -> None:
    stand, read = Stand(), 0

    def anew() -> Config:
        nonlocal read
        read += 1
        if where == "read" and read == 1:
            raise error
        return load(None, env={})

    stand.fails = error if where == "change" else None
    log = StubLog()
    reloading = Reloading(stand, anew, log)
    reloading.start()
    reloading.ask()
    async with asyncio.timeout(PATIENCE):
        await until(lambda: bool(log.lines))
        stand.fails = None
        reloading.ask()
        await until(lambda: len(log.lines) == 2)
    await reloading.stop()
    assert [event for event, _ in log.lines] == [
        "configuration not reloaded, the old one stays",
        "configuration reloaded",
    ]
    [problem] = log.lines[0][1]["problems"]
    if where == "read" and isinstance(error, GatewayError):
        told = "GatewayError"  # nobody expects one there
    assert told in problem and "sk-secret" not in problem


class Asked(Reloading):
    """Counts instead of reading, and takes `files` for those of the configuration that was read."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(stand, lambda: stand.config, logger("test"))
        self.reads = 0

    async def _reload(self) -> None:
        self.reads += 1
        await super()._reload()

    async def after(self, change: Callable[[], object]) -> None:
        """Returns once it has been read again."""
        reads = self.reads
        change()
        async with asyncio.timeout(PATIENCE):
            await until(lambda: self.reads > reads)


async def test_a_linked_folder_is_seen_changing_each_time(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: the file is a link into a folder that is a link, and that is exchanged."""
    data, file = tmp_path / "..data", tmp_path / "config.yaml"

    def exchange(version: int) -> None:
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        (folder / "config.yaml").write_text(str(version))
        draft = tmp_path / "..data_tmp"
        draft.symlink_to(folder.name)
        draft.replace(data)
        if version:
            shutil.rmtree(tmp_path / f"..{version - 1}")

    exchange(0)
    file.symlink_to("..data/config.yaml")
    asked = Asked(Stand(file))
    asked.start()
    await asyncio.sleep(0.5)
    assert not asked.reads
    for version in (1, 2, 3):
        await asked.after(lambda version=version: exchange(version))  # type: ignore[misc]
    await asked.stop()


async def test_a_file_that_the_new_configuration_names_is_watched(tmp_path: Path) -> None:
    first, other = tmp_path / "config.yaml", tmp_path / "secrets" / "key"
    first.write_text("1")
    other.parent.mkdir()
    stand = Stand(first)
    asked = Asked(stand)
    asked._read = lambda: replace(load(None, env={}), files=frozenset((first, other)))
    asked.start()
    await asked.after(asked.ask)
    await asyncio.sleep(0.5)
    for text in ("a", "bc"):
        await asked.after(lambda text=text: other.write_text(text))  # type: ignore[misc]
    await asked.stop()


# -- a real process ----------------------------------------------------------------------------------------------------
@pytest.fixture(params=["1", "2"], ids=["one process", "two workers"])
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], Path, str]]:
    (tmp_path / "config.yaml").write_text("server: {listen: '127.0.0.1:0'}\nproviders: {echo: {}}\n")
    process = subprocess.Popen(
        [sys.executable, ROOT / "start_gateway.py", "--workers", request.param],
        stderr=subprocess.PIPE, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        screen = b""
        while b"ollama run" not in screen:
            screen += process.stderr.readline()
        found = re.search(rb"OLLAMA_HOST=(\S+)", screen)
        assert found, screen
        yield process, tmp_path, found[1].decode()
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


async def names(url: str) -> set[str]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/api/tags") as response:
        return {model["name"] for model in (await response.json())["models"]}


async def lists(url: str, name: str) -> None:
    """Several times in a row: there may be more than one worker."""
    deadline = time.monotonic() + PATIENCE
    good = 0
    while good < 8:
        good = good + 1 if name in await names(url) else 0
        assert time.monotonic() < deadline, f"{name} is not listed"
        await asyncio.sleep(0.02)


async def test_a_signal_and_a_changed_file(program: tuple[subprocess.Popen[bytes], Path, str]) -> None:
    process, folder, url = program
    assert "first:latest" not in await names(url)
    (folder / ".env").write_text("NAME=first\n")  # not the file itself: only the signal tells
    config = "server: {{listen: '127.0.0.1:0'}}\nproviders: {{echo: {{}}}}\nmodels: {{{}: echo/echo}}\n"
    (folder / "config.yaml").write_text(config.format("first"))
    process.send_signal(signal.SIGHUP)
    await lists(url, "first:latest")
    another = folder / "another.yaml"
    another.write_text(config.format("second"))
    another.replace(folder / "config.yaml")  # as editors do
    await lists(url, "second:latest")
