"""What a fake upstream shall answer, as data, and what it saw; the server under both wires.

Knows: sockets, timing by events (never by the clock), troubles in the middle of an answer. Must not know: any wire's
words (the modules beside it render a `Script` into frames), and nothing of the gateway.

    upstream.play("tiny", Script(text=("Hel", "lo"), trouble=Trouble.CUT, after=1))

answers model "tiny" with one frame, then resets the connection. Several scripts given at once are used in turn; the
last one stays.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from aiohttp import web

LOG = logging.getLogger("fakes")  # apart from what the gateway's own server has to say
Cuts = Callable[[bytes], Iterable[int]]  # where a stream is cut into separate writes


class Trouble(StrEnum):
    """What goes wrong after `Script.after` frames of content (in a whole answer: within the body); the last two before
    anything is answered."""

    ERROR = "error"  # the wire's own error object, in a stream that began with status 200
    CUT = "cut"  # connection reset
    STALL = "stall"  # silence, until the other side leaves or the fake is stopped
    MALFORMED = "malformed"  # a frame that is no JSON, then the stream goes on
    END = "end"  # a clean end of the HTTP body although the answer is not finished
    RESET = "reset"  # connection reset instead of an answer
    SILENT = "silent"  # no answer at all, until the other side leaves or the fake is stopped


@dataclass(frozen=True)
class Call:
    """A tool call; `pieces` are the parts in which a stream sends the JSON text of its arguments."""

    name: str
    pieces: tuple[str, ...] = ("{}",)
    id: str | None = None

    @property
    def arguments(self) -> Any:
        return json.loads("".join(self.pieces) or "{}")


@dataclass(frozen=True)
class Tokens:
    """`prompt` includes `cached`, `completion` includes `reasoning`."""

    prompt: int = 11
    completion: int = 7
    cached: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True)
class Script:
    """One answer. Text, thoughts and refusal come in these pieces, one frame each; `logprobs` holds one item for each
    piece of text. `status` of 400 or above answers `error` in the wire's error shape (or `body`, as it is).
    `hold`: no headers before it is set; `hold_content`: headers at once, content when it is set. `raw`: bytes to be
    sent instead of anything rendered. `cuts`: where the stream is cut into writes, instead of one frame a write.
    `thinking_field`: how this OpenAI-wire vendor calls thoughts. `rejects`: parameters refused as unsupported.
    `done`: whether the wire's last word is said ([DONE]; Ollama's line with `done`). `linger`: after the last frame the
    connection stays open without a word."""

    text: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    refusal: tuple[str, ...] = ()
    logprobs: tuple[dict[str, Any], ...] = ()
    usage: Tokens | None = Tokens()
    reason: str = "stop"
    status: int = 200
    error: str = ""
    error_type: str | None = None
    error_code: str | None = None
    error_param: str | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None
    after: int = 1
    done: bool = True
    linger: bool = False
    hold: asyncio.Event | None = None
    hold_content: asyncio.Event | None = None
    raw: bytes | None = None
    cuts: Cuts | None = None
    content_type: str | None = None
    thinking_field: str = "reasoning_content"
    rejects: frozenset[str] = frozenset()


def inside_characters(data: bytes) -> list[int]:
    """Cuts inside every character of more than one byte."""
    return [at for at, byte in enumerate(data) if byte & 0xC0 == 0x80]


def at_random(seed: str, pieces: int = 40) -> Cuts:
    """Cuts at `pieces` places drawn from the seed: the same every time."""

    def places(data: bytes) -> list[int]:
        draw = random.Random(seed)
        return sorted(draw.sample(range(1, len(data)), min(pieces, max(len(data) - 1, 0))))

    return places


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(set(places)), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


@dataclass(frozen=True)
class Frame:
    """One frame of a stream; `content`: a client could show it."""

    data: bytes
    content: bool = False


@dataclass
class Seen:
    """One request as it came in, and what became of it. `came_at`: event-loop time. `gone_at`: when the other side had
    left before the answer was over; `gone` is set at the same moment. `sent`: body bytes handed to the socket."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    came_at: float
    sent: bytearray = field(default_factory=bytearray)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    gone_at: float | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(eq=False)
class Refusal(Exception):
    """The request is not what the real service would take."""

    message: str
    status: int = 400
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None


