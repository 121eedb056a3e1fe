"""Ollama's grammar of model names (ollama-protocol.md 0.6).

Knows: the grammar, the defaults, the source suffix. Must not know: which models exist, how an error is worded.

    [host/][namespace/]model[:tag]      defaults registry.ollama.ai / library / latest
    "Llama3.2"  ->  shown "Llama3.2:latest", full "registry.ollama.ai/library/Llama3.2:latest"
    "a b", "x:", "../x", "x@sha256:0", four path parts   ->  None
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")  # a model or a tag


@dataclass(frozen=True, slots=True)
class Name:
    """A grammatical name, defaults filled in, letters as they were written."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def shown(self) -> str:
        """The display form: default host and namespace left out, the tag always kept."""
        if self.host.lower() != HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        """The fully qualified form, as capability errors print it."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """Equal for two spellings of one name: case does not matter in any part."""
        return self.full.lower()


def parse_name(text: str) -> Name | None:
    """None when the text is no name. White space around it is not looked at by Ollama, so not here either."""
    rest = text.strip()
    host, namespace, tag = HOST, NAMESPACE, TAG
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
    path, slash, model = rest.rpartition("/")
    if slash:
        path, slash, namespace = path.rpartition("/")
        if slash:
            scheme, found, after = path.partition("://")
            host = after if found else scheme
    whole = (
        _HOST.fullmatch(host) and _NAMESPACE.fullmatch(namespace) and _PART.fullmatch(model) and _PART.fullmatch(tag)
    )
    return Name(host, namespace, model, tag) if whole else None


Source = Literal["cloud", "local"] | None


class BothSources(ValueError):
    """The name asks for the cloud and for the local model; the text is Ollama's, for a 400."""


def split_source(text: str) -> tuple[str, Source]:
    """A name -> what is left without its source suffix, and the source it asks for (None: none).

    `x:cloud` and `x:local` lose the suffix, `x:20b-cloud` is `x:20b` in the cloud; case does not matter. Looked at
    before the grammar. Raises BothSources for `x:cloud:local` and the like.
    """
    name = text.strip()
    base, source = _cut_source(name)
    if source is not None and _cut_source(base)[1] is not None:
        raise BothSources(f'use either :local or :cloud, not both: "{name}"')
    return base, source


def _cut_source(name: str) -> tuple[str, Source]:
    base, colon, last = name.rpartition(":")
    if colon:
        word = last.strip()
        if word.lower() == "cloud":
            return base, "cloud"
        if word.lower() == "local":
            return base, "local"
        if "/" not in word and word.lower().endswith("-cloud"):
            return f"{base}:{word[: -len('-cloud')]}", "cloud"
    return name, None
