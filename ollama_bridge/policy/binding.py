"""One request bound to one target: what exactly goes out, and what is lost on the way.

Knows: the choice between relay and translation. Must not know: sockets, the concrete dialects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..dialects.base import Dialect, Loss, Profile
from ..errors import CONTEXT_LENGTH, GatewayError, refuse
from ..framing import dumps
from ..values import ChatRequest, EmbedRequest, Media, Message, ToolResult
from . import adapt as fitting
from . import pairing, trim
from .catalog import Model
from .continuity import Continuity, Keeper, last_asked
from .plans import Planned
from .ports import Exchange

Fetch = Callable[[str], Awaitable[Media]]


@dataclass(slots=True)
class Bound:
    """What one attempt sends. `relay`: the target speaks the client's dialect and nothing had to be changed.
    `kind` is the endpoint kind at the provider; `sent` are the top-level names of the body (for learning from a
    refusal). `cut_stops`: stop strings the gateway must find itself. `trimmed`: turns dropped to fit the window.
    `keeper` takes the answer where the target wants it back."""

    planned: Planned
    dialect: Dialect
    profile: Profile
    kind: str
    body: bytes
    sent: Mapping[str, Any]
    relay: bool
    losses: list[Loss]
    cut_stops: list[str]
    trimmed: int = 0
    keeper: Keeper | None = None


async def bind(
    exchange: Exchange,
    request: ChatRequest | EmbedRequest,
    model: Model,
    planned: Planned,
    dialect: Dialect,
    profile: Profile,
    fetch: Fetch,
    continuity: Continuity,
    strict_parameters: bool,
) -> Bound:
    """Raises GatewayError (caller): a picture cannot be fetched, or something would be lost and the operator forbids
    that."""
    if isinstance(request, EmbedRequest):
        return _bind_embed(exchange, request, planned, dialect, profile, strict_parameters)
    if request.think is False and "thinking" in model.capabilities:
        profile = profile.with_(reasons_by_default=True)  # unless it is told not to
    if model.max_output:
        profile = profile.with_(max_output=model.max_output)
    fitted = fitting.apply_defaults(request, model.defaults, profile)
    fitted, losses, changed = fitting.adapt(fitted, profile)
    changed = changed or fitted is not request or (model.resume and request.stream)  # a relay knows not what it says
    if model.drop_tools and "tools" not in model.capabilities:
        fitted, dropped = fitting.drop_tools(fitted)
        losses += dropped
        changed = changed or bool(dropped)
    keeper = None
    if profile.keeps:
        account = f"{planned.provider.base_url} {planned.target.model}"
        keeper = Keeper(continuity, account, last_asked(fitted.messages))
        fitted = msgspec.structs.replace(fitted, messages=continuity.restore(account, fitted.messages))
        changed = True  # a relayed answer is not read closely enough to be kept
    pairs_itself = fitting.reads_ollama_options(profile)  # a real Ollama needs no ids
    messages = fitted.messages if pairs_itself else pairing.pair(fitted.messages, profile.tool_ids)
    trimmed = 0
    if request.truncate and model.context_length and not pairs_itself:
        reserve = (fitted.sampling.max_tokens or 0) + trim.estimate_tools(fitted.tools)
        messages, trimmed = trim.trim(messages, model.context_length, reserve)
        changed = changed or trimmed > 0
    if not pairs_itself:
        _check_window(request, messages)
    needs_fetch = not profile.image_urls and any(m.url for m in _media(messages))
    losses = [*(Loss(name) for name in request.losses), *losses]

    if dialect.name == exchange.dialect.name and not changed and not needs_fetch:
        body = dialect.relay(exchange.body, planned.target.model, request)
        if body is not None:
            return Bound(planned, dialect, profile, exchange.kind, body, {}, True, [], [])

    if needs_fetch:
        messages = await _fetched(messages, fetch)
    fitted = msgspec.structs.replace(fitted, messages=messages)
    kind, value, encode_losses = dialect.encode(fitted, planned.target.model, profile)
    cut = fitting.stops_to_cut(fitted.sampling.stop, profile)
    losses += [loss for loss in encode_losses if not (cut and loss.name == "stop")]
    if losses and strict_parameters:
        raise _too_much_lost(request, losses)
    return Bound(planned, dialect, profile, kind, dumps(value), value, False, losses, cut, trimmed, keeper)


def _check_window(request: ChatRequest, messages: list[Message]) -> None:
    """num_ctx is never sent; with `truncate: false` a client means it as the limit (providers.md 3.2). Raises
    GatewayError."""
    window = request.sampling.num_ctx
    if request.truncate is not False or not window:
        return
    size = sum(map(trim.estimate_message, messages))
    if size > window:
        raise refuse(
            f"request ({size} tokens, estimated) exceeds the available context size ({window} tokens), "
            "try increasing it",
            code=CONTEXT_LENGTH,
        )


def _too_much_lost(request: ChatRequest | EmbedRequest, losses: list[Loss]) -> GatewayError:
    return refuse(f"model '{request.model}' cannot take: {in_words(losses)} (strict_parameters is on)")


def _bind_embed(
    exchange: Exchange,
    request: EmbedRequest,
    planned: Planned,
    dialect: Dialect,
    profile: Profile,
    strict_parameters: bool,
) -> Bound:
    request, losses, changed = fitting.adapt_embedding(request, profile)
    if dialect.name == exchange.dialect.name and not changed:
        body = dialect.relay(exchange.body, planned.target.model, request)
        if body is not None:
            return Bound(planned, dialect, profile, exchange.kind, body, {}, True, [], [])
    kind, value, encode_losses = dialect.encode(request, planned.target.model, profile)
    losses += encode_losses
    if losses and strict_parameters:
        raise _too_much_lost(request, losses)
    return Bound(planned, dialect, profile, kind, dumps(value), value, False, losses, [])


def _media(messages: list[Message]) -> list[Media]:
    found: list[Media] = []
    for message in messages:
        for block in message.blocks:
            if isinstance(block, Media):
                found.append(block)
            elif isinstance(block, ToolResult):
                found += [part for part in block.content if isinstance(part, Media)]
    return found


async def _fetched(messages: list[Message], fetch: Fetch) -> list[Message]:
    """The same conversation with every picture that was an address as data."""
    fetched: dict[str, Media] = {}
    for media in _media(messages):
        if media.url and media.url not in fetched:
            fetched[media.url] = await fetch(media.url)

    def data(block: Any) -> Any:
        if isinstance(block, Media) and block.url:
            return fetched[block.url]
        if isinstance(block, ToolResult):
            return msgspec.structs.replace(block, content=[data(part) for part in block.content])
        return block

    return [msgspec.structs.replace(m, blocks=[data(b) for b in m.blocks]) for m in messages]


def in_words(losses: list[Loss]) -> str:
    """For X-Bridge-Dropped: the names, each once."""
    return ", ".join(dict.fromkeys(loss.name for loss in losses))
