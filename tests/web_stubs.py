"""The web layer alone, on a free port: its services are stand-ins that a test scripts and looks into.

Knows: the ports of the web layer. Must not know: dialects, providers, policy.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from aiohttp import web

from ollama_bridge.dialects.base import Answer, Dialect
from ollama_bridge.errors import GatewayError, model_not_found
from ollama_bridge.policy.ports import Exchange, Sink
from ollama_bridge.web.ports import Services, WebSettings
from ollama_bridge.web.server import Doors, build

JSON = "application/json; charset=utf-8"
KEY = "s3cret-key"


class StubDialect:
    """Only what the web layer asks of a dialect: errors in a shape of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def write_error(self, kind: str, error: GatewayError, stream: bool) -> Answer:
        said: Any = error.message if self.name == "ollama" else {"message": error.message, "type": "stub"}
        return Answer(error.status, JSON, json.dumps({"error": said}, separators=(",", ":")).encode())


async def echo(exchange: Exchange, sink: Sink) -> None:
    """What the pipeline was given, as an answer."""
    body, exchange.body = exchange.body, b""
    exchange.notes["X-Bridge-Target"] = "stub/echo"
    said = {"door": exchange.dialect.name, "kind": exchange.kind, "path": exchange.path, "body": body.decode("latin-1")}
    await sink.answer(Answer(200, JSON, json.dumps(said).encode()))


@dataclass
class StubPipeline:
    script: Callable[[Exchange, Sink], Awaitable[None]] = echo
    seen: list[Exchange] = field(default_factory=list)

    async def run(self, exchange: Exchange, sink: Sink) -> None:
        self.seen.append(exchange)
        await self.script(exchange, sink)

    def end(self) -> None:
        raise AssertionError("nobody has asked these requests to end")


MODEL = {
    "name": "m:latest",
    "model": "m:latest",
    "modified_at": "2026-01-01T00:00:00Z",
    "size": 1,
    "digest": "0" * 64,
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "stub",
        "families": ["stub"],
        "parameter_size": "1B",
        "quantization_level": "Q4_0",
        "context_length": 2048,
        "embedding_length": 8,
    },
    "capabilities": ["completion"],
}


class StubLibrary:
    async def tags(self) -> Answer:
        return Answer(200, JSON, json.dumps({"models": [MODEL] * 8}).encode())

    async def ps(self) -> Answer:
        return Answer(200, JSON, b'{"models":[]}')

    async def show(self, body: bytes, user_agent: str) -> Answer:
        if not body:
            raise ValueError(user_agent)  # a bug whose text quotes the client
        if body == b"nope":
            raise model_not_found("nope:latest", near=("noble", "pope"))
        return Answer(200, JSON, json.dumps({"agent": user_agent, "bytes": len(body)}).encode())

    async def openai_models(self) -> Answer:
        return Answer(200, "application/json", b'{"object":"list","data":null}\n')

    async def openai_model(self, name: str) -> Answer:
        return Answer(200, "application/json", json.dumps({"id": name}).encode())


@dataclass
class StubMetrics:
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    def exposition(self) -> tuple[bytes, str]:
        return b"# stub\n", "text/plain; version=0.0.4; charset=utf-8"

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((route, method, status))


@dataclass
class StubLog:
    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))


@dataclass
class Front:
    """A running web layer and what stands behind it. `url` has no slash at its end."""

    url: str = ""
    port: int = 0
    pipeline: StubPipeline = field(default_factory=StubPipeline)
    library: StubLibrary = field(default_factory=StubLibrary)
    metrics: StubMetrics = field(default_factory=StubMetrics)
    log: StubLog = field(default_factory=StubLog)


@asynccontextmanager
async def front(script: Callable[[Exchange, Sink], Awaitable[None]] = echo, **settings: Any) -> AsyncIterator[Front]:
    """`settings` replace those of WebSettings."""
    stubs = Front(pipeline=StubPipeline(script))
    dialects = {name: cast(Dialect, StubDialect(name)) for name in ("ollama", "openai", "plain")}
    services = Services(stubs.pipeline, stubs.library, dialects, stubs.metrics, stubs.log, dict)
    chosen = replace(WebSettings(), **settings)
    runner = web.ServerRunner(build(Doors(services, chosen), chosen))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        stubs.port = site.port
        stubs.url = f"http://127.0.0.1:{site.port}"
        yield stubs
    finally:
        await runner.cleanup()
