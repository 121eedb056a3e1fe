"""What the X-Bridge-* headers of an answer and the log say of a failure or of the provider.

Knows: header names, what may stand in a header, what may stand in the log. Must not know: wires, aiohttp.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from ..errors import INVALID_MODEL_NAME, GatewayError, Scope
from .ports import Exchange, Log

OF_TARGET = ("X-Bridge-Dropped", "X-Bridge-Trimmed", "X-Bridge-Upstream-Id")  # said of who answered, of no one before
OF_ATTEMPT = ("X-Bridge-Target", "X-Bridge-Attempts", *OF_TARGET)


def take_back(exchange: Exchange, names: tuple[str, ...]) -> None:
    for name in names:
        exchange.notes.pop(name, None)


def note_error(exchange: Exchange, error: GatewayError) -> None:
    """What the X-Bridge-* headers say of a failure."""
    notes = exchange.notes
    if error.reason:
        notes["X-Bridge-Reason"] = header_text(error.reason)
    if error.upstream_id:
        notes["X-Bridge-Upstream-Id"] = header_text(error.upstream_id)
    if error.near:
        notes["X-Bridge-Near"] = header_text(", ".join(error.near))


def log_failure(log: Log, exchange: Exchange, error: GatewayError, name: str) -> None:
    """Without the error's words: they may quote the request. `name`: the model that was asked for."""
    told: dict[str, object] = {
        "request_id": exchange.request_id, "path": exchange.path, "provider": error.provider,
        "model": None if error.code == INVALID_MODEL_NAME else name, "scope": error.scope.value,
        "status": error.status, "upstream_status": error.upstream_status, "upstream_id": error.upstream_id,
    }  # fmt: skip
    if error.scope is Scope.CALLER:
        log.info("refused", **told, code=error.code, near=error.near)
    else:
        log.warning("request failed", **told)


def log_bug(log: Log, exchange: Exchange, error: Exception) -> None:
    """Type and place are enough to find it; its own text may quote a prompt."""
    log.error(
        "handler failed",
        request_id=exchange.request_id, route=exchange.path, error=type(error).__name__,
        traceback="".join(traceback.format_tb(error.__traceback__)),
    )  # fmt: skip


def header_text(words: str, limit: int = 300) -> str:
    """Text that may stand in a header: printable ASCII, no line ends, not long."""
    if words.isascii() and words.isprintable():
        return words[:limit]
    return "".join(c if " " <= c <= "~" else "?" for c in words)[:limit]


def upstream_request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own id of the request, for the log and X-Bridge-Upstream-Id (providers.md 6.1)."""
    found = headers.get("x-request-id") or headers.get("request-id")
    return header_text(found) if found else None


def name_provider(error: GatewayError, name: str) -> None:
    """A dialect does not know whose wire it reads: its words begin with "the provider", and the name is put in here."""
    if error.provider is None:
        error.provider = name
        if error.message.startswith("the provider"):
            error.message = f"provider '{name}'" + error.message.removeprefix("the provider")
