"""Which model a request is for, and what holds for it: the one it names, or the table's for its privacy and task.

Knows: the words of body and headers, the table, what is remembered of a conversation. Must not know: wire bodies, which
of a model's targets is asked (policy/router).

    words -> task -> privacy -> model -> facts
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from ..dialects.base import EMBED, Facts
from ..errors import MODEL_NOT_FOUND, MODEL_REQUIRED, GatewayError, refuse
from ..values import ChatRequest, EmbedRequest
from . import sticky
from .catalog import Model
from .ports import Exchange
from .router import facts_of, needs, not_here
from .sticky import Sticky
from .tasks import (
    PRIVACY_HEADER,
    STRICT,
    TASK_HEADER,
    Said,
    Table,
    as_embedding,
    privacy_of,
    privacy_word,
    task_of,
    task_word,
)

_PRIVACY, _TASK = PRIVACY_HEADER.lower(), TASK_HEADER.lower()


class Find(Protocol):
    async def __call__(self, name: str, current: bool = False) -> Model:
        """The model of a public name. `current`: what a real Ollama says of it must not be older than a moment. Raises
        GatewayError: ungrammatical (400) or unknown (404)."""
        ...


@dataclass(frozen=True, slots=True)
class Selected:
    """`request` may be another one than came in: a chat whose task is `embedding` has become one for embeddings.
    `facts.privacy` and `facts.task` are decided. `routed`: the client left the choice of the model to the table.
    `privacy_by`: whose word on privacy holds."""

    request: ChatRequest | EmbedRequest
    model: Model
    facts: Facts
    routed: bool
    privacy_by: str


class Selection:
    """One for a configuration. `listed` gives all models that are listed, `is_here` says whether one of them has a
    target that strict requests may use; `providers`: their names."""

    def __init__(
        self,
        find: Find,
        table: Table,
        memory: Sticky,
        *,
        listed: Callable[[], Iterable[Model]],
        is_here: Callable[[Model], bool],
        providers: Collection[str],
    ) -> None:
        self._find = find
        self._table = table
        self._memory = memory
        self._listed = listed
        self._is_here = is_here
        self._providers = providers

    async def select(self, exchange: Exchange, request: ChatRequest | EmbedRequest) -> Selected:
        """A chat that becomes a request for embeddings takes the exchange with it: its kind, and its body, which is not
        to be passed on. Raises GatewayError."""
        headers = exchange.headers
        facts = facts_of(exchange.kind, request)
        asked = task_word(request.task, "task") or task_word(headers.get(_TASK), TASK_HEADER)
        task = task_of(facts, asked)
        conversation = request  # as it came: embeddings are of no conversation
        if task == "embedding" and isinstance(request, ChatRequest):
            request = as_embedding(request)
            exchange.kind, exchange.body = EMBED, b""
            facts = facts_of(EMBED, request)
        if facts.provider is not None:
            facts.provider = facts.provider.casefold()
            if facts.provider not in self._providers:
                raise refuse(f"unknown provider '{request.provider}'", param="provider")
        stands_for = self._table.stands_for(request.model)
        routed = stands_for is not None or not request.model
        if not request.model and not self._table:
            raise refuse("model is required", code=MODEL_REQUIRED, param="model")
        wishes = (
            Said(privacy_word(facts.privacy, "privacy_mode"), "the request"),
            Said(privacy_word(headers.get(_PRIVACY), PRIVACY_HEADER), f"the header {PRIVACY_HEADER}"),
            Said(stands_for, f"the model '{request.model}'"),
        )
        earlier = Said(
            STRICT if self._was_strict(exchange, conversation) else None, "an earlier request of this conversation"
        )
        privacy = privacy_of(wishes, (earlier,), self._table.default)
        self._remember(exchange, conversation, privacy)
        model = None if routed else await self._named(request.model, facts.provider, privacy.word == STRICT)
        if model is not None and model.strict and privacy.word != STRICT:
            privacy = Said(STRICT, f"the model map, for '{model.name}'")
            self._remember(exchange, conversation, privacy)
        facts.privacy, facts.task = privacy.word, task
        if model is None:
            model = await self._from_table(facts)
        return Selected(request, model, facts, routed, privacy.by)

    def here(self, facts: Facts) -> list[str]:
        """Names of models that could serve a request without leaving our machines."""
        wanted = set(needs(facts))
        return [m.name for m in self._listed() if wanted <= m.capabilities and self._is_here(m)]

    def _was_strict(self, exchange: Exchange, request: ChatRequest | EmbedRequest) -> bool:
        if not (self._memory.knows_strict and sticky.goes_on(request)):
            return False
        opening = sticky.opening(exchange.caller, request)
        return opening is not None and self._memory.was_strict(opening)

    def _remember(self, exchange: Exchange, request: ChatRequest | EmbedRequest, privacy: Said) -> None:
        """Before anything can fail: what was strict in an attempt is so in the next."""
        if privacy.word == STRICT and (opening := sticky.opening(exchange.caller, request)) is not None:
            self._memory.mark_strict(opening)

    async def _named(self, name: str, provider: str | None, current: bool) -> Model:
        """The model of a name; with a provider beside it, the name may be the provider's own."""
        if provider is None:
            return await self._find(name, current)
        try:
            model = await self._find(name, current)
            if model.origin == "alias" or any(target.provider == provider for target in model.targets):
                return model
        except GatewayError as error:
            if error.code != MODEL_NOT_FOUND:
                raise
        return await self._find(f"{provider}/{name}", current)

    async def _from_table(self, facts: Facts) -> Model:
        """The models of a cell as one, each asked when those before it do not answer."""
        strict = facts.privacy == STRICT
        task = facts.task or "chat"
        names = self._table.names(facts.privacy or "", task)
        cell = f"routing.{facts.privacy}.{task}"
        if not names and strict:
            raise not_here(f"the table names no model for the task '{task}' ({cell})", self.here(facts))
        if not names:
            raise refuse(f"model is required: the table names none for the task '{task}' ({cell})", param="model")
        found: list[Model] = []
        missing: GatewayError | None = None
        for name in names:
            try:
                model = await self._find(name, strict)
            except GatewayError as error:
                missing = missing or error
                continue
            if facts.provider is None or any(target.provider == facts.provider for target in model.targets):
                found.append(model)
        if not found and missing is not None:
            raise missing
        if not found:
            raise refuse(f"the table names no model of provider '{facts.provider}' ({cell})", param="provider")
        return replace(found[0], then=tuple(found[1:])) if len(found) > 1 else found[0]
