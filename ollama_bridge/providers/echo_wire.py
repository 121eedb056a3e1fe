"""How the echo's words go onto OpenAI's wire: tokens, limits, frames, whole bodies, counts.

Knows: the shapes of chat completions, completions and embeddings, and the limits a request may set. Must not know: why
the echo says what it says.

    data: {"id":"chatcmpl-…","object":"chat.completion.chunk",…,"choices":[{"index":0,"delta":{"role":"assistant",…
    data: {…"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
    data: [DONE]
"""

from __future__ import annotations

import array
import base64
import hashlib
import re
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Any

from ..framing import dumps, sse

CONTEXT = 32768  # tokens; also the longest answer
MOST_CHOICES = 8
MOST_ALTERNATIVES = 20  # OpenAI's own limit for top_logprobs
_COUNTED = 256 * 1024  # characters of a text that are counted exactly; what is longer is estimated

# A piece of a word with the white space before it, a flag, or one other character with all that modifies it, so that
# no emoji is cut (joiners, skin tones, variation selectors, tags).
_TOKEN = re.compile(
    r"\s{0,16}(?:"
    r"\w{1,12}[\u0300-\u036f\ufe0f\u20e3]*"
    r"|[\U0001f1e6-\U0001f1ff]{2}"
    r"|[^\w\s](?:[\u0300-\u036f\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]|\u200d[^\w\s])*"
    r")|\s{1,16}"
)


def tokens(text: str, limit: int = CONTEXT) -> list[str]:
    """The first `limit` tokens; joined they are the text."""
    return [match.group() for match in islice(_TOKEN.finditer(text), limit)]


def count(text: str) -> int:
    """How many tokens a text has. Long texts are estimated: counting a book would hold up every other stream."""
    if len(text) > _COUNTED:
        return len(text) // 4
    return sum(1 for _ in _TOKEN.finditer(text))


@dataclass(slots=True)
class Said:
    """What the echo wants to say: a thought, then a call (name, JSON arguments) or a text."""

    text: str = ""
    thinking: str = ""
    call: tuple[str, str] | None = None


@dataclass(slots=True)
class Spoken:
    """One choice as tokens, within the caller's limits. `finish`: "stop", "length" or "tool_calls"."""

    thinking: list[str]
    text: list[str]
    call: tuple[str, list[str]] | None
    finish: str

    @property
    def reasoning(self) -> int:
        return len(self.thinking)

    @property
    def completion(self) -> int:
        return len(self.thinking) + len(self.text) + (len(self.call[1]) if self.call else 0)


def speak(said: Said, stops: Sequence[str], limit: int | None) -> Spoken:
    """Cuts at the first stop string (which is not said) and after `limit` tokens, thoughts included. Calls are whole
    or not at all."""
    most = CONTEXT if limit is None else min(limit, CONTEXT)
    thinking = tokens(said.thinking, most + 1)
    if len(thinking) > most:
        return Spoken(thinking[:most], [], None, "length")
    left = most - len(thinking)
    if said.call is not None:
        arguments = tokens(said.call[1], left + 1)
        if len(arguments) > left:
            return Spoken(thinking, [], None, "length")
        return Spoken(thinking, [], (said.call[0], arguments), "tool_calls")
    text = said.text[: min((at for at in map(said.text.find, filter(None, stops)) if at >= 0), default=None)]
    words = tokens(text, left + 1)
    if len(words) > left:
        return Spoken(thinking, words[:left], None, "length")
    return Spoken(thinking, words, None, "stop")


def usage(prompt: int, choices: Sequence[Spoken]) -> dict[str, Any]:
    completion = sum(choice.completion for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": sum(choice.reasoning for choice in choices)},
    }


# -- what all requests may carry ---------------------------------------------------------------------------------------


def model_of(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    return model if isinstance(model, str) else "echo"


def limits(body: Mapping[str, Any]) -> tuple[list[str], int | None]:
    """-> (stop strings, most tokens or None)."""
    stop = body.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    limit = next(
        (n for n in map(_whole, (body.get("max_completion_tokens"), body.get("max_tokens"))) if n is not None), None
    )
    return [text for text in stops if isinstance(text, str)], None if limit is None or limit < 0 else limit


def copies(body: Mapping[str, Any]) -> int:
    """How many choices are wanted."""
    return min(max(_whole(body.get("n")) or 1, 1), MOST_CHOICES)


def alternatives(value: Any) -> int | None:
    """How many likely tokens are wanted with each; None: not said."""
    number = _whole(value)
    return None if number is None else min(max(number, 0), MOST_ALTERNATIVES)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def wants_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


# -- log probabilities: made up, but the same for the same token -------------------------------------------------------


def _logprob(token: str) -> float:
    return -hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=1).digest()[0] / 512


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}


def logprob(token: str, top: int) -> dict[str, Any]:
    """One item of `logprobs.content`: the token, and it with `top - 1` less likely ones beside it."""
    own = _entry(token, _logprob(token))
    others = [_entry(f"{token}{'.' * n}", own["logprob"] - n) for n in range(1, top)]
    return {**own, "top_logprobs": [dict(own), *others][:top]}


