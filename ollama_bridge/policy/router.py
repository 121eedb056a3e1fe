"""Which targets may be asked, in which order, and why. Pure.

Knows: Facts, models, which accounts are local, off or resting. Must not know: wire bodies, SDK objects, clocks.

    named provider -> privacy -> off -> abilities      take targets out, each with a reason
    strategy -> the conversation's own -> thinking     put the rest in order
    health                                             puts who rests behind who does not

Privacy is a filter: a strict request's plan holds no target that leaves our machines, so that walking the plan cannot
leak. What is left of a plan is never empty: plan() raises instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..dialects.base import EMBED, EMBED_ONE, Facts
from ..errors import GatewayError, Scope, refuse
from ..framing import dumps
from ..providers.base import Provider
from ..values import ChatRequest, EmbedRequest, Media, Opaque, ToolResult
from .catalog import Model, Target
from .families import PREFILL, family_profile
from .plans import Plan, Planned
from .strategies import STRATEGIES, Health

Accounts = Mapping[str, Sequence[Provider]]  # by the provider's name; one for each of its keys

NAMED_AT_MOST = 5  # local models that a refusal names

# -- what a request needs ----------------------------------------------------------------------------------------------


def facts_of(kind: str, request: ChatRequest | EmbedRequest) -> Facts:
    """What policy may know of a request; nothing of its words."""
    if isinstance(request, EmbedRequest):
        return Facts(
            request.model, kind, stream=False, privacy=request.privacy, task=request.task, provider=request.provider
        )
    media: list[Media] = []
    addressed = False  # by a part that is passed on as it came, a video or a file
    for message in request.messages:
        for block in message.blocks:
            if type(block) is Media:
                media.append(block)
            elif type(block) is ToolResult:
                media += [part for part in block.content if type(part) is Media]
            elif type(block) is Opaque:
                addressed = addressed or b"://" in dumps(block.payload)
    last = request.messages[-1] if request.messages else None
    return Facts(
        model=request.model,
        kind=kind,
        stream=request.stream,
        tools=bool(request.tools),
        images=any(part.kind == "image" for part in media),
        image_urls=addressed or any(part.url for part in media),
        audio=any(part.kind == "audio" for part in media),
        prefill=last is not None and last.role == "assistant" and bool(last.text()),
        thinking=bool(request.think),
        format=request.format is not None,
        logprobs=request.logprobs,
        suffix=bool(request.suffix),
        privacy=request.privacy,
        task=request.task,
        provider=request.provider,
    )


def needs(facts: Facts) -> list[str]:
    """The capability words that a target cannot do without. Thinking is none of them: who cannot think can answer."""
    if facts.kind in (EMBED, EMBED_ONE):
        return ["embedding"]
    wanted = (("tools", facts.tools), ("vision", facts.images), ("audio", facts.audio), ("insert", facts.suffix))
    return ["completion", *[word for word, needed in wanted if needed]]


_LACKS = {"embedding": "makes no embeddings", "completion": "is no chat model", "insert": "fills in no text",
          "tools": "takes no tools", "vision": "sees no pictures", "audio": "hears nothing"}  # fmt: skip


# -- the plan ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Candidate:
    """`asked`: the model with what is known of this target."""

    target: Target
    model: Model
    accounts: Sequence[Provider]
    asked: Model

    def lacks(self, words: Iterable[str]) -> str | None:
        """What the request needs and this target does not have; None when it has all."""
        for word in words:
            if word not in self.asked.capabilities and not (word == "tools" and self.asked.drop_tools):
                return _LACKS[word]
        return None

    def takes_prefill(self, preset: str) -> bool:
        """`preset`: the row that the provider was made from, "" for none."""
        return PREFILL not in family_profile(self.accounts[0].profile, preset, self.target.model).rejects


def plan(
    facts: Facts,
    model: Model,
    accounts: Accounts,
    health: Health,
    chance: Callable[[], float],
    prefer: tuple[str, int] | None = None,
    here: Callable[[], Iterable[str]] = tuple,
    presets: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """`facts.privacy` is decided: "strict", or anything may be asked but what its own model keeps here. `chance` gives
    numbers from 0 to below 1. `prefer`: the target and account that served the conversation before. `here` names local
    models that could serve the request; it is asked only for a refusal. `presets`: the row that a provider was made
    from, by its name.

    Raises GatewayError: nothing local for a strict request, or a file that would have to be fetched for one (403);
    no target at the provider that the client names (400); every target's provider is off (500, with what to do)."""
    strict = facts.privacy == "strict"
    left_out: list[tuple[Target, str]] = []
    off: str | None = None
    models = (model, *model.then)
    candidates = [
        _Candidate(target, each, accounts[target.provider], each.asked[at] if each.asked else each)
        for each in models
        for at, target in enumerate(each.targets)
        if facts.provider in (None, target.provider)
    ]
    if not candidates:
        raise refuse(f"model '{model.name}' has no target at provider '{facts.provider}'", param="provider")
    allowed: list[_Candidate] = []
    for candidate in candidates:
        provider = candidate.accounts[0]
        why = _leaving(candidate.target, provider) if strict or candidate.model.strict else None
        if why is None and candidate.model.strict and facts.image_urls and not strict:
            why = "is strict, and a picture or file would have to be fetched"
        if why is None and provider.off is not None:
            why, off = provider.off, off or provider.off
        if why is None:
            allowed.append(candidate)
        else:
            left_out.append((candidate.target, why))
    if not allowed:
        if strict or off is None:
            why = f"model '{facts.model or model.name}' {left_out[0][1]}" if off is None else off
            raise not_here(why, here())
        raise GatewayError(off, status=500, scope=Scope.NO_KEY, provider=candidates[0].target.provider)
    if strict and facts.image_urls:
        raise refuse(
            "privacy_mode is strict, and a picture or file is named by its address: fetching it would tell others; "
            "send what it holds",
            status=403,
            param="privacy_mode",
        )
    if len(allowed) == 1 and len(allowed[0].accounts) == 1:
        only = allowed[0]
        return Plan(
            (Planned(only.target, only.accounts[0], _ONLY, only.asked),), only.target, model.name, tuple(left_out)
        )
    able = _able(facts, allowed, left_out, presets)
    order = _in_order(facts, able, health, chance, prefer)
    return Plan(_awake_first(order, health), order[0].target, model.name, tuple(left_out))


