"""Values -> request bodies of the Responses wire.

Knows: how a Profile spells a request there (providers.md 2.3, 3.1 to 3.4). Must not know: names of models, clients,
when this wire is chosen. The request has been fitted to the profile and its tool results paired before.

    ChatRequest(think="high", messages=[system, user], …)
        -> {"model":"gpt-6-sol","stream":true,"store":false,"instructions":"Be brief.",
            "input":[{"role":"user","content":"Hi"}],"reasoning":{"effort":"high","summary":"auto"},
            "include":["reasoning.encrypted_content"]}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...values import (
    Block,
    ChatRequest,
    Format,
    Media,
    Message,
    Opaque,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from ..base import Loss, Profile
from ..openai.fields import NAME as CHAT_WIRE
from .items import NAME, REASONING

SUMMARY = "reasoning.summary"  # in a profile's rejects: OpenAI gives none to organizations it has not verified
FEWEST_TOKENS = 16  # of max_output_tokens; the API refuses less
_SYSTEM = ("system", "developer")
_SAYS_JSON = "Answer with JSON."
_LEVELS = ("minimal", "low", "medium", "high", "xhigh", "max")  # weakest first

_OWN = ("temperature", "top_p")  # all the sampling of this wire
_OTHERS = ("top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repeat_penalty")
# Of the options that only local engines know, those that change what is said (providers.md 3.2).
_FELT = frozenset({"typical_p", "repeat_last_n"})
# What clients of Chat Completions may say and this wire calls the same.
_SHARED = frozenset(
    {"user", "metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"}
)

Body = dict[str, Any]


def encode_chat(request: ChatRequest, model: str, profile: Profile) -> tuple[Body, list[Loss]]:
    losses = [Loss(name) for name in ("raw", "template", "suffix") if getattr(request, name)]
    body: Body = {"model": model, "stream": request.stream}
    if "store" not in profile.rejects:
        body["store"] = False  # unsaid, it keeps the conversation for 30 days (providers.md 2.1)
    instructions, rest = _instructions(request.messages, profile)
    if instructions:
        body["instructions"] = instructions
    body["input"] = _input(rest, profile, losses)
    _Parameters(request, profile, body, losses).write()
    for name, value in profile.extra_body.items():
        given = body.get(name)
        if isinstance(given, dict) and isinstance(value, Mapping):
            body[name] = {**value, **given}
        elif name not in body:
            body[name] = value
    return body, losses


# -- parameters --------------------------------------------------------------------------------------------------------


class _Parameters:
    """Everything of a body but the conversation."""

    def __init__(self, request: ChatRequest, profile: Profile, body: Body, losses: list[Loss]) -> None:
        self.request = request
        self.profile = profile
        self.body = body
        self.losses = losses
        self.refused = profile.rejects | (profile.drop_while_reasoning if self._reasons() else frozenset())

    def write(self) -> None:
        self._tools()
        self._format()
        self._thinking()
        self._sampling()
        self._logprobs()
        self._others()

    def _lose(self, name: str, why: str = "not known to this API") -> None:
        self.losses.append(Loss(name, why))

    def _reasons(self) -> bool:
        """Whether the target will reason: asked to, or of itself."""
        think, profile = self.request.think, self.profile
        if think is False:
            return profile.reasons_by_default and not profile.think_off
        return profile.reasons_by_default or (think is not None and profile.reasoning != "none")

    def _send(self, name: str, value: Any, field: str | None = None) -> None:
        """`name` as in a profile's rejects and in losses, `field` as the wire calls it."""
        if value is None:
            return
        if name in self.refused:
            self._lose(name, "not taken by this model")
        else:
            self.body[field or name] = value

    def _include(self, what: str) -> None:
        if "include" not in self.refused:
            self.body.setdefault("include", []).append(what)

    def _tools(self) -> None:
        request = self.request
        if not request.tools:
            return
        self.body["tools"] = [_tool(tool) for tool in request.tools]
        choice = request.tool_choice
        if isinstance(choice, dict):
            choice = {"type": "function", "name": choice["name"]}
        if choice != "auto" or "tool_choice" not in self.refused:  # "auto" is what not saying anything means
            self._send("tool_choice", choice)
        self._send("parallel_tool_calls", request.parallel_tool_calls)

    def _format(self) -> None:
        wanted = self.request.format
        if wanted is None:
            return
        formats = self.profile.formats
        if wanted.schema is not None and "schema" in formats:
            self.body["text"] = {"format": _schema(wanted)}
            return
        if wanted.schema is not None or "json" not in formats:
            self._lose("format", "the target does not hold its answer to it")
        if "json" in formats:
            self.body["text"] = {"format": {"type": "json_object"}}
            _say_json(self.body["input"], self.profile)

    def _thinking(self) -> None:
        """Thoughts come as summaries, and only when they are asked for. Whether they are shown or not, they come
        encrypted as well: the next turn has to bring them back (providers.md 2.3)."""
        think, profile = self.request.think, self.profile
        if profile.reasoning == "none" or "think" in profile.rejects:
            if think is not None and think is not profile.reasons_by_default:  # a level cannot be told either
                self._lose("think", "cannot be told")
            return
        self._include("reasoning.encrypted_content")
        reasoning: Body = {}
        level = self._level()
        if level is not None:
            reasoning["effort"] = level
        if think and SUMMARY not in profile.rejects:
            reasoning["summary"] = "auto"
        if reasoning:
            self._send("reasoning", reasoning)

    def _level(self) -> str | None:
        """The effort to be named, None where saying nothing means the same."""
        think, profile = self.request.think, self.profile
        if think is None:
            return None
        if think is False:
            if profile.think_off:
                return "none" if profile.reasons_by_default else None
            if not profile.reasons_by_default:
                return None
            return profile.efforts[0] if profile.efforts else "low"  # the least, and no word of it
        if think is True:
            return None if profile.reasons_by_default else _nearest("medium", profile.efforts)
        return _nearest(think, profile.efforts)

    def _sampling(self) -> None:
        sampling = self.request.sampling
        for name in _OWN:
            self._send(name, getattr(sampling, name))
        limit = sampling.max_tokens
        if limit is not None and limit > 0:  # -1 and -2: no limit
            if limit < FEWEST_TOKENS:
                self._lose("max_tokens", f"{FEWEST_TOKENS} at least")
            self._send("max_tokens", max(limit, FEWEST_TOKENS), "max_output_tokens")
        for name in _OTHERS:
            if getattr(sampling, name) is not None:
                self._lose(name)
        for name in sampling.extra:
            if name in _FELT:
                self._lose(name)
        if sampling.stop:
            self._lose("stop")

    def _logprobs(self) -> None:
        if not self.request.logprobs:
            return
        if "logprobs" in self.refused:
            self._lose("logprobs", "not given by this model")
            return
        self._include("message.output_text.logprobs")
        self.body["top_logprobs"] = self.request.top_logprobs or 0

    def _others(self) -> None:
        if self.request.n is not None and self.request.n > 1:
            self._lose("n", "one answer is translated")
        for name, value in self.request.vendor.get(CHAT_WIRE, {}).items():
            if name == "verbosity":
                self.body["text"] = {**self.body.get("text", {}), "verbosity": value}
            elif name in _SHARED:
                self._send(name, value)
            else:
                self._lose(name)


