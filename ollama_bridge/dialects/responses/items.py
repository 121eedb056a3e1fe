"""Output items of the Responses wire, its usage and its errors: what whole replies and streams have in common.

Knows: providers.md 2.3 and 3.5. Must not know: requests, frames, the order of events.

    {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"gAAA…"}
    {"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Hello","logprobs":[]}]}
    {"type":"function_call","id":"fc_1","call_id":"call_1","name":"get_time","arguments":"{}"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import GatewayError
from ...values import Usage, Vendor
from ..openai.fields import failure_of, logprobs_of

NAME = "responses"
PARAGRAPH = "\n\n"  # between the parts of a summary (providers.md 2.3)

MESSAGE = "message"
REASONING = "reasoning"
CALL = "function_call"

# Why a response is incomplete. What is not here is a cut as well, and a cut answer must not look complete.
_INCOMPLETE = {"content_filter": "content_filter"}

# Codes of failures that the caller's own input causes; another target would fail in the same way.
_CALLERS = re.compile(r"invalid_|image_|unsupported_|empty_image|failed_to_download|bio_policy|misalignment_|context_")
_STATUSES = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "overloaded": 529, "server_is_overloaded": 529}


def said_in(item: Mapping[str, Any]) -> str:
    """All text of a message; a refusal is text."""
    parts = _objects(item.get("content"))
    return "".join(string(part, "text") or string(part, "refusal") for part in parts)


def refuses(item: Mapping[str, Any]) -> bool:
    return any(part.get("type") == "refusal" for part in _objects(item.get("content")))


def logprobs_in(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for part in _objects(item.get("content")) for each in logprobs(part) or []]


def thought_in(item: Mapping[str, Any]) -> str:
    """The parts of the summary, then raw reasoning, which only open models tell."""
    parts = [*_objects(item.get("summary")), *_objects(item.get("content"))]
    return PARAGRAPH.join(text for part in parts if (text := string(part, "text")))


def reasoning_vendor(item: Mapping[str, Any]) -> Vendor:
    """What has to be sent back with the next turn: the item as it came. Nothing where it holds no more than an id and
    a summary: of a response that was not stored a provider knows no ids."""
    if not (item.get("encrypted_content") or item.get("content")):
        return {}
    return {NAME: {name: value for name, value in item.items() if name != "status"}}


def logprobs(holder: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The items of a part or a delta. Deltas leave the bytes of a token out."""
    found = logprobs_of({"logprobs": {"content": holder.get("logprobs")}})
    return [with_bytes(each) for each in found] if found else None


def with_bytes(each: dict[str, Any]) -> dict[str, Any]:
    told = {"bytes": list(str(each.get("token", "")).encode("utf-8", "replace")), **each}
    top = each.get("top_logprobs")
    if isinstance(top, list):
        told["top_logprobs"] = [with_bytes(other) for other in top if isinstance(other, dict)]
    return told


def reason_of(response: Mapping[str, Any], calls: bool, refused: bool) -> str:
    """Our reason for the end of a response that has not failed. A refusal is text: only the reason tells it apart."""
    if response.get("status") == "incomplete":
        details = response.get("incomplete_details")
        return _INCOMPLETE.get(string(details, "reason") if isinstance(details, dict) else "", "length")
    if refused:
        return "content_filter"
    return "tool_calls" if calls else "stop"


def usage_of(response: Mapping[str, Any]) -> Usage:
    usage = response.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Usage(
        prompt=_count(usage, "input_tokens"),
        completion=_count(usage, "output_tokens"),
        cached=_count(usage.get("input_tokens_details"), "cached_tokens"),
        reasoning=_count(usage.get("output_tokens_details"), "reasoning_tokens"),
    )


def failure(error: Any) -> GatewayError:
    """The error of a failed response, or of an `error` event, whose words may stand inside it or beside its type. The
    status it would have had tells the router what to do; the wire has only a code."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    if not isinstance(error, dict):
        return failure_of({"error": error})
    code = string(error, "code") or string(error, "type")
    status = _STATUSES.get(code) or (400 if _CALLERS.match(code) else None)
    told = {name: value for name, value in error.items() if name != "type" or value != "error"}
    return failure_of({"error": told if status is None else {**told, "status_code": status}})


def string(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _count(holder: Any, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return int(value)
