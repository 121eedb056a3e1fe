"""Errors in Ollama's words, and Ollama's errors read.

Knows: the texts by endpoint and the content types (ollama-protocol.md 0.2 and 2.0). Must not know: statuses' reasons.

    {"error":"model 'llama3' not found"}                                   chat, generate
    {"error":"model \\"llama3\\" not found, try pulling it first"}           embed, embeddings
    {"error":"registry.ollama.ai/library/llama3:latest does not support tools"}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ...errors import (
    CONTEXT_LENGTH,
    INVALID_MODEL_NAME,
    MODEL_NOT_FOUND,
    NO_CHAT,
    NO_INSERT,
    NO_THINKING,
    NO_TOOLS,
    GatewayError,
    Scope,
    WireError,
)
from ...framing import BadJSON, go_dumps, loads
from ...names import parse_name
from ..base import EMBED, EMBED_ONE, GENERATE, Answer
from ..go.scan import quote

JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"

_FULL = {NO_TOOLS: "tools", NO_INSERT: "insert"}  # these two print the fully qualified name


def incapable(kind: str, code: str, name: str) -> str:
    """What a model cannot do. `name`: as asked, or as displayed where the fully qualified name is printed."""
    if code in _FULL:
        parsed = parse_name(name)
        return f"{parsed.full if parsed else name} does not support {_FULL[code]}"
    if code == NO_THINKING:
        return f"{quote(name)} does not support thinking"
    return f"{quote(name)} does not support {'generate' if kind == GENERATE else 'chat'}"


def not_found(kind: str, name: str) -> str:
    """An unknown model, by endpoint: some quote it otherwise, show adds the tag."""
    if kind in (EMBED, EMBED_ONE):
        return f"model {quote(name)} not found, try pulling it first"
    if kind == "copy":
        return f"model {quote(name)} not found"
    parsed = parse_name(name) if kind == "show" else None
    return f"model '{parsed.shown if parsed else name}' not found"


def words(kind: str, error: GatewayError) -> str:
    if error.model is not None:
        if error.code == MODEL_NOT_FOUND:
            return not_found(kind, error.model)
        if error.code in (NO_TOOLS, NO_INSERT, NO_THINKING, NO_CHAT):
            return incapable(kind, error.code, error.model)
        if error.code == INVALID_MODEL_NAME and kind == "delete":
            return f"name {quote(error.model)} is invalid"
    if error.code == CONTEXT_LENGTH and kind in (EMBED, EMBED_ONE):
        return "the input length exceeds the context length"
    return error.message


def write_error(kind: str, error: GatewayError, stream: bool) -> Answer:
    """An error of the request itself has a charset; one of the started job of a stream has none and comes chunked."""
    started = stream and not error.early and error.code != MODEL_NOT_FOUND
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(0, math.ceil(error.retry_after)))
    return Answer(error.status, JSON if started else JSON_UTF8, error_object(kind, error), headers, chunked=started)


def error_object(kind: str, error: GatewayError) -> bytes:
    return go_dumps({"error": words(kind, error)})


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> WireError:
    """`{"error": words}`; the engine's own error object often stands as text inside those words. What a model cannot do
    is told by its code, so that the words name it as the client did; `write_error` says what a charset means."""
    error = _wire_error(body)
    error.retry_after = _seconds(headers.get("retry-after"))
    error.early = "charset" in headers.get("content-type", "")
    if unable := _UNABLE.fullmatch(error.message):
        error.code = _CODES[unable[1]]
    if not error.message:
        error.message = f"HTTP {status}"
    if status >= 500 and _CLIENTS_MISTAKE.match(error.message):
        error.status = 400
    return error


_CODES = {"tools": NO_TOOLS, "insert": NO_INSERT, "thinking": NO_THINKING, "chat": NO_CHAT, "generate": NO_CHAT}
_UNABLE = re.compile(rf".+ does not support ({'|'.join(_CODES)})", re.S)

# What a real Ollama finds late, and answers with a 500 or 501 (ollama-protocol.md 2.2, 2.3, 2.7).
_CLIENTS_MISTAKE = re.compile(
    r'option ".*" must be of |invalid format: |template: |This server does not support embeddings'
)


def _wire_error(body: bytes) -> WireError:
    try:
        value = loads(body)
    except BadJSON:
        return WireError(body[:500].decode("utf-8", "replace").strip())
    return error_of(value.get("error") if isinstance(value, dict) else value)


def error_of(value: Any) -> WireError:
    """What stands under `error`: words, an object, or an object as text."""
    if isinstance(value, str):
        try:
            inner = loads(value) if value.startswith("{") else None
        except BadJSON:
            inner = None
        if not isinstance(inner, dict):
            return WireError(value)
        value = inner.get("error", inner)
        if isinstance(value, str):
            return WireError(value)
    if not isinstance(value, dict):
        return WireError()
    kind, code = value.get("type"), value.get("code")
    return WireError(
        message=str(value.get("message") or value.get("error") or ""),
        type=kind if isinstance(kind, str) else None,
        code=code if isinstance(code, str) else None,
        detail=value,
    )


def failure(value: Any) -> GatewayError:
    """An error that came inside an answer of status 200."""
    error = error_of(value)
    return GatewayError(error.message or "the model runner failed", status=502, scope=Scope.PROVIDER, code=error.code)


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text else math.nan
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
