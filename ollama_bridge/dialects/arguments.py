"""Arguments of tool calls: the text a model wrote, as the object that some wires demand, and how much of it may wait.

Knows: how such texts are broken. Must not know: wires.

    '{"city": "Oslo"}'  ->  {"city": "Oslo"}        ''  ->  {}
    '{"city": "Os'      ->  {"city": "Os"}          '"{\\"a\\": 1}"'  ->  {"a": 1}
    '[1, 2]'            ->  {"arguments": [1, 2]}   'Oslo'  ->  {"arguments": "Oslo"}
"""

from __future__ import annotations

from typing import Any

from ..errors import GatewayError, Scope
from ..framing import MAX_FRAME, BadJSON, loads
from .go.json import parse

WRAPPED = "arguments"
HELD_AT_MOST = MAX_FRAME  # bytes of the tool calls of one answer


class Room:
    """For what a writer holds back of the tool calls of one answer, where the wire wants them whole."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = HELD_AT_MOST

    def take(self, text: str) -> None:
        """Raises GatewayError (provider) when there is none left."""
        self._left -= len(text)
        if self._left < 0:
            raise GatewayError(
                f"the provider's answer has tool calls of more than {HELD_AT_MOST} bytes",
                status=502, scope=Scope.PROVIDER,
            )  # fmt: skip


def as_object(text: str) -> dict[str, Any]:
    """Key order is kept. Text that is no object is repaired where the meaning is plain, else wrapped. Never raises."""
    if not text or text.isspace():
        return {}
    found = _value(text)
    if isinstance(found, str):
        inner = _value(found)
        found = inner if isinstance(inner, dict) else found
    if isinstance(found, dict):
        return found
    return {} if found is None else {WRAPPED: found}


def _value(text: str) -> Any:
    """JSON, JSON with a tail, JSON that was cut off, or the text itself."""
    try:
        return loads(text)
    except BadJSON:
        pass
    for candidate in (text, _closed(text)):
        try:
            return parse(candidate.encode("utf-8", "replace"))
        except GatewayError:
            continue
    return text


def _closed(text: str) -> str:
    """The text with what is still open closed: a string, then lists and objects from the inside out."""
    closers: list[str] = []
    in_string = escaped = False
    for c in text:
        if escaped:
            escaped = False
        elif in_string:
            escaped = c == "\\"
            in_string = c != '"'
        elif c == '"':
            in_string = True
        elif c in "{[":
            closers.append("}" if c == "{" else "]")
        elif c in "}]" and closers:
            closers.pop()
    if escaped:
        text = text[:-1]
    if in_string:
        text += '"'
    text = text.rstrip().rstrip(",")
    if text.endswith(":"):
        text += "null"
    return text + "".join(reversed(closers))