def _tool(tool: Tool) -> Body:
    """`strict` must be said, and is false unless asked for: most schemas of clients do not meet its conditions."""
    written: Body = {"type": "function", "name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["parameters"] = {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
    return {**written, "strict": tool.vendor.get(CHAT_WIRE, {}).get("strict") is True}


def _schema(wanted: Format) -> Body:
    return {
        "type": "json_schema",
        "name": wanted.name or "answer",
        "schema": wanted.schema,
        "strict": bool(wanted.strict),
    }


def _nearest(level: str, efforts: tuple[str, ...]) -> str:
    """The strongest effort that is not above `level`, else the weakest. No efforts known: the level itself."""
    if not efforts or level in efforts:
        return level
    ranked = [effort for effort in efforts if effort in _LEVELS]
    below = [effort for effort in ranked if _LEVELS.index(effort) <= _LEVELS.index(level)]
    return below[-1] if below else (ranked or efforts)[0]


def _say_json(items: list[Body], profile: Profile) -> None:
    """JSON mode is refused when the input, instructions aside, never says JSON (providers.md 2.2)."""
    if not any("json" in text.lower() for item in items for text in _texts(item.get("content"))):
        items.insert(0, {"role": profile.system_role, "content": _SAYS_JSON})


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]


# -- the conversation --------------------------------------------------------------------------------------------------


