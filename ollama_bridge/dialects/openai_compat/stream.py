"""The streams of Ollama's own /v1 layer.

Knows: ollama-protocol.md 4.1 to 4.3: order of keys, which frame has the role, what the last ones are. Must not know:
requests beyond what a stream echoes, errors' words.

    data: {"id":"chatcmpl-417","object":"chat.completion.chunk","created":1790000000,"model":"m",
           "system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},
           "finish_reason":null}]}

    data: {"id":"cmpl-12","object":"text_completion","created":1790000000,"choices":[{"text":"Hi","index":0,
           "finish_reason":null}],"model":"m","system_fingerprint":"fp_ollama"}

    data: [DONE]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import GatewayError
from ...events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, unfold
from ...framing import dumps, go_dumps, go_escape, json_string
from ...values import ChatRequest, Reply
from ..arguments import Room
from ..base import GENERATE, Moment
from ..ollama.answers import native_call, native_logprobs, prompt_size, size
from ..openai.fields import estimated

EVENT_STREAM = "text/event-stream"
DONE = b"data: [DONE]\n\n"
_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_FINGERPRINT = b',"system_fingerprint":"fp_ollama"'

Fields = dict[str, Any]


def answer_id(kind: str, now: Moment) -> str:
    """`chatcmpl-` or `cmpl-` and a number below 999."""
    return f"{'cmpl' if kind == GENERATE else 'chatcmpl'}-{now.wall_ns // 1000 % 999}"


def finish_word(reason: str, calls: bool) -> str:
    """Our reason, or a native one, as the chat endpoint says it: natively a turn of calls ends with "stop"."""
    if reason in ("length", "load", "unload"):
        return reason
    return "tool_calls" if calls else "stop"


def written_call(native: Fields) -> Fields:
    """A native call as the layer writes it: the arguments are text, encoded by Go once more."""
    function = native["function"]
    return {
        "id": native["id"],
        "index": function["index"],
        "type": "function",
        "function": {"name": function["name"], "arguments": go_dumps(function["arguments"]).decode()},
    }


class Writer:
    """Events as the layer's frames. Calls come whole; thoughts go into `reasoning` beside an empty content.

    In /v1/completions there is no place for thoughts and logprobs: a thought is a frame with empty text.
    """

    content_type = EVENT_STREAM
    headers: Mapping[str, str] = {}
    heartbeat = b": \n\n"

    __slots__ = (
        "_calls", "_head", "_id", "_kind", "_model", "_number", "_prefix", "_prompt_bytes", "_room", "_said",
        "_shows_thinking", "_started", "_suffix", "_top", "_usage",
    )  # fmt: skip

    def __init__(self, kind: str, request: ChatRequest) -> None:
        self._kind = kind
        self._model = json_string(request.model)
        self._usage = request.include_usage
        self._shows_thinking = request.think is not False
        self._top = (request.top_logprobs or 0) if request.logprobs else None
        self._prompt_bytes = prompt_size(request)
        self._id = ""
        self._head = b""
        self._prefix = b""
        self._suffix = self._plain_suffix()
        self._started = kind == GENERATE  # a chat's frame with the role has been sent
        self._said = 0  # bytes of the answer so far
        self._calls: dict[int, tuple[BlockStart, list[str]]] = {}
        self._room = Room()
        self._number = 0  # calls sent

    def write(self, events: list[Event], now: Moment) -> bytes:
        self._begin(now)
        frames: list[bytes] = []
        for event in events:
            if type(event) is Delta and event.kind == "text" and event.logprobs is None and self._started:
                if event.text or self._kind == GENERATE:
                    text = json_string(event.text)
                    self._said += len(text) - 2
                    frames += (self._prefix, text, self._suffix)
            elif isinstance(event, Delta):
                self._delta(event, frames)
            elif isinstance(event, BlockStart):
                if event.kind == "tool_call":
                    self._calls[event.index] = (event, [])
            elif isinstance(event, BlockEnd):
                if event.index in self._calls:
                    self._call(*self._calls.pop(event.index), now, frames)
            elif isinstance(event, Finish):
                self._finish(event, frames)
            elif isinstance(event, Failed):
                frames.append(self._broken())
        return go_escape(b"".join(frames))

    def whole(self, reply: Reply, now: Moment) -> bytes:
        """All frames of an answer that is there at once."""
        return self.write(unfold(reply), now)

    def fail(self, error: GatewayError, now: Moment) -> bytes:
        """One more chunk without model and text, and no `[DONE]`: the layer has no other form (4.1)."""
        self._begin(now)
        return self._broken()

    def _begin(self, now: Moment) -> None:
        """A chat has one time for all its frames; a completion has each frame's own."""
        if not self._id:
            self._id = answer_id(self._kind, now)
        elif self._kind != GENERATE:
            return
        kind = "text_completion" if self._kind == GENERATE else "chat.completion.chunk"
        head = {"id": self._id, "object": kind, "created": now.wall_ns // 1_000_000_000}
        self._head = b"data: " + dumps(head)[:-1]
        if self._kind == GENERATE:
            self._prefix = self._head + b',"choices":[{"text":'
        else:
            self._prefix = b'%s,"model":%s%s,"choices":[{"index":0,"delta":{"content":' % (
                self._head, self._model, _FINGERPRINT,
            )  # fmt: skip

    def _plain_suffix(self) -> bytes:
        """What follows the text in a frame that has nothing else to say."""
        if self._kind != GENERATE:
            return b'},"finish_reason":null}]}\n\n'
        usage = b',"usage":' + dumps(_NO_USAGE) if self._usage else b""
        return b',"index":0,"finish_reason":null}],"model":%s%s%s}\n\n' % (self._model, _FINGERPRINT, usage)

    # -- frames ------------------------------------------------------------------------------------------------------
    def _frame(self, choices: bytes, model: bytes, usage: Fields | None = None) -> bytes:
        tail = b"" if usage is None else b',"usage":' + dumps(usage)
        if self._kind == GENERATE:
            return b"%s,%s,%s%s%s}\n\n" % (self._head, choices, model, _FINGERPRINT, tail)
        return b"%s,%s%s,%s%s}\n\n" % (self._head, model, _FINGERPRINT, choices, tail)

    def _chat(self, delta: bytes, finish: str | None = None, logprobs: list[Fields] | None = None) -> bytes:
        beside = b"" if not logprobs else b',"logprobs":' + dumps({"content": logprobs})
        choice = b'"choices":[{"index":0,"delta":{%s},"finish_reason":%s%s}]' % (delta, dumps(finish), beside)
        return self._frame(choice, b'"model":' + self._model)

    def _completion(self, text: str, finish: str | None = None) -> bytes:
        choice = b'"choices":[%s]' % dumps({"text": text, "index": 0, "finish_reason": finish})
        return self._frame(choice, b'"model":' + self._model, _NO_USAGE if self._usage else None)

    def _role(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        return b'"role":"assistant",'

    def _delta(self, event: Delta, frames: list[bytes]) -> None:
        self._said += size(event.text)
        if event.kind == "tool_call":
            self._room.take(event.text)
            self._calls[event.index][1].append(event.text)
            return
        text = event.kind == "text"
        if not (text or self._shows_thinking):
            return
        if self._kind == GENERATE:
            frames.append(self._completion(event.text if text else ""))
            return
        logprobs = None
        if event.logprobs and self._top is not None:
            logprobs = native_logprobs(event.logprobs, self._top)
        if not event.text and not logprobs:
            return
        said = (
            b'"content":' + json_string(event.text) if text else b'"content":"","reasoning":' + json_string(event.text)
        )
        frames.append(self._chat(self._role() + said, logprobs=logprobs))

    def _call(self, start: BlockStart, parts: list[str], now: Moment, frames: list[bytes]) -> None:
        if self._kind != GENERATE:
            call = written_call(native_call(self._number, start.id, start.name or "", "".join(parts), now))
            frames.append(self._chat(self._role() + b'"content":"","tool_calls":' + dumps([call])))
        self._number += 1

    def _finish(self, finish: Finish, frames: list[bytes]) -> None:
        if self._kind == GENERATE:
            frames.append(self._completion("", finish_word(finish.reason, False)))
        else:
            if not self._started:
                frames.append(self._chat(self._role() + b'"content":""'))
            frames.append(self._chat(b"", finish_word(finish.reason, self._number > 0)))
        if self._usage:
            frames.append(self._frame(b'"choices":[]', b'"model":' + self._model, self._counts(finish)))
        frames.append(DONE)

    def _counts(self, finish: Finish) -> Fields:
        """A load has none."""
        if finish.reason in ("load", "unload"):
            return _NO_USAGE
        usage = estimated(finish.usage, self._prompt_bytes, self._said)
        prompt, completion = usage.prompt or 0, usage.completion or 0
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _broken(self) -> bytes:
        if self._kind == GENERATE:
            choice = b'"choices":[{"text":"","index":0,"finish_reason":null}]'
            return self._frame(choice, b'"model":""', _NO_USAGE if self._usage else None)
        choice = b'"choices":[{"index":0,"delta":{%s"content":""},"finish_reason":null}]' % self._role()
        return self._frame(choice, b'"model":""')