# -- chat --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Chat:
    """The answer to a chat completion. `top`: alternatives wanted with each log probability, None for none at all."""

    model: str
    choices: list[Spoken]
    prompt: int
    top: int | None = None
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.model, "system_fingerprint": "echo",
        }  # fmt: skip

    def _logprobs(self, words: Sequence[str]) -> dict[str, Any] | None:
        if self.top is None:
            return None
        return {"content": [logprob(word, self.top) for word in words], "refusal": None}

    def whole(self) -> bytes:
        choices = []
        for index, spoken in enumerate(self.choices):
            message: dict[str, Any] = {"role": "assistant", "content": "".join(spoken.text), "refusal": None}
            if spoken.thinking:
                message["reasoning_content"] = "".join(spoken.thinking)
            if spoken.call:
                function = {"name": spoken.call[0], "arguments": "".join(spoken.call[1])}
                message["content"] = None
                message["tool_calls"] = [{"id": _call_id(), "type": "function", "function": function}]
            logprobs = self._logprobs(spoken.text)
            choices.append({"index": index, "message": message, "logprobs": logprobs, "finish_reason": spoken.finish})
        body = {**self._head("chat.completion"), "choices": choices, "usage": usage(self.prompt, self.choices)}
        return dumps(body)

    def frames(self) -> Iterator[bytes]:
        """SSE, one token a frame."""
        head = self._head("chat.completion.chunk")
        for index, spoken in enumerate(self.choices):
            for delta, word in _deltas(spoken):
                choice = {"index": index, "delta": delta, "finish_reason": None}
                if self.top is not None and word is not None:
                    choice["logprobs"] = self._logprobs([word])
                yield sse(dumps({**head, "choices": [choice]}))
            yield sse(dumps({**head, "choices": [{"index": index, "delta": {}, "finish_reason": spoken.finish}]}))
        if self.include_usage:
            yield sse(dumps({**head, "choices": [], "usage": usage(self.prompt, self.choices)}))
        yield sse(b"[DONE]")


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def _deltas(spoken: Spoken) -> Iterator[tuple[dict[str, Any], str | None]]:
    """-> (delta, its word when it carries a piece of the text)."""
    yield {"role": "assistant", "content": ""}, None
    for word in spoken.thinking:
        yield {"reasoning_content": word}, None
    for word in spoken.text:
        yield {"content": word}, word
    if spoken.call:
        name, arguments = spoken.call
        first = {"index": 0, "id": _call_id(), "type": "function", "function": {"name": name, "arguments": ""}}
        yield {"tool_calls": [first]}, None
        for word in arguments:
            yield {"tool_calls": [{"index": 0, "function": {"arguments": word}}]}, None


# -- completions -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Completion:
    """The answer to a (legacy) completion: one choice a prompt. `top`: as in Chat."""

    model: str
    choices: list[Spoken]
    prompt: int
    top: int | None = None
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}

    def _choice(self, index: int, words: Sequence[str], offset: int, finish: str | None) -> dict[str, Any]:
        return {
            "index": index, "text": "".join(words), "logprobs": self._logprobs(words, offset), "finish_reason": finish,
        }  # fmt: skip

    def _logprobs(self, words: Sequence[str], offset: int) -> dict[str, Any] | None:
        if self.top is None:
            return None
        items = [logprob(word, self.top) for word in words]
        return {
            "tokens": list(words),
            "token_logprobs": [item["logprob"] for item in items],
            "top_logprobs": [{top["token"]: top["logprob"] for top in item["top_logprobs"]} for item in items],
            "text_offset": list(accumulate(map(len, words), initial=offset))[:-1],
        }

    def whole(self) -> bytes:
        choices = [self._choice(index, spoken.text, 0, spoken.finish) for index, spoken in enumerate(self.choices)]
        return dumps({**self._head(), "choices": choices, "usage": usage(self.prompt, self.choices)})

    def frames(self) -> Iterator[bytes]:
        """SSE, one token a frame."""
        head = self._head()
        for index, spoken in enumerate(self.choices):
            offset = 0
            for word in spoken.text:
                yield sse(dumps({**head, "choices": [self._choice(index, [word], offset, None)]}))
                offset += len(word)
            yield sse(dumps({**head, "choices": [self._choice(index, [], offset, spoken.finish)]}))
        if self.include_usage:
            yield sse(dumps({**head, "choices": [], "usage": usage(self.prompt, self.choices)}))
        yield sse(b"[DONE]")


# -- embeddings --------------------------------------------------------------------------------------------------------


def embeddings(model: str, vectors: Sequence[Sequence[float]], prompt: int, packed: bool) -> bytes:
    """`packed`: vectors as base64 of little-endian 32-bit floats, as OpenAI's SDK asks for them."""
    rows = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(vectors)
    ]
    counts = {"prompt_tokens": prompt, "total_tokens": prompt}
    return dumps({"object": "list", "data": rows, "model": model, "usage": counts})


def _packed(vector: Sequence[float]) -> str:
    floats = array.array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
