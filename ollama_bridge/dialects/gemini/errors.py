"""Errors of the Gemini wire, read.

Knows: Google's error object (providers.md 6.2), alone, in a list of one, and inside a stream. Must not know: which
provider answers, what is done about an error.

    {"error": {"code": 429, "message": "…", "status": "RESOURCE_EXHAUSTED", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48s"}]}}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ...errors import CONTENT_FILTER, GatewayError, Scope, WireError, reported
from ...framing import BadJSON, loads
from .fields import list_at, object_at, text_at
from .words import FORMAT_WITH_TOOLS, THINK_OFF, UNSIGNED_CALLS, WORDS

_LONGEST = 2000  # characters of a provider's words that are passed on
# How the service says that a model does not take something -> words of Profile.rejects. The sentences are those of its
# refusals; none of them names the parameter as it was sent.
_REFUSALS = (
    (re.compile(r"\blogprobs? is not (enabled|supported)", re.I), {"logprobs"}),
    (re.compile(r"\bpenalty is not (enabled|supported)", re.I), {"presence_penalty", "frequency_penalty"}),
    (re.compile(r"function calling with a response mime type", re.I), {FORMAT_WITH_TOOLS}),
    (re.compile(r"missing a .?thought_signature", re.I), {UNSIGNED_CALLS}),
    (re.compile(r"only works in thinking mode|\bbudget 0 is invalid|setting thinking_budget to 0", re.I), {THINK_OFF}),
    (re.compile(r"\bthinking( level| budget|_config)?\b.{0,16}\b(is )?not (supported|enabled)", re.I), {"think"}),
)  # fmt: skip
_UNKNOWN_NAME = re.compile(r"Unknown name \"(\w+)\"")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s?")


def read_error(headers: Mapping[str, str], body: bytes) -> WireError:
    """The body of an answer with a status of 400 or above. What is not JSON is kept when it is one short line of plain
    text, never as a page of HTML. The time to wait is the body's own, else the header's."""
    try:
        error = error_of(loads(body))
    except BadJSON:
        error = WireError(_short_line(headers, body))
    if error.retry_after is None:
        error.retry_after = _seconds(headers.get("retry-after", ""))
    return error


def error_of(body: Any) -> WireError:
    """`type` is Google's status word, `code` the reason of its ErrorInfo (API_KEY_INVALID), `param` the first field
    that it finds at fault, `detail` the error object."""
    if isinstance(body, list):
        return error_of(body[0]) if body and isinstance(body[0], dict) else WireError()
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, str):
        return WireError(inner.strip()[:_LONGEST])
    if not isinstance(inner, dict):
        return WireError()
    error = WireError(
        message=text_at(inner, "message").strip()[:_LONGEST], type=text_at(inner, "status") or None, detail=inner
    )
    for detail in list_at(inner, "details"):
        if isinstance(detail, dict):
            _take(detail, error)
    error.refused = _refused(error.message)
    return error


def _refused(message: str) -> frozenset[str]:
    for sentence, words in _REFUSALS:
        if sentence.search(message):
            return frozenset(words)
    unknown = _UNKNOWN_NAME.search(message)
    word = WORDS.get(unknown[1]) if unknown else None
    return frozenset({word}) if word else frozenset()


def _take(detail: dict[str, Any], error: WireError) -> None:
    kind = text_at(detail, "@type").rpartition(".")[2]
    if kind == "ErrorInfo":
        error.code = text_at(detail, "reason") or None
    elif kind == "RetryInfo":
        error.retry_after = _seconds(text_at(detail, "retryDelay"))
    elif kind == "BadRequest" and error.param is None:
        violations = [each for each in list_at(detail, "fieldViolations") if isinstance(each, dict)]
        error.param = next((field for each in violations if (field := text_at(each, "field"))), None)


def _seconds(text: str) -> float | None:
    match = _SECONDS.fullmatch(text.strip())
    return float(match[1]) if match and math.isfinite(float(match[1])) else None


def _short_line(headers: Mapping[str, str], body: bytes) -> str:
    text = body[:400].decode("utf-8", "replace").strip()
    plain = headers.get("content-type", "text/plain").startswith(("text/plain", "application/json"))
    return text if plain and len(text) <= 200 and "\n" not in text and not text.startswith("<") else ""


def failure_of(body: Any) -> GatewayError:
    """The error that a provider reports in an answer that it had begun with status 200. Which provider it is the caller
    knows; `provider` is left open."""
    error = error_of(body)
    code = error.detail.get("code")
    status = code if isinstance(code, int) else 0
    return reported(error, status)


def blocked(feedback: Mapping[str, Any]) -> GatewayError:
    """A prompt that was refused as such (`promptFeedback`): no other target would be asked to answer it."""
    why = text_at(feedback, "blockReasonMessage") or text_at(feedback, "blockReason")
    return GatewayError(f"the provider blocked the prompt: {why}", status=400, scope=Scope.CALLER, code=CONTENT_FILTER)


def is_error(body: Any) -> bool:
    """Whether a JSON value is an error object where an answer should be."""
    if isinstance(body, list):
        return bool(body) and is_error(body[0])
    return isinstance(body, dict) and bool(object_at(body, "error") or text_at(body, "error"))
