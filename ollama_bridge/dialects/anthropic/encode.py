"""Values -> request bodies of the Messages wire.

Knows: how a Profile spells a request there (providers.md 2.4, 2.6, 3.1 to 3.4). Must not know: names of models,
clients, how a profile came about. The request has been fitted to the profile and its tool results paired before.

    ChatRequest(think="high", messages=[system, user], …)
        -> {"model":"claude-opus-5","max_tokens":128000,"system":"Be brief.",
            "messages":[{"role":"user","content":"Hi"}],"stream":true,
            "thinking":{"type":"adaptive","display":"summarized"},"output_config":{"effort":"high"}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...framing import dumps
from ...values import (
    Block,
    ChatRequest,
    Format,
    Media,
    Message,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from ..arguments import as_object
from ..base import Loss, Profile
from .caching import mark
from .fields import NAME, REDACTED, tool_id
from .schemas import Inexpressible, tightened

FALLBACK_OUTPUT = 4096  # tokens: what every model of this wire can write (providers.md 2.4)
SMALLEST_BUDGET = 1024  # tokens of thought
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 10_000, "high": 24_000, "xhigh": 32_000, "max": 64_000}
_USUAL_BUDGET = 10_000

_SYSTEM = ("system", "developer")
_OWN = ("temperature", "top_p", "top_k")  # the only sampling of this wire, and only under its first version
# Of the options that only local engines know, those that change what is said (providers.md 3.2).
_FELT = frozenset({"typical_p", "repeat_last_n"})
_OPENING = "(The conversation begins.)"  # the first turn is the user's
_JSON_WORDS = "Answer with JSON only: no code fence, no text before or after it."
_SCHEMA_WORDS = f"{_JSON_WORDS} It must match this JSON schema:\n"

Body = dict[str, Any]


def encode_chat(request: ChatRequest, model: str, profile: Profile) -> tuple[Body, list[Loss]]:
    losses = [Loss(name) for name in ("raw", "template", "suffix") if getattr(request, name)]
    conversation = _Conversation(profile, losses)
    for message in request.messages:
        conversation.take(message)
    body: Body = {"model": model, "max_tokens": _limit(request, profile)}
    body["messages"] = conversation.finished()
    body["stream"] = request.stream
    _write_tools(request, body, losses)
    _write_thinking(request, profile, body, losses)
    if request.format is not None:
        _write_format(request.format, body, conversation.system, losses)
    if conversation.system:
        body["system"] = "\n\n".join(conversation.system)
    _write_sampling(request, profile, body, losses)
    for name, value in request.vendor.get(NAME, {}).items():
        if name in profile.rejects:
            losses.append(Loss(name))
        else:
            body[name] = _joined(body.get(name), value)
    for name, value in profile.extra_body.items():
        body[name] = _joined(body.get(name), value)
    if profile.cache_from:
        mark(body, profile.cache_from)
    return body, losses


def _joined(given: Any, added: Any) -> Any:
    """What stands already wins, member by member."""
    if isinstance(given, dict) and isinstance(added, Mapping):
        return {**added, **given}
    return added if given is None else given


def _limit(request: ChatRequest, profile: Profile) -> int:
    """The wire demands a limit. One above the model's own means no limit, and is refused: it is lowered in silence."""
    wanted = request.sampling.max_tokens or 0
    if wanted <= 0:
        return profile.max_output or FALLBACK_OUTPUT
    return min(wanted, profile.max_output or wanted)


# -- parameters --------------------------------------------------------------------------------------------------------


def _write_tools(request: ChatRequest, body: Body, losses: list[Loss]) -> None:
    if not request.tools:
        return
    body["tools"] = [_tool(tool) for tool in request.tools]
    choice = request.tool_choice
    written: Body = {"type": "any" if choice == "required" else choice or "auto"}
    if isinstance(choice, dict):
        written = {"type": "tool", "name": choice["name"]}
    if request.parallel_tool_calls is False and choice != "none":
        written["disable_parallel_tool_use"] = True
    if written != {"type": "auto"}:
        body["tool_choice"] = written