class Upstream:
    """A server on 127.0.0.1, on a free port unless `port` is set before it starts. `seen`: every request in order.
    `client_gone`: set once somebody has left before the answer was over. A subclass renders its wire."""

    whole_error_status = 200  # of a whole answer with Trouble.ERROR; OpenRouter answers 200 (providers.md 6.4)

    def __init__(self) -> None:
        self.scripts: dict[str, list[Script]] = {}
        self.seen: list[Seen] = []
        self._came = asyncio.Event()
        self.client_gone = asyncio.Event()
        self.url = ""
        self.port = 0
        self._runner: web.AppRunner | None = None

    def play(self, model: str, *scripts: Script) -> None:
        """What this upstream answers for `model`."""
        self.scripts[model] = list(scripts)

    def about(self, model: str) -> list[Seen]:
        """The requests that named `model`."""
        return [seen for seen in self.seen if seen.body and seen.json.get("model") == model]

    async def request_about(self, model: str) -> Seen:
        """The first request that names `model`, as soon as it has come."""
        while not (found := self.about(model)):
            self._came.clear()
            await self._came.wait()
        return found[0]

    @property
    def open_connections(self) -> int:
        assert self._runner is not None and self._runner.server is not None
        return len(self._runner.server.connections)

    async def __aenter__(self) -> Upstream:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        self.routes(app)
        # Cancelled handlers are how a fake learns at once that the other side has left.
        self._runner = web.AppRunner(app, access_log=None, logger=LOG, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    # -- for the wires -----------------------------------------------------------------------------------------------
    def routes(self, app: web.Application) -> None:
        raise NotImplementedError

    def error_body(self, refusal: Refusal) -> Any:
        """The wire's error object."""
        raise NotImplementedError

    async def note(self, request: web.Request) -> Seen:
        headers = {name.lower(): value for name, value in request.headers.items()}
        came_at = asyncio.get_running_loop().time()
        seen = Seen(request.method, request.path, headers, await request.read(), came_at)
        self.seen.append(seen)
        self._came.set()
        return seen

    def script_for(self, model: str) -> Script | None:
        scripts = self.scripts.get(model)
        if not scripts:
            return None
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    def refused(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> web.Response:
        return web.json_response(self.error_body(refusal), status=refusal.status, headers=dict(headers or {}))

    async def perform(
        self,
        request: web.Request,
        seen: Seen,
        script: Script,
        frames: list[Frame] | None,
        whole: bytes,
        content_type: str,
    ) -> web.StreamResponse:
        """Answers as the script says: `frames` for a stream, `whole` if `frames` is None."""
        try:
            if script.hold is not None:
                await script.hold.wait()
            if script.trouble is Trouble.SILENT:
                await asyncio.Event().wait()
            if script.trouble is Trouble.RESET:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            if script.status >= 400:
                return self._failed(script)
            content_type = script.content_type or content_type
            response = web.StreamResponse(headers={"Content-Type": content_type, **script.headers})
            if frames is None:
                body = script.raw if script.raw is not None else self._troubled_body(script, whole)
                if script.trouble is Trouble.ERROR:
                    response.set_status(self.whole_error_status)
                response.content_length = len(body)
                steps: list[bytes | Trouble] = [body]
                if script.trouble in (Trouble.CUT, Trouble.STALL):
                    steps = [body[: len(body) // 2], script.trouble]
            else:
                steps = self._steps(script, frames)
            await response.prepare(request)
            if script.hold_content is not None:
                await script.hold_content.wait()
            for step in steps:
                if step is Trouble.CUT:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                if step is Trouble.STALL:
                    await asyncio.Event().wait()
                assert isinstance(step, bytes)
                seen.sent += step
                await response.write(step)
                # Two turns of the loop: whoever reads in this loop gets each write as a read of its own.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await response.write_eof()
            return response
        except (asyncio.CancelledError, ConnectionResetError):
            seen.gone_at = asyncio.get_running_loop().time()
            seen.gone.set()
            self.client_gone.set()
            raise

    def _failed(self, script: Script) -> web.Response:
        if script.body is not None:
            return web.Response(
                status=script.status,
                body=script.body,
                headers={"Content-Type": script.content_type or "application/json", **script.headers},
            )
        refusal = Refusal(
            script.error,
            status=script.status,
            type=script.error_type or "server_error",
            code=script.error_code,
            param=script.error_param,
        )
        return self.refused(refusal, script.headers)

    def _troubled_body(self, script: Script, whole: bytes) -> bytes:
        if script.trouble is Trouble.ERROR:
            return dumps(self.error_body(Refusal(script.error, type=script.error_type or "server_error")))
        if script.trouble in (Trouble.MALFORMED, Trouble.END):
            return whole[: len(whole) // 2]
        return whole

    def error_frame(self, error: Any) -> bytes:
        """The error object as a frame of the wire's stream."""
        raise NotImplementedError

    def malformed_frame(self) -> bytes:
        raise NotImplementedError

    def _steps(self, script: Script, frames: list[Frame]) -> list[bytes | Trouble]:
        if script.raw is not None:
            steps: list[bytes | Trouble] = [script.raw]
        else:
            steps = []
            content = 0
            coming = script.trouble
            for frame in frames:
                if coming is not None and content >= script.after:
                    steps += self._trouble(script, coming)
                    if coming is not Trouble.MALFORMED:
                        break
                    coming = None
                content += frame.content
                steps.append(frame.data)
        if script.cuts is not None:
            data = b"".join(step for step in steps if isinstance(step, bytes))
            steps = [*cut(data, script.cuts(data)), *(step for step in steps if isinstance(step, Trouble))]
        if script.linger:
            steps.append(Trouble.STALL)
        return steps

    def _trouble(self, script: Script, trouble: Trouble) -> list[bytes | Trouble]:
        if trouble is Trouble.ERROR:
            refusal = Refusal(script.error, type=script.error_type or "server_error")
            return [self.error_frame(self.error_body(refusal))]
        if trouble is Trouble.MALFORMED:
            return [self.malformed_frame()]
        return [] if trouble is Trouble.END else [trouble]


def dumps(value: Any) -> bytes:
    """Compact JSON with raw non-ASCII, as providers send it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def vector(text: str, length: int = 4) -> list[float]:
    """An embedding that depends on the text; every number is exact in 32 bits."""
    digest = random.Random(text)
    return [digest.randrange(-512, 512) / 1024 for _ in range(length)]
