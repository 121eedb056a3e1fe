"""A gateway to be hurt: in this process, with upstreams that take anything, and a check after every blow.

Knows: how requests are thrown at it, raw and many at once, and what must hold afterwards. Must not know: which
requests.

    with laboratory(folder) as lab:
        lab.throw(requests)      # judged one by one; then nothing may be logged, and /api/version must answer
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from fakes.lenient import LenientOllama, LenientOpenAI
from gateway import Gateway, alias, ollama_provider, openai_provider, running
from golden import Answer, answer_of
from junk import Request, judge
from watch import Watch, watching

T = TypeVar("T")

GUARD = 30.0  # seconds after which a test gives up waiting for what must come
SHORT = 0.05  # seconds without a further byte, after which our side is closed
AT_ONCE = 16
SERVER_ERROR = re.compile(rb"^HTTP/1\.[01] 5(?!01)", re.M)
MODELS = ("wire", "real", "own")  # public names: an OpenAI-wire provider, a real Ollama, the echo model


@dataclass
class Lab:
    """`run` brings a test's coroutine into the gateway's loop."""

    gateway: Gateway
    watch: Watch
    run: Callable[[Awaitable[Any]], Any]

    @property
    def port(self) -> int:
        return int(self.gateway.url.rpartition(":")[2])

    def throw(self, requests: Iterable[Request]) -> list[Answer]:
        """Raises AssertionError for the first answer that is none."""
        return self.run(self.thrown(list(requests)))

    async def thrown(self, requests: list[Request]) -> list[Answer]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(request: Request) -> Answer:
            async with gate:
                return await self.ask(request)

        answers = await asyncio.gather(*map(one, requests))
        await self.check(requests[0] if len(requests) == 1 else f"{len(requests)} requests")
        return answers

    async def ask(self, request: Request) -> Answer:
        try:
            answer = await self.raw(request.wire, request.method)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            raise AssertionError(f"{request}\n-> {error!r}") from None
        assert answer is not None, f"{request}\n-> no answer"
        try:
            judge(request, answer)
        except AssertionError:
            self.watch.assert_quiet(request)
            raise
        return answer

    async def raw(self, wire: bytes, method: str = "POST") -> Answer | None:
        """Bytes as they are -> what comes back; None when the connection is closed without a word."""
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(GUARD):
                writer.write(wire)
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError as error:
                    if error.partial:
                        raise
                    return None
                return answer_of(method, head, await reader.read())
        finally:
            writer.transport.abort()

    def survive(self, wires: Iterable[bytes]) -> None:
        """Bytes that may be no request, or several. Raises AssertionError for a 5xx, or when the gateway keeps the
        connection although our side has said that no more will come."""
        self.run(self._survived(list(wires)))

    async def _survived(self, wires: list[bytes]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(wire: bytes) -> None:
            async with gate:
                answer = await self._all_of(wire)
            assert SERVER_ERROR.search(answer) is None, f"{wire[:400]!r} -> {answer[:400]!r}"

        await asyncio.gather(*map(one, wires))
        await self.check(wires[0][:400] if len(wires) == 1 else f"{len(wires)} times bytes")

    async def _all_of(self, wire: bytes) -> bytes:
        """What comes back until the gateway closes; after a short while our side is closed, for the gateway may be
        waiting for more."""
        reader, writer = await self.connect()
        answer = b""
        try:
            async with asyncio.timeout(GUARD):
                writer.write(wire)
                try:
                    async with asyncio.timeout(SHORT):
                        while piece := await reader.read(2**16):
                            answer += piece
                        return answer
                except TimeoutError:
                    writer.write_eof()
                return answer + await reader.read()
        except ConnectionError:
            return answer
        except TimeoutError:
            raise AssertionError(f"{wire[:400]!r} -> {answer[:400]!r} and then nothing") from None
        finally:
            writer.transport.abort()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)

    async def check(self, after: object) -> None:
        """The gateway answers, and has logged no bug."""
        answer = await self.raw(Request("GET", "/api/version").wire, "GET")
        assert answer is not None and answer.status == 200, f"dead after {after}"
        self.watch.assert_quiet(after)


def configuration(openai_url: str, ollama_url: str) -> dict[str, Any]:
    return {
        "providers": {"wire": openai_provider(openai_url), "real": ollama_provider(ollama_url), "echo": {}},
        "models": {
            "wire": alias("wire", "up"),
            "real": alias("real", "up"),
            "own": alias("echo", "echo"),
            "vectors": alias("wire", "up", capabilities=["embedding"]),
        },
        "timeouts": {"first_byte": "20s", "first_token": "20s", "idle": "20s", "total": "30s"},
    }


@contextlib.contextmanager
def paced(paces: Mapping[str, float]) -> Iterator[None]:
    """Gateways that start inside have these limits (WebSettings)."""
    from ollama_bridge import engine

    with mock.patch.object(engine, "WebSettings", partial(engine.WebSettings, **paces)):
        yield


@contextlib.contextmanager
def laboratory(folder: Path, paces: Mapping[str, float] | None = None, **parts: Any) -> Iterator[Lab]:
    """`paces` are limits of the web layer that no configuration changes (WebSettings), made short here; `parts` stand
    in for parts of the configuration."""
    with watching() as watch, asyncio.Runner() as runner, paced(paces or {}):
        exit_stack = contextlib.AsyncExitStack()

        async def opened() -> Gateway:
            wire = await exit_stack.enter_async_context(LenientOpenAI())
            real = await exit_stack.enter_async_context(LenientOllama())
            config = {**configuration(wire.url, real.url), **parts}
            return await exit_stack.enter_async_context(running(folder, config))

        try:
            yield Lab(runner.run(opened()), watch, runner.run)
        finally:
            runner.run(exit_stack.aclose())
        watch.assert_quiet("closing")
