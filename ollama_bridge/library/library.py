"""The model library: what stands behind tags, show, ps and /v1/models. Answered from memory, never costs money.

Knows: Ollama's rules for these four (ollama-protocol.md 2.9 to 2.11, 4.5). Must not know: HTTP servers, SDKs.

A real Ollama's models are shown in its own words: its list is kept fresh beside (`refresh`), its `show` is forwarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol

from ..dialects.base import Answer
from ..dialects.go.json import BOOL, OBJECT, STRING, Struct, decode
from ..errors import MODEL_NOT_FOUND, MODEL_REQUIRED, GatewayError, Scope, model_not_found, refuse
from ..framing import BadJSON, dumps, go_dumps, loads
from ..policy.catalog import Catalog, Model, shown
from . import facts
from .loaded import LoadedModels

JSON_UTF8 = "application/json; charset=utf-8"
JSON = "application/json"
PATIENCE = 1.0  # seconds /api/ps waits for real Ollamas (Raycast gives a listing 1.8 s: clients.md 4.4)
COPILOT = "GitHubCopilotChat/"


class RealOllama(Protocol):
    """A real Ollama behind us. `status, content type, body`; raises GatewayError."""

    name: str
    off: str | None

    async def get(self, path: str) -> tuple[int, str, bytes]: ...

    async def post(self, path: str, body: bytes) -> tuple[int, str, bytes]: ...


class Library:
    """`refresh` brings real Ollamas' lists up to date within a short bound and never raises; `find` looks a name up."""

    def __init__(
        self,
        catalog: Catalog,
        loaded: LoadedModels,
        ollamas: dict[str, RealOllama],
        refresh: Callable[[], Awaitable[None]],
        find: Callable[[str], Awaitable[Model]],
    ) -> None:
        self._catalog = catalog
        self._loaded = loaded
        self._ollamas = ollamas
        self._refresh = refresh
        self._find = find

    async def tags(self) -> Answer:
        await self._refresh()
        return Answer(200, JSON_UTF8, go_dumps({"models": [facts.tags_entry(m) for m in self._catalog.listed()]}))

    async def ps(self) -> Answer:
        """What was used here, and what real Ollamas have loaded in their own words, latest expiry first by whole
        seconds. An Ollama that does not answer in time is left out."""
        entries: list[tuple[float, dict[str, Any]]] = []
        for item in self._loaded.current():
            try:
                model = self._catalog.find(item.name)
            except GatewayError:
                continue  # gone from the catalog since
            if model.targets[0].provider not in self._ollamas:  # else it is told of below
                entries.append((item.expires, facts.ps_entry(model, item.expires, item.num_ctx)))
        for running in await asyncio.gather(*map(_running, self._ollamas.values())):
            entries += [(_expiry(entry), entry) for entry in running]
        entries.sort(key=lambda timed: -int(timed[0]))
        return Answer(200, JSON_UTF8, go_dumps({"models": [entry for _, entry in entries]}))

    async def show(self, body: bytes, user_agent: str) -> Answer:
        """Raises GatewayError as /api/show answers: 400 without a name, 404 with the tag in the text."""
        request = decode(body, SHOW_REQUEST)
        asked = request.get("model") or request.get("name") or ""
        if not asked:
            raise refuse("model is required", code=MODEL_REQUIRED)
        model = await self._find(asked)
        ollama = self._ollamas.get(model.targets[0].provider) if model.origin == "ollama" else None
        display = asked if user_agent.startswith(COPILOT) else None
        if ollama is not None:
            return await _forwarded(ollama, model, request, display)
        answer = facts.show_answer(model, display, request.get("system") or None, request.get("options"))
        return Answer(200, JSON_UTF8, go_dumps(answer))

    async def openai_models(self) -> Answer:
        await self._refresh()
        items = [_openai_item(model.shown, model) for model in self._catalog.listed()]
        return Answer(200, JSON, go_dumps({"object": "list", "data": items or None}) + b"\n")

    async def openai_model(self, name: str) -> Answer:
        try:
            model = await self._find(name)
        except GatewayError as error:
            raise model_not_found(shown(name), error.near) if error.code == MODEL_NOT_FOUND else error from None
        return Answer(200, JSON, go_dumps(_openai_item(name, model)) + b"\n")


SHOW_REQUEST = Struct(
    "api.ShowRequest",
    {"model": STRING, "name": STRING, "system": STRING, "template": STRING, "verbose": BOOL, "options": OBJECT},
)


def _openai_item(name: str, model: Model) -> dict[str, Any]:
    owner = "library" if model.origin != "provider" else model.targets[0].provider
    return {"id": name, "object": "model", "created": int(model.modified), "owned_by": owner}


async def _running(ollama: RealOllama) -> list[dict[str, Any]]:
    if ollama.off is not None:
        return []
    try:
        async with asyncio.timeout(PATIENCE):
            status, _, body = await ollama.get("/api/ps")
        answer = loads(body) if status == 200 else None
    except (GatewayError, BadJSON, TimeoutError):
        return []
    models = answer.get("models") if isinstance(answer, dict) else None
    return [entry for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []


def _expiry(entry: dict[str, Any]) -> float:
    """Unix seconds; 0 when the entry does not tell."""
    try:
        return datetime.fromisoformat(entry["expires_at"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


async def _forwarded(ollama: RealOllama, model: Model, request: dict[str, Any], display: str | None) -> Answer:
    """The real Ollama's own answer, asked for by its own name of the model. `display`: what it is to call itself."""
    asked = {**request, "model": model.targets[0].model, "name": ""}
    status, content_type, answer = await ollama.post("/api/show", dumps(asked))
    if status == 404:
        raise GatewayError(
            f"model '{model.shown}' not found", status=404, scope=Scope.MODEL, code=MODEL_NOT_FOUND, model=model.name
        )
    if display is not None and status == 200:
        answer = _renamed(answer, display)
    return Answer(status, content_type, answer)


def _renamed(answer: bytes, display: str) -> bytes:
    try:
        shown_model = loads(answer)
    except BadJSON:
        return answer
    known = shown_model.get("model_info") if isinstance(shown_model, dict) else None
    if not isinstance(known, dict):
        return answer
    return go_dumps({**shown_model, "model_info": {**known, "general.basename": display}})
