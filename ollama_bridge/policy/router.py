"""Which targets may be asked, in which order, and why. Pure.

Knows: Facts, models, whether a provider is local or off. Must not know: wire bodies, SDK objects, clocks.

Privacy filters first: a strict request's plan holds no target that leaves our machines, so that walking the plan
cannot leak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..dialects.base import Facts
from ..errors import GatewayError, Scope, refuse
from ..providers.base import Provider
from ..values import ChatRequest, EmbedRequest, Media, ToolResult
from .catalog import Model, Target


@dataclass(frozen=True, slots=True)
class Planned:
    target: Target
    provider: Provider
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Targets in the order to be asked; `left_out` says why others are not in it."""

    targets: tuple[Planned, ...]
    left_out: tuple[tuple[Target, str], ...] = ()


def facts_of(kind: str, request: ChatRequest | EmbedRequest) -> Facts:
    """What policy may know of a request; nothing of its words."""
    if isinstance(request, EmbedRequest):
        return Facts(request.model, kind, stream=False, privacy=request.privacy)
    media = [
        part
        for message in request.messages
        for block in message.blocks
        for part in (block.content if isinstance(block, ToolResult) else [block])
        if isinstance(part, Media)
    ]
    return Facts(
        model=request.model,
        kind=kind,
        stream=request.stream,
        tools=bool(request.tools),
        images=bool(media),
        image_urls=any(part.url for part in media),
        thinking=bool(request.think),
        format=request.format is not None,
        logprobs=request.logprobs,
        suffix=request.suffix is not None,
        privacy=request.privacy,
        task=request.task,
    )


def plan(facts: Facts, model: Model, providers: Mapping[str, Provider]) -> Plan:
    """Raises GatewayError: an unknown privacy word (400); nothing local for a strict request, or a picture that would
    have to be fetched for one (400); every target's provider is off (500, with what to do)."""
    if facts.privacy not in (None, "strict", "flexible"):
        raise refuse(f"unknown privacy_mode '{facts.privacy}': use strict or flexible", param="privacy_mode")
    chosen: list[Planned] = []
    left_out: list[tuple[Target, str]] = []
    off: str | None = None
    for target in model.targets:
        provider = providers[target.provider]
        why = _leaving(target, provider) if facts.privacy == "strict" else None
        if why is not None:
            left_out.append((target, why))
        elif provider.off is not None:
            off = off or provider.off
            left_out.append((target, provider.off))
        else:
            chosen.append(Planned(target, provider, "named by the model map"))
    if chosen and facts.privacy == "strict" and facts.image_urls:
        raise refuse(
            "privacy_mode is strict, and a picture is named by its address: fetching it would tell others; send the "
            "picture itself",
            param="privacy_mode",
        )
    if chosen:
        return Plan(tuple(chosen), tuple(left_out))
    if off is None:
        raise refuse(f"privacy_mode is strict, and model '{facts.model}' {left_out[0][1]}", param="privacy_mode")
    raise GatewayError(off or "no target", status=500, scope=Scope.NO_KEY, provider=model.targets[0].provider)


def _leaving(target: Target, provider: Provider) -> str | None:
    """Why a strict request must not go there; None when it stays on our machines."""
    if not provider.local:
        return "is answered by a provider that is not local"
    if target.remote:
        return "is a cloud model of a real Ollama"
    if target.remote is None:
        return "is not known to run on this machine"
    return None
