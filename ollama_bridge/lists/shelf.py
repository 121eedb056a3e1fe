"""Lists of models that outlive a run: what a service told last time stands in the first listing after a start.

Knows: a folder with one file a provider. Must not know: how a list is asked for, what is shown of it.

A file holds names and facts of models, no key. It is read only for the provider of that name at that address: another
account's models are never shown. What cannot be read is as if it were not there.

    STATE_DIR/models/groq.json
    {"version":1,"provider":"groq","base_url":"https://api.groq.com/openai/v1","models":[{"id":…}],"told":{…}}
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import msgspec

from ..providers.base import Known, ListedModel

VERSION = 1
FILE_AT_MOST = 8 * 1024 * 1024  # bytes
MODELS_AT_MOST = 10_000  # more of one provider are not kept


class Owner(Protocol):
    """A provider, or its configuration. `name` can stand in a path (config/assemble)."""

    @property
    def name(self) -> str: ...

    @property
    def base_url(self) -> str: ...


class Kept(msgspec.Struct, frozen=True):
    """A provider's list, and what the price package told of its models."""

    version: int
    provider: str
    base_url: str
    models: list[ListedModel]
    told: dict[str, Known] = {}


_decode = msgspec.json.Decoder(Kept).decode
_DAMAGED = (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Shelf:
    """`folder` is made with the first list that is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, bytes] = {}

    def read(self, owner: Owner) -> Kept | None:
        """None when there is nothing of this provider that can be used. Never raises."""
        try:
            with self._path(owner).open("rb") as file:
                data = file.read(FILE_AT_MOST + 1)
            if len(data) > FILE_AT_MOST:
                return None
            kept = _decode(data)
        except _DAMAGED:
            return None
        fits = (kept.version, kept.provider, kept.base_url) == (VERSION, owner.name, owner.base_url)
        return kept if fits and len(kept.models) <= MODELS_AT_MOST else None

    def write(self, owner: Owner, models: list[ListedModel], told: dict[str, Known]) -> None:
        """Keeps the list in place of the last one, unless nothing has changed. Whoever reads meanwhile gets one of
        the two whole. Raises OSError."""
        if len(models) > MODELS_AT_MOST:
            return
        bare = [replace(model, raw={}) for model in models]
        data = msgspec.json.encode(Kept(VERSION, owner.name, owner.base_url, bare, told))
        if self._written.get(owner.name) == data:
            return
        path = self._path(owner)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            draft.write_bytes(data)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        self._written[owner.name] = data

    def _path(self, owner: Owner) -> Path:
        return self._folder / f"{owner.name}.json"
