"""What requests, whole replies and stream frames of the Messages wire have in common: names, reasons, counts, ids.

Knows: Anthropic's words (providers.md 2.4, 3.4, 3.5). Must not know: frames, the order of events, profiles.

    {"input_tokens":5,"cache_read_input_tokens":90,"cache_creation_input_tokens":0,"output_tokens":7}
        -> Usage(95, 7, 90)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ...values import Usage, Vendor

NAME = "anthropic"
REDACTED = "redacted_thinking"

# Stop reasons of the wire -> our own; what is not here means "stop" (end_turn, stop_sequence, pause_turn).
_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def reason_of(word: object, called: bool) -> str:
    """`called`: there are tool calls in the answer; compatible servers end such a turn with other words as well."""
    reason = _REASONS.get(word, "stop") if isinstance(word, str) else "stop"
    return "tool_calls" if called and reason == "stop" else reason


# -- counts ------------------------------------------------------------------------------------------------------------


class Counts:
    """The counts of one answer. A stream tells them twice, first of the prompt, then cumulative: the larger holds, so
    that a service that repeats a count as 0 does not undo it."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def add(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        details = usage.get("output_tokens_details")
        thinking = details.get("thinking_tokens") if isinstance(details, dict) else None
        for name, value in [*((name, usage.get(name)) for name in _COUNTS), ("thinking_tokens", thinking)]:
            if type(value) is int and value >= 0:
                self._told[name] = max(value, self._told.get(name, 0))

    def usage(self) -> Usage:
        """The prompt is what was read anew, written to the cache and read from it: the three are disjoint here."""
        told = self._told
        prompt = [told[name] for name in _COUNTS[:3] if name in told]
        return Usage(
            prompt=sum(prompt) if prompt else None,
            completion=told.get("output_tokens"),
            cached=told.get("cache_read_input_tokens"),
            reasoning=told.get("thinking_tokens"),
        )


# -- blocks ------------------------------------------------------------------------------------------------------------


def vendor_of(block: Mapping[str, Any], *known: str) -> Vendor:
    """What a block carries beside the fields that have a value of ours."""
    extra = {name: value for name, value in block.items() if name not in known and value is not None}
    return {NAME: extra} if extra else {}


def tool_id(given: str) -> str:
    """The id as the wire takes it, the same for a call and its result: letters, digits, _ and - (providers.md 3.4)."""
    if _ID.fullmatch(given):
        return given
    return "toolu_" + hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def text_of(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""
