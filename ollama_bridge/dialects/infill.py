"""Filling in the middle of a text at llama.cpp's server: POST /infill (providers.md 3.1).

Knows: its bodies and frames. Must not know: paths, policy. Sampling goes by the server's own names, which are Ollama's.

    -> {"model":"m","stream":true,"n_predict":9,"input_prefix":"def add(","input_suffix":"    return c"}
    <- data: {"index":0,"content":"a, b","tokens":[64],"stop":false,"id_slot":0,"tokens_predicted":1}
    <- data: {"index":0,"content":"","stop":true,"model":"m","stop_type":"eos","timings":{"prompt_n":9,"predicted_n":4}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import GatewayError, WireError, unusable
from ..events import BlockEnd, BlockStart, Delta, Event, Failed, Finish, Start, unfold
from ..framing import BadJSON, EventsOrBody, FrameTooLong, loads
from ..values import Block, EmbedReply, Reply, Text, Usage
from .base import GENERATE, Loss, Profile, Request, StreamReader
from .fim import gap, sampled
from .openai.errors import read_error
from .openai.fields import failure_of, usage_of
from .outbound_only import OutboundOnly

NAME = "infill"


class InfillDialect(OutboundOnly):
    """The outbound half of dialects.base.Dialect, for requests with a suffix."""

    name = NAME

    def encode(self, request: Request, model: str, profile: Profile) -> tuple[str, dict[str, Any], list[Loss]]:
        asked, before, losses = gap(request)
        body, more = sampled(asked, model, profile)
        body.pop("stream_options", None)
        limit = body.pop(profile.max_tokens_field, None)
        if limit is not None:
            body["n_predict"] = limit
        return GENERATE, {**body, "input_prefix": before, "input_suffix": asked.suffix}, losses + more

    def read_reply(self, kind: str, body: bytes, profile: Profile) -> Reply | EmbedReply:
        return _reply(body)

    def reader(self, kind: str, profile: Profile) -> StreamReader:
        return Reader()

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> WireError:
        return read_error(headers, body)


class Reader:
    """The server's stream as events. It ends with the frame that says `stop`; there is no `[DONE]`."""

    __slots__ = ("_done", "_frames", "_started")

    def __init__(self) -> None:
        self._frames = EventsOrBody()
        self._started = False
        self._done = False

    @property
    def ending(self) -> bool:
        return self._done

    def feed(self, data: bytes) -> list[Event]:
        if self._done:
            return []
        try:
            frames = self._frames.feed(data)
        except FrameTooLong as error:
            return [self._failed(f"sent {error}")]
        events: list[Event] = []
        for _, frame in frames:
            if self._done:
                break
            self._frame(frame, events)
        return events

    def end(self) -> list[Event]:
        if self._done:
            return []
        if self._frames.body:
            return self._whole(bytes(self._frames.body))
        events: list[Event] = []
        for _, frame in self._frames.end():
            if not self._done:
                self._frame(frame, events)
        if not self._done:
            events.append(self._failed("broke off in the middle of its answer" if self._started else "sent no answer"))
        return events

    def _whole(self, body: bytes) -> list[Event]:
        self._done = True
        try:
            return list(unfold(_reply(body)))
        except GatewayError as error:
            return [Failed(error)]

    def _frame(self, data: bytes, events: list[Event]) -> None:
        try:
            frame = loads(data)
        except BadJSON:
            frame = None
        if not isinstance(frame, dict):
            events.append(self._failed("sent a frame that is not a JSON object"))
            return
        if frame.get("error"):
            self._done = True
            events.append(Failed(failure_of(frame)))
            return
        if not self._started:
            self._started = True
            events += (Start(model=_string(frame, "model")), BlockStart(0, "text"))
        text = _string(frame, "content")
        if text:
            events.append(Delta(0, "text", text))
        if frame.get("stop") is True:
            self._done = True
            events += (BlockEnd(0), Finish(_reason(frame), usage_of(frame, Usage())))

    def _failed(self, why: str) -> Failed:
        self._done = True
        return Failed(unusable(why))


def _reply(body: bytes) -> Reply:
    """Raises GatewayError (provider): the body is no answer, or an error."""
    try:
        found = loads(body)
    except BadJSON:
        found = None
    if isinstance(found, dict) and found.get("error"):
        raise failure_of(found)
    if not isinstance(found, dict) or not isinstance(found.get("content"), str):
        raise unusable("sent a reply without an answer")
    blocks: list[Block] = [Text(found["content"])]
    return Reply(blocks, _reason(found), usage_of(found, Usage()), model=_string(found, "model"))


def _reason(frame: Mapping[str, Any]) -> str:
    return "length" if frame.get("stop_type") == "limit" or frame.get("stopped_limit") is True else "stop"


def _string(frame: Mapping[str, Any], name: str) -> str | None:
    value = frame.get(name)
    return value if isinstance(value, str) and value else None