def _instructions(messages: list[Message], profile: Profile) -> tuple[str, list[Message]]:
    """-> (what the system says before anyone else, the rest of the conversation)."""
    if "instructions" in profile.rejects:
        return "", messages
    first = next((at for at, message in enumerate(messages) if message.role not in _SYSTEM), len(messages))
    plain = next(
        (at for at in range(first) if not all(isinstance(block, Text) for block in messages[at].blocks)), first
    )
    return "\n\n".join(text for message in messages[:plain] if (text := message.text())), messages[plain:]


def _input(messages: Iterable[Message], profile: Profile, losses: list[Loss]) -> list[Body]:
    items: list[Body] = []
    for message in messages:
        if message.role == "assistant":
            items += _assistant(message, losses)
            continue
        results = [block for block in message.blocks if isinstance(block, ToolResult)]
        items += [_result(result, losses) for result in results]
        rest: list[Block] = [block for block in message.blocks if not isinstance(block, ToolResult)]
        if rest or not results:
            role = profile.system_role if message.role in _SYSTEM else message.role
            items.append({"role": role, "content": _content(rest, losses)})
    return items


def _assistant(message: Message, losses: list[Loss]) -> list[Body]:
    """One turn of the model as its items, in their order. A reasoning item is worth nothing without the one that
    follows it, and is refused."""
    items: list[Body] = []
    said: list[str] = []

    def flush() -> None:
        if said:
            items.append({"role": "assistant", "content": "".join(said)})
            said.clear()

    for block in message.blocks:
        if isinstance(block, Text):
            if block.text:
                said.append(block.text)
            continue
        item = _item(block, losses)
        if item is not None:
            flush()
            items.append(item)
    flush()
    while items and items[-1].get("type") == REASONING:
        items.pop()
    return items


def _item(block: Block, losses: list[Loss]) -> Body | None:
    """What the model did beside speaking. Thoughts that this wire did not give cannot be told to it: no loss, since no
    provider wants another's."""
    if isinstance(block, ToolCall):
        arguments = block.arguments or "{}"
        return {"type": "function_call", "call_id": block.id or "", "name": block.name, "arguments": arguments}
    if isinstance(block, Thinking):
        return block.vendor.get(NAME)
    if isinstance(block, Opaque) and block.dialect == NAME:
        return dict(block.payload)
    losses.append(Loss(f"{block.dialect} content" if isinstance(block, Opaque) else "images", "not taken in an answer"))
    return None


def _result(result: ToolResult, losses: list[Loss]) -> Body:
    parts: list[Block] = list(result.content)
    output: Any = _content(parts, losses) if any(isinstance(part, Media) for part in parts) else _joined(result)
    return {"type": "function_call_output", "call_id": result.call_id or "", "output": output}


def _joined(result: ToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, Text))


def _content(blocks: list[Block], losses: list[Loss]) -> str | list[Body]:
    """A bare string where one says it all."""
    said = [block for block in blocks if not (isinstance(block, Text) and not block.text)]
    if not said:
        return ""
    if len(said) == 1 and isinstance(said[0], Text):
        return said[0].text
    return [part for block in said if (part := _part(block, losses)) is not None]


def _part(block: Block, losses: list[Loss]) -> Body | None:
    if isinstance(block, Text):
        return {"type": "input_text", "text": block.text}
    if isinstance(block, Media) and block.kind == "image":
        url = block.url or f"data:{block.mime or 'image/png'};base64,{block.data or ''}"
        return {"type": "input_image", "image_url": url, "detail": block.detail or "auto"}
    if isinstance(block, Opaque) and block.dialect == NAME:
        return dict(block.payload)
    if not isinstance(block, Thinking | ToolCall):
        name = f"{block.dialect} content" if isinstance(block, Opaque) else "audio"
        losses.append(Loss(name, "not taken by this API"))
    return None
