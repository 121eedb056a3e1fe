"""Fakes that take whatever is JSON, as some services do: what a gateway lets through then comes to a good answer.

Knows: the wires beside it. Must not know: the gateway.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from fakes import ollama_wire, openai_wire
from fakes.script import Refusal, Script, Seen, dumps

ANSWER = Script(text=("It is ", "dark."), thinking=("Hm.",))


def understood(seen: Seen) -> dict[str, Any]:
    """The body, as far as an answer depends on it. Raises Refusal for what is no JSON object."""
    try:
        given = json.loads(seen.body)
    except (ValueError, RecursionError):
        raise Refusal("We could not parse the JSON body of your request.") from None
    if not isinstance(given, dict):
        raise Refusal("The body is not an object.")
    options = given.get("stream_options")
    return {
        "model": str(given.get("model")),
        "stream": given.get("stream") is True,
        "stream_options": options if isinstance(options, dict) else {},
    }


class LenientOpenAI(openai_wire.FakeOpenAI):
    """Nothing is kept of what was seen."""

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/v1/models", self.list_models)
        app.router.add_post("/v1/{what:.*}", self.take)

    async def take(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        self.seen.clear()
        try:
            body = understood(seen)
        except Refusal as refusal:
            return self.refused(refusal)
        kind = openai_wire.content_type(body)
        if request.match_info["what"] == "embeddings":
            answer = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]}
            return await self.perform(request, seen, ANSWER, None, dumps({**answer, "model": body["model"]}), kind)
        frames, whole = openai_wire.chat_frames, openai_wire.chat_whole
        if request.match_info["what"] == "completions":
            frames, whole = openai_wire.text_frames, openai_wire.text_whole
        parts = list(frames(ANSWER, body)) if body["stream"] else None
        return await self.perform(request, seen, ANSWER, parts, dumps(whole(ANSWER, body)), kind)


class LenientOllama(ollama_wire.FakeOllama):
    """Nothing is kept of what was seen."""

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/api/tags", self.list_models)
        app.router.add_get("/api/ps", self.ps)
        app.router.add_post("/api/{what:.*}", self.take)

    async def take(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        self.seen.clear()
        try:
            body = understood(seen)
            given = json.loads(seen.body)
        except Refusal as refusal:
            return self.refused(refusal)
        what = request.match_info["what"]
        streams = given.get("stream", True) is not False and bool(given.get("messages") or given.get("prompt"))
        kind = "application/json; charset=utf-8"
        if what == "show":
            return web.json_response({"details": ollama_wire.details(), "model_info": {}, "capabilities": []})
        if what in ("embed", "embeddings"):
            answer = {"model": body["model"], "embeddings": [[0.5, 0.25]]} if what == "embed" else {"embedding": [0.5]}
            return await self.perform(request, seen, ANSWER, None, dumps(answer), kind)
        parts = list(ollama_wire.run_frames(what, ANSWER, body["model"])) if streams else None
        whole = dumps(ollama_wire.run_whole(what, ANSWER, body["model"]))
        return await self.perform(request, seen, ANSWER, parts, whole, "application/x-ndjson" if streams else kind)
