"""Three gateways to compare with: the least the job can cost, and what it costs when written the obvious way.

    python bench/references.py floor|translate|typed PORT UPSTREAM

    floor       an aiohttp server over an aiohttp session, bytes copied as they are read: the least for anything on
                aiohttp. Passes on whatever path is asked, so its streams are those of any wire
    translate   the same with SSE made NDJSON by hand, no SDK, no checks: the least for /api/chat
    typed       the openai SDK with its defaults, one typed object and one write a chunk: how it is usually written

The other two answer POST /api/chat and POST /v1/chat/completions alike. They do nothing but what is measured: no error
mapping, no routing, no tools.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from loops import new_event_loop

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Text(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Text | None = None
    message: Text | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class Frame(msgspec.Struct):
    """A chunk, or a whole answer: the fields that a translation needs."""

    choices: list[Choice]
    usage: Usage | None = None


def open_session() -> aiohttp.ClientSession:
    # aiohttp's own limit is 100 connections and 5 minutes: both would be felt as waiting, not as work.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=75),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=120),
        headers={"Authorization": "Bearer bench", "Content-Type": "application/json"},
    )


def timestamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def closing_line(model: str, text: str, reason: str, usage: Any) -> bytes:
    """The NDJSON object that ends an answer, or is all of it."""
    line = {
        "model": model,
        "created_at": timestamp(),
        "message": {"role": "assistant", "content": text},
        "done": True,
        "done_reason": reason,
        "total_duration": 1,
        "load_duration": 0,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": 0,
        "eval_count": usage.completion_tokens,
        "eval_duration": 1,
    }
    return json.dumps(line).encode() + b"\n"


async def floor(upstream: str) -> Handler:
    session = open_session()

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with session.post(f"{upstream}{request.path_qs}", data=body) as answer:
            if answer.content_length is not None:
                return web.Response(body=await answer.read(), content_type=answer.content_type)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            while part := await answer.content.readany():
                await response.write(part)
            await response.write_eof()
            return response

    return handle


async def translate(upstream: str) -> Handler:
    session = open_session()
    decode = msgspec.json.Decoder(Frame).decode
    encode = msgspec.json.Encoder().encode

    async def handle(request: web.Request) -> web.StreamResponse:
        asked = msgspec.json.decode(await request.read())
        stream = asked.get("stream", True)
        outgoing = {"model": asked["model"], "messages": asked["messages"], "stream": stream}
        if stream:
            outgoing["stream_options"] = {"include_usage": True}
        async with session.post(f"{upstream}/v1/chat/completions", data=encode(outgoing)) as answer:
            if not stream:
                frame = decode(await answer.read())
                choice = frame.choices[0]
                text = choice.message.content if choice.message else None
                line = closing_line(asked["model"], text or "", choice.finish_reason or "stop", frame.usage)
                return web.Response(body=line, content_type="application/json")
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            opening = b'{"model":' + encode(asked["model"]) + b',"created_at":"'
            reason, usage, rest = "stop", None, b""
            while data := await answer.content.readany():
                *lines, rest = (rest + data).split(b"\n")
                prefix = opening + timestamp().encode() + b'","message":{"role":"assistant","content":'
                out = bytearray()
                for line in lines:
                    if not line.startswith(b"data: {"):
                        continue
                    frame = decode(line[6:])
                    usage = frame.usage or usage
                    for choice in frame.choices:
                        reason = choice.finish_reason or reason
                        if choice.delta and choice.delta.content:
                            out += prefix + encode(choice.delta.content) + b'},"done":false}\n'
                if out:
                    await response.write(bytes(out))
            await response.write(closing_line(asked["model"], "", reason, usage))
            await response.write_eof()
            return response

    return handle


async def typed(upstream: str) -> Handler:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="bench", base_url=f"{upstream}/v1")

    async def handle(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        model, messages = asked["model"], asked["messages"]
        if not asked.get("stream", True):
            completion = await client.chat.completions.create(model=model, messages=messages)
            first = completion.choices[0]
            line = closing_line(model, first.message.content or "", first.finish_reason, completion.usage)
            return web.Response(body=line, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        reason, usage = "stop", None
        async for chunk in await client.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options={"include_usage": True}
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                if choice.delta.content:
                    message = {"role": "assistant", "content": choice.delta.content}
                    fields = {"model": model, "created_at": timestamp(), "message": message, "done": False}
                    await response.write(json.dumps(fields).encode() + b"\n")
        await response.write(closing_line(model, "", reason, usage))
        await response.write_eof()
        return response

    return handle


KINDS: dict[str, Callable[[str], Awaitable[Handler]]] = {"floor": floor, "translate": translate, "typed": typed}


async def serve(kind: str, port: int, upstream: str) -> None:
    app = web.Application(client_max_size=64 << 20)
    handler = await KINDS[kind](upstream)
    for path in ("/api/chat", "/v1/chat/completions", *(("/{path:.*}",) if kind == "floor" else ())):
        app.router.add_post(path, handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))


if __name__ == "__main__":
    main()
