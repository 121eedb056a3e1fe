"""Values -> request bodies for Gemini.

Knows: how a Profile spells a request on this wire (providers.md 2.5, 3.1 to 3.4, 4). Must not know: names of models,
clients, how a profile came about. The request has been fitted to the profile and its tool results paired before.

    ChatRequest(think="high", sampling=Sampling(max_tokens=9), …)
        -> {"systemInstruction":{"parts":[{"text":"…"}]},"contents":[{"role":"user","parts":[{"text":"Hi"}]}],
            "generationConfig":{"maxOutputTokens":9,"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"HIGH"}}}
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ...values import (
    Block,
    ChatRequest,
    EmbedRequest,
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
from .fields import NAME
from .words import BUDGET, LEVEL, SAMPLING, THINK_OFF, UNSIGNED_CALLS

Part = dict[str, Any]

_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH", "max": "HIGH"}
# Tokens; each is within the range of every model that takes a budget (128 to 24,576 is common to those of 2.5).
_BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
_LEAST_BUDGET = 128  # where 0 is refused
# Google's own words for "do not look at the signature of this call" (providers.md 2.5); the field holds base64.
NO_SIGNATURE = base64.b64encode(b"skip_thought_signature_validator").decode()

_SYSTEM = ("system", "developer")
_UNKNOWN = ("min_p", "repeat_penalty")


def encode_chat(request: ChatRequest, profile: Profile) -> tuple[dict[str, Any], list[Loss]]:
    losses = [Loss(name) for name in ("raw", "template", "suffix") if getattr(request, name)]
    system, contents = _Conversation(profile, losses).written(request.messages)
    if not contents:  # the wire demands a turn
        system, contents = [], [{"role": "user", "parts": system or [{"text": ""}]}]
    body: dict[str, Any] = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]
        choice = _tool_choice(request.tool_choice)
        if choice is not None:
            body["toolConfig"] = {"functionCallingConfig": choice}
    config = _Parameters(request, profile, losses).written()
    if config:
        body["generationConfig"] = config
    return _with_extra(body, {**profile.extra_body, **request.vendor.get(NAME, {})}), losses


def encode_embedding(request: EmbedRequest, model: str, profile: Profile) -> tuple[dict[str, Any], list[Loss]]:
    """One request for each text: a list of texts in one request would give one vector (providers.md 4)."""
    named = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
    more: dict[str, Any] = {}
    losses: list[Loss] = []
    if request.dimensions is not None and request.dimensions > 0:
        if "dimensions" in profile.rejects:
            losses.append(Loss("dimensions"))
        else:
            more["outputDimensionality"] = request.dimensions
    requests = [{"model": named, "content": {"parts": [{"text": text}]}, **more} for text in request.inputs]
    return {"requests": requests}, losses


def _with_extra(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What the operator adds (safetySettings, …); within an object, what the request says wins."""
    for name, value in extra.items():
        given = body.get(name)
        if isinstance(given, dict) and isinstance(value, Mapping):
            body[name] = {**value, **given}
        elif name not in body:
            body[name] = value
    return body


# -- tools -------------------------------------------------------------------------------------------------------------


def _declaration(tool: Tool) -> dict[str, Any]:
    """The field for whole JSON schemas: the other one drops keywords (providers.md 2.5). None is no arguments."""
    declaration: dict[str, Any] = {"name": tool.name, "description": tool.description or ""}
    if tool.parameters is not None:
        declaration["parametersJsonSchema"] = tool.parameters
    return declaration


def _tool_choice(choice: Any) -> dict[str, Any] | None:
    if isinstance(choice, Mapping):
        return {"mode": "ANY", "allowedFunctionNames": [choice.get("name")]}
    mode = {"none": "NONE", "auto": "AUTO", "required": "ANY"}.get(choice)
    return None if mode is None else {"mode": mode}


# -- parameters --------------------------------------------------------------------------------------------------------


