"""Values of single fields of the Gemini wire: token counts, finish reasons, logprobs.

Knows: providers.md 2.5 and 3.5. Must not know: frames, requests.

    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 8, "thoughtsTokenCount": 23, …}
    "logprobsResult": {"chosenCandidates": [{"token": "Hi", "tokenId": 7, "logProbability": -0.25}],
                       "topCandidates": [{"candidates": [{"token": "Hi", "logProbability": -0.25}, …]}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...values import Reason, Usage

NAME = "gemini"

# Finish reasons that are no failure; every other one is read as "stop".
_REASONS: Mapping[str, Reason] = {
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",  # more could be asked for; nobody does
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "ESCALATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
# The model lost its way: an answer that ends so is one only if something had been said before.
BREAKDOWNS = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
    }
)


def reason_of(finish: str, called: bool) -> Reason:
    """There is no finish reason for calls: it is STOP after parts that are some."""
    reason = _REASONS.get(finish, "stop")
    return "tool_calls" if called and reason == "stop" else reason


def usage_of(counts: Mapping[str, Any]) -> Usage:
    """A count of 0 is left out on this wire, so what is missing beside a total is 0."""
    told = _count(counts, "promptTokenCount") is not None or _count(counts, "totalTokenCount") is not None
    if not told:
        return Usage()
    thoughts = _count(counts, "thoughtsTokenCount")
    return Usage(
        prompt=(_count(counts, "promptTokenCount") or 0) + (_count(counts, "toolUsePromptTokenCount") or 0),
        completion=(_count(counts, "candidatesTokenCount") or 0) + (thoughts or 0),
        cached=_count(counts, "cachedContentTokenCount"),
        reasoning=thoughts,
    )


def _count(counts: Mapping[str, Any], name: str) -> int | None:
    value = counts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def logprobs_of(candidate: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """{token, logprob, bytes, top_logprobs} for each token; this wire has no bytes, they are the token's UTF-8."""
    result = object_at(candidate, "logprobsResult")
    chosen = [item for item in list_at(result, "chosenCandidates") if _is_token(item)]
    tops = list_at(result, "topCandidates")
    items = []
    for position, item in enumerate(chosen):
        top = tops[position] if position < len(tops) and isinstance(tops[position], dict) else {}
        others = [_token(other) for other in list_at(top, "candidates") if _is_token(other)]
        items.append({**_token(item), "top_logprobs": others})
    return items or None


def _is_token(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("token"), str)
        and isinstance(item.get("logProbability", 0), int | float)
    )


def _token(item: Mapping[str, Any]) -> dict[str, Any]:
    token = item["token"]
    return {
        "token": token,
        "logprob": item.get("logProbability", 0),
        "bytes": list(token.encode("utf-8", "surrogatepass")),
    }


def object_at(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under `name`; an empty one if there is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def list_at(holder: Mapping[str, Any], name: str) -> list[Any]:
    value = holder.get(name)
    return value if isinstance(value, list) else []


def text_at(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""