def _tool(tool: Tool) -> Body:
    written: Body = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    written["input_schema"] = {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
    return {**tool.vendor.get(NAME, {}), **written}


def _write_thinking(request: ChatRequest, profile: Profile, body: Body, losses: list[Loss]) -> None:
    """Thoughts are only shown when they are asked for: `display`."""
    think = request.think
    if think is None:
        return
    if profile.reasoning == "none" or "think" in profile.rejects:
        if think is not profile.reasons_by_default:  # a level cannot be told either
            losses.append(Loss("think"))
        return
    adaptive = profile.reasoning in ("adaptive", "between_tools")
    if think is False:
        if profile.think_off:
            body["thinking"] = {"type": "between_tools" if profile.reasoning == "between_tools" else "disabled"}
        elif profile.reasons_by_default:
            losses.append(Loss("think", "reasoning cannot be switched off"))
    elif adaptive:
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        if isinstance(think, str):
            body["output_config"] = {"effort": think}
    elif body["max_tokens"] <= SMALLEST_BUDGET:
        losses.append(Loss("think", f"needs a limit above {SMALLEST_BUDGET} tokens"))
    else:
        # Half of the limit stays for the answer itself.
        wanted = _BUDGETS.get(think, _USUAL_BUDGET) if isinstance(think, str) else _USUAL_BUDGET
        budget = max(SMALLEST_BUDGET, min(wanted, body["max_tokens"] // 2))
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        if profile.reasoning == "budget":  # compatible servers know the type, but no display
            body["thinking"]["display"] = "summarized"


def _write_format(wanted: Format, body: Body, system: list[str], losses: list[Loss]) -> None:
    if wanted.schema is None:
        system.append(_JSON_WORDS)
        losses.append(Loss("format", "JSON is only asked for in words"))
        return
    try:
        schema, moved = tightened(wanted.schema)
    except Inexpressible as error:
        system.append(_SCHEMA_WORDS + dumps(wanted.schema).decode())
        losses.append(Loss("format", f"the schema is only asked for in words: {error}"))
        return
    if moved:
        losses.append(Loss("format", f"not held to: {', '.join(moved)}"))
    body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}


def _write_sampling(request: ChatRequest, profile: Profile, body: Body, losses: list[Loss]) -> None:
    sampling = request.sampling
    for name in _OWN:
        value = getattr(sampling, name)
        if value is None:
            continue
        if name in profile.rejects:
            losses.append(Loss(name))
        elif name == "top_p" and "temperature" in body:
            losses.append(Loss(name, "only one of temperature and top_p is taken"))
        else:
            body[name] = value
    if body.get("temperature", 0) > 1:
        losses.append(Loss("temperature", "limited to 0-1"))
        body["temperature"] = 1
    if sampling.seed is not None and sampling.seed > 0:  # Ollama's clients say "any" by 0 and -1 (providers.md 3.2)
        losses.append(Loss("seed"))
    for name in ("presence_penalty", "frequency_penalty", "min_p"):
        if getattr(sampling, name):
            losses.append(Loss(name))
    if sampling.repeat_penalty not in (None, 1):
        losses.append(Loss("repeat_penalty"))
    losses += [Loss(name) for name in sampling.extra if name in _FELT]
    if request.logprobs:
        losses.append(Loss("logprobs"))
    if request.n is not None and request.n > 1:
        losses.append(Loss("n", "one answer is translated"))
    stops = [] if "stop" in profile.rejects else (sampling.stop or [])[: profile.max_stops]
    stops = [stop for stop in stops if stop and not stop.isspace()]
    if stops:
        body["stop_sequences"] = stops
    if len(stops) < len(sampling.stop or []):
        losses.append(Loss("stop", "the target does not take all of them"))


# -- the conversation --------------------------------------------------------------------------------------------------


class _Conversation:
    """Turns of user and assistant in alternation. System messages, wherever they stand, become the one system text;
    results of tools are the user's, before what the user says in the same turn."""

    def __init__(self, profile: Profile, losses: list[Loss]) -> None:
        self.system: list[str] = []
        self._profile = profile
        self._losses = losses
        self._turns: list[tuple[str, list[Body]]] = []

    def take(self, message: Message) -> None:
        if message.role in _SYSTEM:
            self._take_system(message)
            return
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [written for block in message.blocks if (written := self._block(block)) is not None]
        if not blocks:
            return
        if self._turns and self._turns[-1][0] == role:
            self._turns[-1][1].extend(blocks)
        else:
            self._turns.append((role, blocks))

    def finished(self) -> list[Body]:
        if not self._turns or self._turns[0][0] != "user":
            self._turns.insert(0, ("user", [{"type": "text", "text": _OPENING}]))
        role, blocks = self._turns[-1]
        if role == "assistant" and blocks[-1]["type"] == "text":  # an answer begun may not end in white space
            blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}
        return [{"role": role, "content": _content(role, blocks)} for role, blocks in self._turns]

    def _take_system(self, message: Message) -> None:
        text = message.text()
        if text.strip():
            self.system.append(text)
        if any(not isinstance(block, Text) for block in message.blocks):
            self._losses.append(Loss("system content", "only text can be said by the system"))

    def _block(self, block: Block) -> Body | None:
        if isinstance(block, Text):
            # Text without a word in it is refused.
            return {"type": "text", "text": block.text} if block.text.strip() else None
        if isinstance(block, Media):
            return self._media(block)
        if isinstance(block, Thinking):
            return self._thought(block)
        if isinstance(block, ToolCall):
            call = {"type": "tool_use", "id": tool_id(block.id or ""), "name": block.name}
            return {**block.vendor.get(NAME, {}), **call, "input": as_object(block.arguments)}
        if isinstance(block, ToolResult):
            return self._result(block)
        if block.dialect == NAME and (self._profile.keeps or block.payload.get("type") != REDACTED):
            payload: Body = block.payload
            return payload
        if block.dialect != NAME:
            self._losses.append(Loss(f"{block.dialect} content"))
        return None

    def _thought(self, block: Thinking) -> Body | None:
        """A thought goes back word for word and signed, or not at all."""
        signature = block.vendor.get(NAME, {}).get("signature")
        if not signature or not self._profile.keeps:
            return None
        return {"type": "thinking", "thinking": block.text, "signature": signature}

    def _media(self, media: Media) -> Body | None:
        if media.kind != "image":
            self._losses.append(Loss(media.kind, "the wire carries none"))
            return None
        if media.url is not None:
            return {"type": "image", "source": {"type": "url", "url": media.url}}
        source = {"type": "base64", "media_type": media.mime or "image/png", "data": media.data or ""}
        return {"type": "image", "source": source}

    def _result(self, result: ToolResult) -> Body:
        written: Body = {"type": "tool_result", "tool_use_id": tool_id(result.call_id or "")}
        parts = [part for each in result.content if (part := self._block(each)) is not None]
        if all(part["type"] == "text" for part in parts):
            written["content"] = "\n".join(part["text"] for part in parts)
        else:
            written["content"] = parts
        if result.is_error:
            written["is_error"] = True
        return written


def _content(role: str, blocks: list[Body]) -> str | list[Body]:
    """A bare string where one says it all."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return str(blocks[0]["text"])
    if role == "user":
        return sorted(blocks, key=lambda block: block["type"] != "tool_result")
    return blocks