class _Parameters:
    """The generationConfig of a request."""

    def __init__(self, request: ChatRequest, profile: Profile, losses: list[Loss]) -> None:
        self.request = request
        self.profile = profile
        self.config: dict[str, Any] = {}
        self.losses = losses

    def written(self) -> dict[str, Any]:
        self._sampling()
        self._format()
        self._thinking()
        self._logprobs()
        if self.request.n is not None and self.request.n > 1:
            self._lose("n", "one answer is translated")
        return self.config

    def _lose(self, name: str, why: str = "") -> None:
        self.losses.append(Loss(name, why))

    def _send(self, name: str, field: str, value: Any) -> None:
        """`name` as in a profile's rejects and in losses, `field` as the wire calls it."""
        if value is None:
            return
        if name in self.profile.rejects:
            self._lose(name)
        else:
            self.config[field] = value

    def _sampling(self) -> None:
        sampling = self.request.sampling
        for name, field in SAMPLING.items():
            self._send(name, field, getattr(sampling, name))
        if sampling.seed is not None and sampling.seed > 0:  # Ollama's clients say "any" by 0 and -1 (providers.md 3.2)
            self._send("seed", "seed", sampling.seed)
        if sampling.max_tokens is not None and sampling.max_tokens > 0:  # -1 and -2: no limit
            self._send("max_tokens", "maxOutputTokens", sampling.max_tokens)
        for name in _UNKNOWN:
            if getattr(sampling, name) is not None:
                self._lose(name)
        stops = [text for text in sampling.stop or [] if text]
        taken = [] if "stop" in self.profile.rejects else stops[: self.profile.max_stops]
        if taken:
            self.config["stopSequences"] = taken
        if len(taken) < len(stops):
            self._lose("stop", f"the target takes {len(taken)}")

    def _format(self) -> None:
        wanted = self.request.format
        if wanted is None:
            return
        self.config["responseMimeType"] = "application/json"
        if wanted.schema is not None:
            self.config["responseJsonSchema"] = wanted.schema

    def _thinking(self) -> None:
        """Thoughts are shown only when asked for. What cannot be switched off is turned down as far as it goes."""
        think, profile = self.request.think, self.profile
        if think is None or profile.reasoning not in (LEVEL, BUDGET) or "think" in profile.rejects:
            return
        config: dict[str, Any] = {"includeThoughts": True} if think else {}
        if think is False and THINK_OFF in profile.rejects:
            self._lose("think", "cannot be switched off")
        if profile.reasoning == BUDGET:
            if think is False:
                off = profile.think_off and THINK_OFF not in profile.rejects
                config["thinkingBudget"] = 0 if off else _LEAST_BUDGET
            elif isinstance(think, str):
                config["thinkingBudget"] = _BUDGETS[think]
            elif not profile.reasons_by_default:
                config["thinkingBudget"] = -1  # as much as it sees fit
        elif think is False:
            config["thinkingLevel"] = _LEVELS[profile.efforts[0] if profile.efforts else "low"]
        elif isinstance(think, str):
            config["thinkingLevel"] = _LEVELS[think]
        self.config["thinkingConfig"] = config

    def _logprobs(self) -> None:
        if not self.request.logprobs:
            return
        self._send("logprobs", "responseLogprobs", True)
        if self.request.top_logprobs and "responseLogprobs" in self.config:
            self.config["logprobs"] = self.request.top_logprobs


# -- the conversation --------------------------------------------------------------------------------------------------


class _Conversation:
    """Turns of user and model, neighbours of one role in one; the system's words apart."""

    def __init__(self, profile: Profile, losses: list[Loss]) -> None:
        self.profile = profile
        self.losses = losses
        self.system: list[Part] = []
        self.contents: list[dict[str, Any]] = []
        self.names: dict[str, str] = {}  # id of a call -> its function
        self.shown: list[Part] = []  # pictures of results: they follow all results of their turn

    def written(self, messages: list[Message]) -> tuple[list[Part], list[dict[str, Any]]]:
        """-> (parts of the system instruction, contents)."""
        for message in messages:
            self._take(message)
        self._show()
        return self.system, self.contents

    def _take(self, message: Message) -> None:
        results = [block for block in message.blocks if isinstance(block, ToolResult)]
        if not results:
            self._show()
        parts = [part for block in message.blocks if (part := self._part(block, message.role)) is not None]
        if message.role in _SYSTEM:
            self.system += [part for part in parts if "text" in part]
            self._add("user", [part for part in parts if "text" not in part])
        elif message.role == "assistant":
            if UNSIGNED_CALLS in self.profile.rejects:
                _sign(parts)
            self._add("model", parts)
        else:
            self._add("user", parts)

    def _add(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        if self.contents and self.contents[-1]["role"] == role:
            self.contents[-1]["parts"] += parts
        else:
            self.contents.append({"role": role, "parts": parts})

    def _show(self) -> None:
        shown, self.shown = self.shown, []
        self._add("user", shown)

    def _part(self, block: Block, role: str) -> Part | None:
        """None for what this wire does not carry: empty text, and thoughts that bear no signature of its own."""
        if isinstance(block, Text):
            return {"text": block.text} if block.text else None
        if isinstance(block, Media):
            return self._media(block)
        if isinstance(block, Thinking):
            signed = block.vendor.get(NAME)
            return {"text": block.text, "thought": True, **signed} if signed and role == "assistant" else None
        if isinstance(block, ToolCall):
            return self._call(block)
        if isinstance(block, ToolResult):
            return self._result(block)
        if block.dialect == NAME and isinstance(block.payload, dict):
            return block.payload
        self.losses.append(Loss(f"{block.dialect} content"))
        return None

    def _media(self, media: Media) -> Part:
        if media.detail not in (None, "auto"):
            self.losses.append(Loss("detail"))
        if media.url:
            return {"fileData": {"fileUri": media.url, **({"mimeType": media.mime} if media.mime else {})}}
        default = "audio/wav" if media.kind == "audio" else "image/png"
        return {"inlineData": {"mimeType": media.mime or default, "data": media.data or ""}}

    def _call(self, call: ToolCall) -> Part:
        function: dict[str, Any] = {"name": call.name, "args": as_object(call.arguments)}
        if call.id:
            self.names[call.id] = call.name
            function["id"] = call.id
        return {"functionCall": function, **call.vendor.get(NAME, {})}

    def _result(self, result: ToolResult) -> Part:
        """The name is mandatory: the call's own where it is known."""
        self.shown += [self._media(part) for part in result.content if isinstance(part, Media)]
        text = "\n".join(part.text for part in result.content if isinstance(part, Text))
        response: dict[str, Any] = {
            "name": self.names.get(result.call_id or "") or result.name or "",
            "response": {"error" if result.is_error else "output": text},
        }
        if result.call_id:
            response["id"] = result.call_id
        return {"functionResponse": response}


def _sign(parts: list[Part]) -> None:
    """Of several calls at once only the first bears a signature; where it has been lost, the words that make up for
    one. The parts of calls are this module's own and may be changed."""
    first = next((part for part in parts if "functionCall" in part), None)
    if first is not None:
        first.setdefault("thoughtSignature", NO_SIGNATURE)
