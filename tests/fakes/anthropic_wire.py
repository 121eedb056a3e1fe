"""A fake service that speaks Anthropic's wire: messages and models.

Knows: what the real service sends and what it refuses (providers.md 2.4, 2.6, 6.2, 10; the texts of its refusals are
its own). Must not know: the gateway.

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

Stricter than the real one in one thing: turns must alternate, where that one joins them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from fakes.openai_wire import KEY
from fakes.script import Frame, Refusal, Script, Seen, Tokens, Upstream, dumps

VERSIONS = ("2023-06-01", "2026-10-21")
SAMPLING = ("temperature", "top_p", "top_k")
PARAMETERS = frozenset(
    {"model", "messages", "max_tokens", "system", "stop_sequences", "tools", "tool_choice", "thinking", "output_config"}
    | {"stream", "metadata", "service_tier", "speed", "cache_control", "container", "inference_geo", "diagnostics"}
    | {"user_profile_id", "workspace_id"}
)
TOOL_FIELDS = frozenset({"name", "description", "input_schema", "cache_control", "strict", "type"})
IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
BLOCKS = {
    "user": {"text", "image", "tool_result", "document"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
}
TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 409: "conflict_error", 413: "request_too_large", 429: "rate_limit_error",
    504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
# Keywords that the grammar of schemas does not hold.
UNHELD = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems"}
    | {"uniqueItems", "pattern", "oneOf", "not", "if", "patternProperties", "minProperties", "maxProperties"}
)


class FakeAnthropic(Upstream):
    """`models`: entries of its catalogue, or their ids; `page`: how many a page has at most. A model without a script
    is answered 404. `wants_thoughts`: while the model thinks, a turn with calls must bring all its thoughts back as
    they were. `redacts`: a thought that nobody may read goes before the others.

    Of a script's `rejects`, names are parameters; "thinking.disabled" (any type), "tool_choice.any" (any type),
    "prefill" and "effort.max" (any level) are what some models refuse."""

    whole_error_status = 500

    def __init__(self, models: tuple[str | dict[str, Any], ...] = (), page: int = 1000) -> None:
        super().__init__()
        self.models = models
        self.page = page
        self.wants_thoughts = False
        self.redacts = False
        self._thoughts: dict[str, list[dict[str, Any]]] = {}  # id of a call -> the thoughts before it
        self.listing: Any = None  # a recorded answer to be given instead

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/messages", self.messages)
        app.router.add_get("/v1/models", self.list_models)

    def error_body(self, refusal: Refusal) -> Any:
        known = refusal.type in TYPES.values() and (refusal.status == 400 or TYPES.get(refusal.status) == refusal.type)
        type_ = refusal.type if known else TYPES.get(refusal.status, "api_error")
        error: dict[str, Any] = {"type": type_, "message": refusal.message}
        if refusal.code is not None:
            error["details"] = {"error_code": refusal.code}
        return {"type": "error", "error": error, "request_id": "req_fake"}

    def error_frame(self, error: Any) -> bytes:
        error = {**error, "error": {**error["error"], "type": "api_error"}}
        return b"event: error\ndata: " + dumps(error) + b"\n\n"

    def malformed_frame(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"te\n\n'

    # -- handlers ----------------------------------------------------------------------------------------------------
    async def messages(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            check_head(seen)
            body = judged(seen)
            script = self.script_for(body["model"])
            if script is None:
                raise Refusal(f"model: {body['model']}", status=404, type="not_found_error")
            check_body(body, seen.headers["anthropic-version"], script.rejects)
            if self.wants_thoughts:
                check_thoughts(body, self._thoughts)
        except Refusal as refusal:
            return self.refused(refusal, {"request-id": "req_fake"})
        blocks = list(blocks_of(script, body, self.redacts))
        whole = whole_of(script, body, blocks)
        thoughts = [block for block in whole["content"] if block["type"] in THOUGHTS]
        self._thoughts |= {block["id"]: thoughts for block in whole["content"] if block["type"] == "tool_use"}
        frames = list(frames_of(script, body, blocks)) if body.get("stream") else None
        content_type = "text/event-stream; charset=utf-8" if body.get("stream") else "application/json"
        return await self.perform(request, seen, script, frames, dumps(whole), content_type)

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            check_head(seen)
        except Refusal as refusal:
            return self.refused(refusal)
        if self.listing is not None:
            return web.json_response(self.listing)
        entries = [model_item(entry) if isinstance(entry, str) else entry for entry in self.models]
        after = request.query.get("after_id")
        start = next((at + 1 for at, entry in enumerate(entries) if entry["id"] == after), 0)
        size = min(int(request.query.get("limit", 20)), self.page)
        page = entries[start : start + size]
        ids = [entry["id"] for entry in page]
        more = start + size < len(entries)
        last = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
        return web.json_response({"data": page, "has_more": more, **last})


def model_item(name: str) -> dict[str, Any]:
    """What the catalogue says of a model that can do everything."""
    yes = {"supported": True}
    types = dict.fromkeys(("adaptive", "disabled"), yes) | {"enabled": {"supported": False}}
    return {
        "type": "model",
        "id": name,
        "display_name": name.title(),
        "created_at": "2026-10-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "retires_at": None,
        "capabilities": {"image_input": yes, "structured_outputs": yes, "thinking": {**yes, "types": types}},
    }


# -- what the real service refuses -----------------------------------------------------------------------------------
def check_head(seen: Seen) -> None:
    if KEY not in (seen.headers.get("authorization", "").removeprefix("Bearer "), seen.headers.get("x-api-key")):
        raise Refusal("invalid x-api-key", status=401, type="authentication_error")
    version = seen.headers.get("anthropic-version")
    if version is None:
        raise Refusal("anthropic-version: header is required")
    if version not in VERSIONS:
        raise Refusal(f'anthropic-version: "{version}" is not a valid version')


def judged(seen: Seen) -> dict[str, Any]:
    try:
        body = seen.json
    except ValueError:
        raise Refusal("The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refusal("Input should be an object")
    for name, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if name not in body:
            raise Refusal(f"{name}: Field required")
        if not isinstance(body[name], kind):
            raise Refusal(f"{name}: Input should be a valid {kind.__name__}")
    return body


def check_body(body: dict[str, Any], version: str, rejects: frozenset[str]) -> None:
    """Raises Refusal as /v1/messages would."""
    known = PARAMETERS | (frozenset(SAMPLING) if version == VERSIONS[0] else frozenset())
    for name in body:
        if name not in known or name in rejects:
            raise Refusal(f"{name}: Extra inputs are not permitted")
    if body["max_tokens"] < 1:
        raise Refusal("max_tokens: Input should be greater than or equal to 1")
    check_sampling(body)
    check_thinking(body, rejects)
    check_tools(body, rejects)
    check_output(body.get("output_config") or {}, rejects)
    check_system(body.get("system"))
    check_messages(body["messages"], rejects)
    marks = dumps(body).count(b'"cache_control"')
    if marks > 4:
        raise Refusal(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")


def check_sampling(body: dict[str, Any]) -> None:
    temperature = body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 1:
        raise Refusal("temperature: range: 0..1")
    if temperature is not None and body.get("top_p") is not None:
        raise Refusal("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    for stop in body.get("stop_sequences") or []:
        if not isinstance(stop, str) or not stop.strip():
            raise Refusal("stop_sequences: each stop sequence must contain non-whitespace")


def check_thinking(body: dict[str, Any], rejects: frozenset[str]) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type")
    fields = {
        "adaptive": {"display"},
        "enabled": {"budget_tokens", "display"},
        "disabled": set(),
        "between_tools": set(),
    }
    if kind not in fields:
        raise Refusal(f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if f"thinking.{kind}" in rejects:
        raise Refusal(f'"thinking.type.{kind}" is not supported for this model.')
    for name in thinking.keys() - {"type"} - fields[kind]:
        raise Refusal(f"thinking.{kind}.{name}: Extra inputs are not permitted")
    if thinking.get("display") not in (None, "summarized", "omitted"):
        raise Refusal(f"thinking.{kind}.display: Input should be 'summarized' or 'omitted'")
    if kind != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < 1024:
        raise Refusal("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= body["max_tokens"]:
        raise Refusal("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature", 1) != 1:
        raise Refusal("`temperature` may only be set to 1 when thinking is enabled.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise Refusal("Thinking may not be enabled when tool_choice forces tool use.")


def check_tools(body: dict[str, Any], rejects: frozenset[str]) -> None:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if choice is not None:
        if not tools:
            raise Refusal("tool_choice may only be specified while providing tools.")
        if choice.get("type") not in ("auto", "any", "tool", "none"):
            raise Refusal("tool_choice: Input tag does not match any of the expected tags")
        if f"tool_choice.{choice['type']}" in rejects:
            raise Refusal("tool_choice: forcing tool use is not supported for this model.")
        if choice["type"] == "tool" and choice.get("name") not in {tool["name"] for tool in tools}:
            raise Refusal(f"Tool '{choice.get('name')}' not found in provided tools")
    for at, tool in enumerate(tools or []):
        for name in tool.keys() - TOOL_FIELDS:
            raise Refusal(f"tools.{at}.custom.{name}: Extra inputs are not permitted")
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool.get("name") or ""):
            raise Refusal(f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if (tool.get("input_schema") or {}).get("type") != "object":
            raise Refusal(f"tools.{at}.custom.input_schema.type: Input should be 'object'")
    if len({tool["name"] for tool in tools or []}) < len(tools or []):
        raise Refusal("tools: Tool names must be unique.")


def check_output(output: dict[str, Any], rejects: frozenset[str]) -> None:
    for name in output.keys() - {"effort", "format"}:
        raise Refusal(f"output_config.{name}: Extra inputs are not permitted")
    effort = output.get("effort")
    if effort is not None and (
        effort not in ("low", "medium", "high", "xhigh", "max") or f"effort.{effort}" in rejects
    ):
        taken = [word for word in ("low", "medium", "high", "xhigh", "max") if f"effort.{word}" not in rejects]
        raise Refusal(f"output_config.effort: '{effort}' is not supported. Supported values: {', '.join(taken)}.")
    wanted = output.get("format")
    if wanted is not None:
        if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
            raise Refusal("output_config.format.schema: Field required")
        check_schema(wanted["schema"])


def check_schema(schema: Any) -> None:
    """The grammar of answers: every object closed, no limits, no free values."""
    where = "output_config.format.schema"
    if not isinstance(schema, dict) or not schema.keys() & {"type", "enum", "const", "anyOf", "allOf", "$ref"}:
        raise Refusal(f"{where}: Schema type is required")
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise Refusal(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    for name in schema.keys() & UNHELD:
        raise Refusal(f"{where}: For '{schema.get('type')}' type, property '{name}' is not supported")
    for name in ("properties", "$defs", "definitions"):
        for inner in (schema.get(name) or {}).values():
            check_schema(inner)
    for inner in [*(schema.get("anyOf") or []), *(schema.get("allOf") or [])]:
        check_schema(inner)
    if "items" in schema:
        check_schema(schema["items"])


def check_system(system: Any) -> None:
    for block in [{"type": "text", "text": system}] if isinstance(system, str) else system or []:
        if block.get("type") != "text" or not block.get("text", "").strip():
            raise Refusal("system: text content blocks must be non-empty")


def check_messages(messages: list[Any], rejects: frozenset[str]) -> None:
    """Roles in alternation, and results right after their calls."""
    if not messages:
        raise Refusal("messages: at least one message is required")
    if messages[0].get("role") != "user":
        raise Refusal('messages: first message must use the "user" role')
    waiting: list[str] = []
    before = ""
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in BLOCKS or message.keys() != {"role", "content"}:
            raise Refusal(f"messages.{at}.role: Input should be 'user' or 'assistant'")
        if role == before:
            raise Refusal(f'messages: roles must alternate, but found multiple "{role}" roles in a row')
        before = role
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks:
            raise Refusal(f"messages.{at}: all messages must have non-empty content")
        for place, block in enumerate(blocks):
            check_block(block, role, f"messages.{at}.content.{place}")
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        for unknown in set(results) - set(waiting):
            raise Refusal(f"messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {unknown}.")
        if set(waiting) - set(results) or [block["type"] for block in blocks[: len(results)]] != ["tool_result"] * len(
            results
        ):
            raise unanswered(waiting, at)
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(waiting)) < len(waiting):
            raise Refusal(f"messages.{at}: `tool_use` ids must be unique")
    if waiting:
        raise unanswered(waiting, len(messages))
    if before == "assistant":
        if "prefill" in rejects:
            raise Refusal("This model does not support assistant message prefill. It must end with a user message.")
        if blocks[-1]["type"] == "text" and blocks[-1]["text"] != blocks[-1]["text"].rstrip():
            raise Refusal("messages: final assistant content cannot end with trailing whitespace")


def unanswered(waiting: list[str], at: int) -> Refusal:
    return Refusal(
        f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(waiting)}. Each `tool_use` block must have a corresponding `tool_result` block in the next one."
    )


def check_block(block: Any, role: str, where: str) -> None:
    kind = block.get("type")
    if kind not in BLOCKS[role]:
        raise Refusal(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "text" and not block["text"].strip():
        raise Refusal("messages: text content blocks must contain non-whitespace text")
    if kind == "image":
        check_image(block.get("source") or {}, f"{where}.image.source")
    if kind == "thinking" and block.get("signature") != signature_of(block.get("thinking", "")):
        raise Refusal(f"{where}: Invalid `signature` in `thinking` block")
    if kind == "redacted_thinking" and block.get("data") != REDACTED:
        raise Refusal(f"{where}: Invalid `data` in `redacted_thinking` block")
    if kind in ("tool_use", "tool_result"):
        given = block.get("id" if kind == "tool_use" else "tool_use_id")
        if not isinstance(given, str) or not re.fullmatch(r"[a-zA-Z0-9_-]+", given):
            raise Refusal(f"{where}.{kind}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if kind == "tool_use" and not isinstance(block.get("input"), dict):
        raise Refusal(f"{where}.tool_use.input: Input should be a valid dictionary")
    if kind == "tool_result":
        content = block.get("content", "")
        for part in [] if isinstance(content, str) else content:
            if part.get("type") not in ("text", "image"):
                raise Refusal(f"{where}.tool_result.content: Input tag '{part.get('type')}' does not match")
            check_block(part, "user", where)


def check_image(source: dict[str, Any], where: str) -> None:
    if source.get("type") == "url":
        if not re.match(r"https?://", source.get("url") or ""):
            raise Refusal(f"{where}.url: Only HTTP and HTTPS URLs are supported.")
        return
    if source.get("type") != "base64" or source.get("media_type") not in IMAGES:
        raise Refusal(f"{where}.base64.media_type: Input should be one of {', '.join(map(repr, IMAGES))}")
    try:
        data = base64.b64decode(source.get("data") or "", validate=True)
    except ValueError:
        raise Refusal(f"{where}.base64.data: invalid base64 data") from None
    if not data.startswith(IMAGES[source["media_type"]]):
        raise Refusal(
            f"{where}.base64: The image was specified using the {source['media_type']} media type, but is not"
        )


def check_thoughts(body: dict[str, Any], given: dict[str, list[dict[str, Any]]]) -> None:
    """While a model thinks, the turn whose calls are being answered begins with its thoughts, as they were given."""
    if not thinks(body):
        return
    for at in range(len(body["messages"]) - 1, -1, -1):
        message = body["messages"][at]
        if message["role"] != "assistant":
            continue
        content = message["content"]
        blocks = [{"type": "text"}] if isinstance(content, str) else content
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if calls and blocks[0]["type"] not in THOUGHTS:
            raise Refusal(
                f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                f"`{blocks[0]['type']}`. When `thinking` is enabled, a final `assistant` message must start with a "
                "thinking block."
            )
        thoughts = [block for block in blocks if block["type"] in THOUGHTS]
        if any(given.get(call, thoughts) != thoughts for call in calls):
            raise Refusal(
                f"messages.{at}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be "
                "modified. These blocks must remain as they were in the original response."
            )
        return


# -- what the real service sends -------------------------------------------------------------------------------------
REDACTED = "EqkECkYIBxgCKkfake"
THOUGHTS = ("thinking", "redacted_thinking")
Blocks = list[tuple[dict[str, Any], list[dict[str, Any]]]]


def signature_of(thought: str) -> str:
    return "Ev" + base64.b64encode(hashlib.sha256(thought.encode()).digest()).decode()


def thinks(body: dict[str, Any]) -> bool:
    return (body.get("thinking") or {}).get("type") in ("adaptive", "enabled")


def shows_thoughts(body: dict[str, Any]) -> bool:
    """The newer way of thinking keeps its thoughts to itself unless it is asked to show them."""
    thinking = body["thinking"]
    return bool(thinking.get("display", "summarized" if thinking["type"] == "enabled" else "omitted") == "summarized")


def blocks_of(
    script: Script, body: dict[str, Any], redacts: bool
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each block of the answer: how it starts, and its deltas."""
    if script.thinking and thinks(body):
        if redacts:
            yield {"type": "redacted_thinking", "data": REDACTED}, []
        pieces = script.thinking if shows_thoughts(body) else ()
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
        signed = {"type": "signature_delta", "signature": signature_of("".join(pieces))}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
    if script.text:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in script.text]
    for at, call in enumerate(script.calls):
        start = {"type": "tool_use", "id": call.id or f"toolu_fake{at}", "name": call.name, "input": {}}
        pieces = ("", *(piece for piece in call.pieces if piece != "{}"))
        yield start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def prompt_counts(tokens: Tokens | None) -> dict[str, Any]:
    if tokens is None:
        return {}
    cached = tokens.cached or 0
    return {
        "input_tokens": tokens.prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }


def answer_counts(tokens: Tokens | None) -> dict[str, Any]:
    if tokens is None:
        return {}
    counts: dict[str, Any] = {"output_tokens": tokens.completion}
    if tokens.reasoning is not None:
        counts["output_tokens_details"] = {"thinking_tokens": tokens.reasoning}
    return counts


def ending_of(script: Script) -> dict[str, Any]:
    reason = {"length": "max_tokens", "content_filter": "refusal"}.get(script.reason, script.reason)
    if reason == "stop":
        reason = "refusal" if script.refusal else "tool_use" if script.calls else "end_turn"
    details = {"type": "refusal", "category": None, "explanation": "".join(script.refusal)} if script.refusal else None
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": details}


def message_of(script: Script, body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "msg_01fake", "type": "message", "role": "assistant", "model": body["model"], "content": []}


def event(name: str, **fields: Any) -> bytes:
    return f"event: {name}\n".encode() + b"data: " + dumps({"type": name, **fields}) + b"\n\n"


def frames_of(script: Script, body: dict[str, Any], blocks: Blocks) -> Iterator[Frame]:
    first = {"stop_reason": None, "stop_sequence": None, "usage": {**prompt_counts(script.usage), "output_tokens": 1}}
    if script.usage is None:
        first["usage"] = {}
    yield Frame(event("message_start", message={**message_of(script, body), **first}))
    for index, (start, deltas) in enumerate(blocks):
        named = start["type"] == "tool_use"
        yield Frame(event("content_block_start", index=index, content_block=start), content=named)
        if index == 0:
            yield Frame(event("ping"))
        for delta in deltas:
            shown = any(delta.get(name) for name in ("text", "thinking", "partial_json"))
            yield Frame(event("content_block_delta", index=index, delta=delta), content=shown)
        yield Frame(event("content_block_stop", index=index))
    usage = {**prompt_counts(script.usage), **answer_counts(script.usage)}
    yield Frame(event("message_delta", delta=ending_of(script), usage=usage))
    if script.done:
        yield Frame(event("message_stop"))


def whole_of(script: Script, body: dict[str, Any], blocks: Blocks) -> dict[str, Any]:
    content = []
    for start, deltas in blocks:
        block = dict(start)
        if block["type"] == "text":
            block["text"] = "".join(script.text)
        elif block["type"] == "thinking":
            block["thinking"] = "".join(delta.get("thinking", "") for delta in deltas)
            block["signature"] = deltas[-1]["signature"]
        content.append(block)
    inputs = iter(script.calls)
    for block in content:
        if block["type"] == "tool_use":
            block["input"] = next(inputs).arguments
    usage = {**prompt_counts(script.usage), **answer_counts(script.usage)}
    return {**message_of(script, body), "content": content, **ending_of(script), "usage": usage}