_ONLY = "the only one"


def not_here(why: str, here: Iterable[str]) -> GatewayError:
    """A strict request that nothing on our machines can answer: it fails closed."""
    names = tuple(here)[:NAMED_AT_MOST]
    could = f"local models that could serve it: {', '.join(names)}" if names else "no local model could serve it"
    error = refuse(f"privacy_mode is strict, and {why}; {could}", status=403, param="privacy_mode")
    error.near = names
    return error


def _leaving(target: Target, provider: Provider) -> str | None:
    """Why a strict request must not go there; None when it stays on our machines."""
    if not provider.local:
        return "is answered by a provider that is not local"
    if target.remote:
        return "is a cloud model of a real Ollama"
    if target.remote is None:
        return "is not known to run on this machine"
    return None


def is_here(model: Model, accounts: Accounts) -> bool:
    """Whether a strict request to this model would find a target."""
    return any(
        provider.off is None and _leaving(target, provider) is None
        for target in model.targets
        for provider in accounts[target.provider][:1]
    )


def _able(
    facts: Facts, allowed: list[_Candidate], left_out: list[tuple[Target, str]], presets: Mapping[str, str]
) -> list[_Candidate]:
    """Those that have what the request needs. When none has, the first alone: its dialect words the refusal, and a
    fallback that lacks something is never tried."""
    words = needs(facts)
    able, unable = [], []
    for candidate in allowed:
        why = candidate.lacks(words)
        if why is None and facts.prefill and not candidate.takes_prefill(presets.get(candidate.target.provider, "")):
            why = "does not continue an answer that was begun"
        if why is None:
            able.append(candidate)
        else:
            unable.append((candidate, why))
    if not able:
        able.append(unable.pop(0)[0])
    left_out += [(candidate.target, why) for candidate, why in unable]
    return able


def _in_order(
    facts: Facts,
    able: list[_Candidate],
    health: Health,
    chance: Callable[[], float],
    prefer: tuple[str, int] | None,
) -> list[Planned]:
    """Each model's targets by its strategy, models one after the other; who thinks goes first where thoughts are asked
    for."""
    order: list[Planned] = []
    for own in _by_model(able):
        strategy = STRATEGIES[own[0].asked.strategy]
        steps = [_by_account(candidate, strategy.reason, health, chance, prefer) for candidate in own]
        ranked = strategy.rank(steps, health, chance) if len(steps) > 1 else steps
        if prefer is not None and strategy.sticks:
            ranked.sort(key=lambda step: str(step[0].target) != prefer[0])
        for step in ranked:
            order += step
    if facts.thinking:
        order.sort(key=lambda planned: "thinking" not in planned.model.capabilities)
    return order


def _by_model(able: list[_Candidate]) -> list[list[_Candidate]]:
    if able[0].model is able[-1].model:  # they come one model after the other
        return [able]
    groups: dict[int, list[_Candidate]] = {}
    for candidate in able:
        groups.setdefault(id(candidate.model), []).append(candidate)
    return list(groups.values())


def _by_account(
    candidate: _Candidate,
    reason: str,
    health: Health,
    chance: Callable[[], float],
    prefer: tuple[str, int] | None,
) -> list[Planned]:
    """One target, by each of its provider's accounts: the conversation's own first, then the least busy."""
    target, model, accounts = candidate.target, candidate.asked, candidate.accounts
    if len(accounts) == 1:
        found = [Planned(target, accounts[0], reason, model)]
    else:
        found = [Planned(target, provider, reason, model, account) for account, provider in enumerate(accounts)]
        start = int(chance() * len(found))
        found = found[start:] + found[:start]
        found.sort(key=lambda planned: health.busy(planned.gates[1]))
    if prefer is not None and prefer[0] == str(target):
        found.sort(key=lambda planned: planned.account != prefer[1])
        found[0] = replace(found[0], reason="served this conversation before")
    return found


def _awake_first(order: list[Planned], health: Health) -> tuple[Planned, ...]:
    """Who rests after failures goes behind who does not."""
    if health.all_well():
        return tuple(order)
    awake, resting = [], []
    for planned in order:
        seconds = max(health.shut_for(gate) for gate in planned.gates)
        if seconds:
            resting.append(replace(planned, reason=f"{planned.reason}; has failed, rests for {seconds:.0f} s"))
        else:
            awake.append(planned)
    return (*awake, *resting)


def larger(made: Plan, failed: Planned) -> list[Planned]:
    """Those of a plan that hold more than a target for which a conversation was too long. A window that nobody told is
    taken for none."""
    window = failed.model.context_length or 0
    return [planned for planned in made.targets if (planned.model.context_length or 0) > window]
