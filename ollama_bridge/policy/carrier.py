"""Which dialect carries a request to its target: the provider's own, or another that the provider speaks as well.

Knows: the rule of providers.md 2.1 (Chat Completions or Responses) as profiles put it, and that each of the two learns
its own lessons. Must not know: models, wires, how a refusal is read (policy/repair does that).
"""

from __future__ import annotations

from collections.abc import Callable

from ..dialects.base import Profile
from ..values import ChatRequest, EmbedRequest
from .catalog import Model
from .families import family_profile, filling, on_responses
from .plans import Planned
from .repair import Learned
from .thinking import can_think

RESPONSES = "responses"


def carrier(
    spoken: str,
    own: str,
    request: ChatRequest | EmbedRequest,
    profile: Profile,
    api: str = "auto",
    think: bool | str | None = None,
) -> str:
    """The name of a dialect. `spoken`: the client's. `own`: the provider's. `api`: what the operator says of the model
    ("auto", "chat", "responses"). `think`: the model's default, where the request does not say."""
    if isinstance(request, EmbedRequest):
        return profile.embeds_by or own
    if request.suffix and profile.fills_by:
        return profile.fills_by
    if api == RESPONSES:
        return RESPONSES
    if api == "chat" or not profile.responses or request.suffix is not None:
        return own
    if spoken == RESPONSES:
        return RESPONSES
    think = request.think if request.think is not None else think
    wanted = {"always"}
    if request.tools:
        wanted.add("tools")
        if _reasons(think, profile):
            wanted.add("reasoning_tools")
    # Thoughts are a reason only for clients of another wire: on its own, the answer is relayed as it is.
    if think and can_think(profile) and spoken != own:
        wanted.add("think")
    return own if wanted.isdisjoint(profile.responses) else RESPONSES


def _reasons(think: bool | str | None, profile: Profile) -> bool:
    """Whether the target will reason: asked to, or of itself."""
    if think is False:
        return profile.reasons_by_default and not profile.think_off
    return profile.reasons_by_default or (think is not None and can_think(profile))


class Carriage:
    """How one request goes to one target: `dialect` by name, and the `profile` that the target has there. A refusal may
    change both; what led to an answer is remembered. `target`: base URL and upstream model. `family`: the profile of
    the provider's own wire when nothing has been learnt. `choose`: profile of that wire -> dialect."""

    def __init__(
        self, learned: Learned, target: tuple[str, str], family: Profile, choose: Callable[[Profile], str]
    ) -> None:
        self._learned = learned
        self._target = target
        self._own = learned.get(target) or family
        self._choose = choose
        self._lessons: dict[tuple[str, ...], Profile] = {}
        self._turn()

    def _turn(self) -> None:
        self.dialect = self._choose(self._own)
        self._place: tuple[str, ...] = self._target
        self.profile = self._own
        if self.dialect in (RESPONSES, self._own.fills_by):
            self._place = (*self._target, self.dialect)
            known = self._lessons.get(self._place) or self._learned.get(self._place)
            self.profile = known or self._there()

    def _there(self) -> Profile:
        return on_responses(self._own, self._target[1]) if self.dialect == RESPONSES else filling(self._own)

    def repaired(self, profile: Profile) -> None:
        """What to try next, instead of `self.profile`."""
        if self._place == self._target:
            self._own = profile
        elif profile.responses != self.profile.responses:
            self._own = self._own.with_(responses=profile.responses)
        else:
            self.profile = self._lessons[self._place] = profile
            return
        self._lessons[self._target] = self._own
        self._turn()

    def remember(self) -> bool:
        """After an answer: the lessons hold for an hour. -> whether any is news."""
        news = [self._learned.put(place, profile) for place, profile in self._lessons.items()]
        return any(news)


def carriage(
    learned: Learned, spoken: str, request: ChatRequest | EmbedRequest, model: Model, planned: Planned, preset: str
) -> Carriage:
    """`spoken`: the client's dialect. `preset`: the row that the provider was made from, "" for none."""
    provider, target = planned.provider, planned.target
    family = family_profile(provider.profile, preset, target.model)
    return Carriage(
        learned,
        (provider.base_url, target.model),
        family,
        lambda profile: carrier(spoken, provider.dialect, request, profile, target.api, model.defaults.think),
    )
