"""Errors of the Messages wire.

Knows: their shape and types (providers.md 6.2, 6.3). Must not know: streams, which provider answers.

    {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ...errors import GatewayError, Scope, WireError, classify
from ...framing import BadJSON, loads
from .fields import text_of

_LONGEST = 2000  # characters of a provider's words that are passed on
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# Statuses whose meaning does not depend on who answered: the provider's own words are the whole message.
_TOLD = frozenset({400, 409, 413, 429, 529})
_KEY = frozenset({401, 402, 403})

# "max_tokens: 5 > 4, which is …", "thinking.type.disabled: …": words that begin with the parameter they are about.
_PARAMETER = re.compile(r"([a-z_]+(?:\.\w+)*): ")


def read_error(headers: Mapping[str, str], body: bytes) -> WireError:
    """The body of an answer with a status of 400 or above. What is not JSON is kept when it is one short line of plain
    text, never as a page of HTML. `retry-after` is in seconds on this wire."""
    try:
        error = error_of(loads(body))
    except BadJSON:
        error = WireError(_short_line(headers, body))
    error.retry_after = _seconds(headers.get("retry-after", ""))
    return error


def error_of(body: Any) -> WireError:
    """An error object, alone or in its envelope. Compatible servers also send `{"error": "text"}`."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, str):
        return WireError(inner.strip()[:_LONGEST])
    if not isinstance(inner, dict):
        return WireError()
    message = text_of(inner, "message").strip()[:_LONGEST]
    details = inner.get("details")
    named = _PARAMETER.match(message)
    return WireError(
        message=message,
        type=text_of(inner, "type") or None,
        code=(text_of(details, "error_code") if isinstance(details, dict) else text_of(inner, "code")) or None,
        param=named[1] if named else None,
        detail=inner,
    )


def _short_line(headers: Mapping[str, str], body: bytes) -> str:
    text = body[:400].decode("utf-8", "replace").strip()
    plain = headers.get("content-type", "text/plain").startswith(("text/plain", "application/json"))
    return text if plain and len(text) <= 200 and "\n" not in text and not text.startswith("<") else ""


def _seconds(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def failure_of(body: Any) -> GatewayError:
    """The error that a provider reports in an answer it had begun with status 200. Which provider it is the caller
    knows; `provider` is left open."""
    error = error_of(body)
    status = _STATUSES.get(error.type or "", 500)
    if status in _TOLD and error.message:
        failure = classify("", status, error, "")
        failure.provider = None
        if failure.scope is not Scope.KEY:
            return failure
        status = 402
    return GatewayError(
        error.message or "the provider reported an error without any words",
        status=504 if status == 504 else 502,
        scope=Scope.KEY if status in _KEY else Scope.PROVIDER,
        code=error.code,
        param=error.param,
        upstream_status=status,
    )
