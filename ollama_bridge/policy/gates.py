"""What stands between a request and a target: the breakers, the queue, the limits.

Knows: in which order they are passed, what is given back afterwards, which of a failure's scopes a breaker is told of.
Must not know: how any of them decides, wires, who is asked next.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import GatewayError, Scope
from ..values import ChatRequest, EmbedRequest
from . import trim
from .breaker import OVERLOADED, Breakers, Pass
from .limits import Limits, Permit
from .plans import Plan, Planned
from .queue import Place, Queues

_OF_TARGET = frozenset({Scope.MODEL, Scope.PROVIDER, Scope.THROTTLE})
_CHARACTERS = 4  # of a token, about


@dataclass(slots=True)
class Turn:
    """The leave to ask one target, retries included. Give it back with `leave`, whatever happened."""

    of_target: Pass | None = None
    of_key: Pass | None = None
    place: Place | None = None

    @property
    def probing(self) -> bool:
        """Whether a breaker lets this one alone in: it asks once."""
        return any(leave is not None and leave.probing for leave in (self.of_target, self.of_key))

    def good(self) -> None:
        """It has answered."""
        for leave in (self.of_target, self.of_key):
            if leave is not None:
                leave.good()

    def bad(self, error: GatewayError) -> None:
        """It has not: its breaker, or that of the key, learns so."""
        if error.scope is Scope.KEY and self.of_key is not None:
            self.of_key.bad(error.scope.value, error.retry_after)
        elif error.scope in _OF_TARGET and self.of_target is not None:
            overloaded = error.scope is Scope.THROTTLE and error.status == 503
            self.of_target.bad(OVERLOADED if overloaded else error.scope.value, error.retry_after)

    def leave(self) -> None:
        for leave in (self.of_target, self.of_key):
            if leave is not None:
                leave.neutral()  # unless it has been told how it went
        if self.place is not None:
            self.place.leave()


class Gates:
    """Those of one configuration; what they have counted outlives it."""

    def __init__(self, breakers: Breakers, limits: Limits, queues: Queues) -> None:
        self._breakers = breakers
        self._limits = limits
        self._queues = queues

    def guess(self, request: ChatRequest | EmbedRequest) -> int:
        """Tokens that the request may cost, 0 where nobody counts them."""
        if not self._limits.counts_tokens:
            return 0
        if isinstance(request, ChatRequest):
            answer = request.sampling.max_tokens or 0
            return sum(map(trim.estimate_message, request.messages)) + trim.estimate_tools(request.tools) + answer
        return sum(map(len, request.inputs)) // _CHARACTERS

    async def admit(self, plan: Plan, tokens: int, stream: bool) -> Permit:
        """Once a request: the gateway's own limits and those of the public model. Raises GatewayError (429)."""
        return await self._limits.admit_request(plan.name, tokens, stream, plan.asked)

    async def enter(self, planned: Planned, model: str, client: str, turn: Turn) -> GatewayError | None:
        """Fills `turn`. -> what to say when somebody refuses. `model`: the public name; `client`: whoever asks, for a
        fair queue."""
        of_target, of_key = planned.gates
        turn.of_target = await self._breakers.enter(of_target)
        if turn.of_target is None:
            return self._shut(of_target, f"'{planned.target}'", model, planned)
        turn.of_key = await self._breakers.enter(of_key)
        if turn.of_key is None:
            return self._shut(of_key, f"provider '{planned.provider.name}'", model, planned)
        try:
            turn.place = await self._queues.enter(planned.provider.name, client)
        except GatewayError as error:
            return error
        return None

    def _shut(self, name: str, who: str, model: str, planned: Planned) -> GatewayError:
        refusal = self._breakers.refusal(name, who, model)
        refusal.provider = planned.provider.name
        return refusal

    async def attempt(self, planned: Planned, tokens: int, stream: bool) -> Permit:
        """Before each attempt: the provider's limits. Raises GatewayError (429), of which no breaker is told: it is not
        the provider that refuses."""
        return await self._limits.admit_attempt(planned.provider.name, tokens, stream)
