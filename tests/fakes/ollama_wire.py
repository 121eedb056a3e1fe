"""A fake Ollama: chat, generate, embed, embeddings, tags, show, ps, version.

Knows: what the real one sends and refuses (ollama-protocol.md 2). Must not know: the gateway.

    {"model":"tiny","created_at":"…Z","message":{"role":"assistant","content":"Hi"},"done":false}
    {"model":"tiny","created_at":"…Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",…}
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from fakes.script import Frame, Refusal, Script, Seen, Upstream, dumps, vector

CREATED = "2026-11-21T10:00:00.123456789Z"
CONTEXT = [101, 7, 9]  # what generate hands out as the conversation so far
EVERYTHING = ("completion", "tools", "vision", "thinking", "embedding")

# option -> what it must be (ollama-protocol.md 2.2)
OPTION_TYPES: dict[str, str] = {
    "temperature": "float32",
    "top_p": "float32",
    "min_p": "float32",
    "typical_p": "float32",
    "repeat_penalty": "float32",
    "presence_penalty": "float32",
    "frequency_penalty": "float32",
    "num_ctx": "integer",
    "num_predict": "integer",
    "num_keep": "integer",
    "seed": "integer",
    "top_k": "integer",
    "repeat_last_n": "integer",
    "stop": "array",
}


class FakeOllama(Upstream):
    """`models`: name -> capability words, as its tags list them. A model that has a script is there too, listed or
    not; any other is answered 404."""

    whole_error_status = 500

    def __init__(self, models: Mapping[str, tuple[str, ...]] | None = None) -> None:
        super().__init__()
        self.models = dict(models or {})
        self.tags: Any = None  # a recorded answer to be given instead
        self.shows: dict[str, Any] = {}
        self.loaded: Any = None

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/", self.root)
        app.router.add_post("/api/chat", self.chat)
        app.router.add_post("/api/generate", self.generate)
        app.router.add_post("/api/embed", self.embed)
        app.router.add_post("/api/embeddings", self.embeddings)
        app.router.add_get("/api/tags", self.list_models)
        app.router.add_post("/api/show", self.show)
        app.router.add_get("/api/ps", self.ps)
        app.router.add_get("/api/version", self.version)

    def error_body(self, refusal: Refusal) -> Any:
        return {"error": refusal.message}

    def error_frame(self, error: Any) -> bytes:
        return dumps(error) + b"\n"

    def malformed_frame(self) -> bytes:
        return b'{"model":"tiny","message":{"role":"assistant","content":"ha\n'

    # -- handlers ----------------------------------------------------------------------------------------------------
    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._run(request, "chat")

    async def generate(self, request: web.Request) -> web.StreamResponse:
        return await self._run(request, "generate")

    async def _run(self, request: web.Request, kind: str) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = judged(seen)
            script = self._script(body, "model '{}' not found")
            check_run(kind, body)
        except Refusal as refusal:
            return self.refused(refusal)
        streams = body.get("stream", True) is not False
        frames = list(run_frames(kind, script, body["model"])) if streams else None
        media = "application/x-ndjson" if streams else "application/json; charset=utf-8"
        return await self.perform(request, seen, script, frames, dumps(run_whole(kind, script, body["model"])), media)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = judged(seen)
            given = body.get("input")
            texts = [given] if isinstance(given, str) else given
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise Refusal("invalid input type")
            script = self._script(body, 'model "{}" not found, try pulling it first')
        except Refusal as refusal:
            return self.refused(refusal)
        answer = {
            "model": body["model"],
            "embeddings": [vector(text, body.get("dimensions") or 4) for text in texts],
            "total_duration": 9_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": sum(len(text.split()) for text in texts),
        }
        return await self.perform(request, seen, script, None, dumps(answer), "application/json; charset=utf-8")

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            body = judged(seen)
            script = self._script(body, 'model "{}" not found, try pulling it first')
        except Refusal as refusal:
            return self.refused(refusal)
        answer = {"embedding": vector(body.get("prompt") or "")}
        return await self.perform(request, seen, script, None, dumps(answer), "application/json; charset=utf-8")

    async def root(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="Ollama is running")

    async def version(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"version": "0.33.0"})

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        return web.json_response(self.tags or {"models": [tag(name, words) for name, words in self.models.items()]})

    async def ps(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        return web.json_response(self.loaded or {"models": []})

    async def show(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        body = seen.json
        name = body.get("model") or body.get("name") or ""
        if name in self.shows:
            return web.json_response(self.shows[name])
        words = self.models.get(name) or self.models.get(name.removesuffix(":latest"))
        if words is None:
            return self.refused(Refusal(f"model '{tagged(name)}' not found", status=404))
        return web.json_response(
            {
                "modelfile": f'# Modelfile generated by "ollama show"\n# FROM {tagged(name)}\n',
                "parameters": 'stop                           "<end>"',
                "template": "{{ .Prompt }}",
                "details": details(),
                "model_info": {"general.architecture": "fake", "fake.context_length": 8192, "fake.embedding_length": 4},
                "capabilities": list(words),
                "modified_at": "2026-11-01T10:00:00.5+01:00",
            }
        )

    def _script(self, body: dict[str, Any], missing: str) -> Script:
        if not body.get("model"):
            raise Refusal("model is required")
        script = self.script_for(body["model"])
        if script is None:
            raise Refusal(missing.format(body["model"]), status=404)
        return script


def tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "fake",
        "families": ["fake"],
        "parameter_size": "8.2B",
        "quantization_level": "Q4_K_M",
    }


def tag(name: str, words: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": tagged(name),
        "model": tagged(name),
        "modified_at": "2026-11-01T10:00:00.5+01:00",
        "size": 5_225_388_164,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": {**details(), "context_length": 8192, "embedding_length": 4},
        "capabilities": list(words),
    }


# -- what the real one refuses ---------------------------------------------------------------------------------------
def judged(seen: Seen) -> dict[str, Any]:
    if not seen.body.strip():
        raise Refusal("missing request body")
    try:
        body = seen.json
    except ValueError:
        raise Refusal("invalid character 'x' looking for beginning of value") from None
    if not isinstance(body, dict):
        raise Refusal("json: cannot unmarshal array into Go value of type api.ChatRequest")
    return body


def check_run(kind: str, body: dict[str, Any]) -> None:
    think = body.get("think")
    if think not in (None, True, False, "low", "medium", "high", "max"):
        raise Refusal(f'invalid think value: "{think}" (must be "high", "medium", "low", "max", true, or false)')
    wanted = body.get("format")
    if wanted not in (None, "", "json") and not isinstance(wanted, dict):
        raise Refusal(f'invalid format: {wanted!r}; expected "json" or a valid JSON Schema object', status=500)
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise Refusal(
            "json: cannot unmarshal array into Go struct field ChatRequest.options of type map[string]interface {}"
        )
    for name, value in options.items():
        check_option(name, value)
    if kind == "generate":
        check_images(body.get("images"))
        return
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise Refusal("json: cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message")
    for message in messages:
        if not isinstance(message.get("content", ""), str):
            raise Refusal(
                "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"
            )
        check_images(message.get("images"))
        for call in message.get("tool_calls") or []:
            if not isinstance(call["function"].get("arguments", {}), dict):
                raise Refusal("Value looks like object, but can't find closing '}' symbol")


def check_option(name: str, value: Any) -> None:
    wanted = OPTION_TYPES.get(name)
    if wanted is None or value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if wanted == "array" and not isinstance(value, list):
        raise Refusal(f'option "{name}" must be of type array', status=500)
    if wanted in ("float32", "integer") and not is_number:
        raise Refusal(f'option "{name}" must be of type {wanted}', status=500)


def check_images(images: Any) -> None:
    for image in images or []:
        try:
            base64.b64decode(image, validate=True)
        except binascii.Error:
            raise Refusal("illegal base64 data at input byte 4") from None


# -- what the real one sends -----------------------------------------------------------------------------------------
def metrics(script: Script) -> dict[str, int]:
    tokens = script.usage
    if tokens is None:
        return {}
    return {
        "total_duration": 900_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": tokens.prompt,
        "prompt_eval_duration": 200_000_000,
        "eval_count": tokens.completion,
        "eval_duration": 600_000_000,
    }


def line(kind: str, model: str, text: str, **more: Any) -> dict[str, Any]:
    head: dict[str, Any] = {"model": model, "created_at": CREATED}
    if kind == "generate":
        return {**head, "response": text, **more}
    message = {"role": "assistant", "content": text}
    for name in ("thinking", "tool_calls"):
        if name in more:
            message[name] = more.pop(name)
    return {**head, "message": message, **more}


def tool_call(script: Script, index: int) -> dict[str, Any]:
    call = script.calls[index]
    function = {"index": index, "name": call.name, "arguments": call.arguments}
    return {"id": call.id or f"call_fake{index:04d}", "function": function}


def last_words(kind: str, script: Script, logprobs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The end of the last object: logprobs stand before the metrics in chat and after them in generate."""
    words = {"logprobs": logprobs} if logprobs else {}
    if kind == "generate":
        return {"done": True, "done_reason": script.reason, "context": CONTEXT, **metrics(script), **words}
    return {"done": True, "done_reason": script.reason, **words, **metrics(script)}


def run_frames(kind: str, script: Script, model: str) -> Iterator[Frame]:
    for piece in script.thinking:
        yield Frame(dumps(line(kind, model, "", thinking=piece, done=False)) + b"\n", content=True)
    for at, piece in enumerate((*script.text, *script.refusal)):
        logprobs = {"logprobs": [script.logprobs[at]]} if script.logprobs else {}
        yield Frame(dumps(line(kind, model, piece, done=False, **logprobs)) + b"\n", content=True)
    for index in range(len(script.calls)):
        yield Frame(
            dumps(line(kind, model, "", tool_calls=[tool_call(script, index)], done=False)) + b"\n", content=True
        )
    if script.done:
        yield Frame(dumps(line(kind, model, "", **last_words(kind, script))) + b"\n")


def run_whole(kind: str, script: Script, model: str) -> dict[str, Any]:
    more: dict[str, Any] = last_words(kind, script, list(script.logprobs))
    if script.calls:
        more = {"tool_calls": [tool_call(script, index) for index in range(len(script.calls))], **more}
    if script.thinking:
        more = {"thinking": "".join(script.thinking), **more}
    return line(kind, model, "".join((*script.text, *script.refusal)), **more)
