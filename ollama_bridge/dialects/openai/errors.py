"""Error bodies of OpenAI's wire, as services answer with a status of 400 or above.

Knows: where the words stand, and when to come back. Must not know: what a status means.
"""

from __future__ import annotations

import email.utils
import math
from collections.abc import Mapping

from ...errors import WireError
from ...framing import BadJSON, loads
from .fields import error_of

JSON = "application/json"


def read_error(headers: Mapping[str, str], body: bytes) -> WireError:
    """The body of an answer with a status of 400 or above. What is not JSON is kept when it is one short line of plain
    text, never as a page of HTML."""
    try:
        error = error_of(loads(body))
    except BadJSON:
        error = WireError(_short_line(headers, body))
    error.retry_after = _retry_after(headers)
    return error


def _short_line(headers: Mapping[str, str], body: bytes) -> str:
    text = body[:400].decode("utf-8", "replace").strip()
    plain = headers.get("content-type", "text/plain").startswith(("text/plain", JSON))
    return text if plain and len(text) <= 200 and "\n" not in text and not text.startswith("<") else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds: `retry-after-ms`, or `retry-after` as a number or as a date (measured from the answer's own)."""
    milliseconds, seconds = _number(headers.get("retry-after-ms")), _number(headers.get("retry-after"))
    if milliseconds is not None:
        return milliseconds / 1000
    if seconds is not None or "retry-after" not in headers:
        return seconds
    try:
        until = email.utils.parsedate_to_datetime(headers["retry-after"])
        return max(0.0, (until - email.utils.parsedate_to_datetime(headers["date"])).total_seconds())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
