"""What a request is about and where it may go: its task, its privacy, and the table that names models for both.

Knows: the words for tasks and privacy, whose word counts more. Must not know: models, providers, wire bodies.

Strict wins: whoever says it, nobody can take it back. A word that is not known is refused: taken for flexible it would
leak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..dialects.base import EMBED, EMBED_ONE, Facts
from ..errors import GatewayError, refuse
from ..values import ChatRequest, EmbedRequest

# Headers of a request.
PRIVACY_HEADER = "X-Bridge-Privacy"
TASK_HEADER = "X-Bridge-Task"
EXPLAIN_HEADER = "X-Bridge-Explain"

STRICT, FLEXIBLE = "strict", "flexible"
TASK_WORDS = ("chat", "vision", "ocr", "embedding")
AUTO, PRIVATE = "auto", "private"  # what clients that must name a model call the table by

Privacy = Literal["strict", "flexible"]


@dataclass(frozen=True, slots=True)
class Table:
    """The models of each task, by privacy: names in the order in which they are asked. `default` holds for a request
    that says nothing of privacy."""

    default: str = FLEXIBLE
    strict: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flexible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.strict or self.flexible)

    def names(self, privacy: str, task: str) -> tuple[str, ...]:
        """Of a cell; () when nothing stands for it. What is flexible may be answered here as well, never the other way
        round. To read a text off a picture is a way of seeing, so `vision` stands in for `ocr`."""
        rows = (self.strict,) if privacy == STRICT else (self.flexible, self.strict)
        tasks = (task, "vision") if task == "ocr" else (task,)
        return next((row[each] for row in rows for each in tasks if row.get(each)), ())

    def stands_for(self, name: str) -> Privacy | None:
        """The privacy that a name stands for when it is one of the table's own; None for any other name."""
        word = name.strip().casefold().removesuffix(":latest")
        if word == PRIVATE and self.strict:
            return "strict"
        return "flexible" if word == AUTO and self.flexible else None


class Said(NamedTuple):
    """One word on privacy, and who said it, for people."""

    word: str | None
    by: str


def privacy_of(wishes: tuple[Said, ...], rules: tuple[Said, ...], default: str) -> Said:
    """`wishes` are the request's own, in which flexible lifts the default; `rules` hold whatever it says."""
    for said in (*rules, *wishes):
        if said.word == STRICT:
            return said
    spoken = next((said for said in wishes if said.word is not None), None)
    return spoken or Said(default, "routing.default")


def privacy_word(text: str | None, where: str) -> str | None:
    """What a client wrote into a header or a body; a header that came several times holds several words. Raises
    GatewayError (400)."""
    if text is None:
        return None
    words = {word.strip() for word in text.split(",")}
    if not words <= {STRICT, FLEXIBLE}:
        raise refuse(f"unknown {where} '{text[:100]}': use strict or flexible", param="privacy_mode")
    return STRICT if STRICT in words else FLEXIBLE


def task_word(text: str | None, where: str) -> str | None:
    """Raises GatewayError (400)."""
    if text is None or text in TASK_WORDS:
        return text
    raise refuse(f"unknown {where} '{text[:100]}': use chat, vision, ocr or embedding", param="task")


def task_of(facts: Facts, asked: str | None) -> str:
    """The task of a request. Endpoints for embeddings know one alone; elsewhere what was asked for holds, and else a
    picture tells."""
    if facts.kind in (EMBED, EMBED_ONE):
        return "embedding"
    return asked or ("vision" if facts.images else "chat")


def as_embedding(request: ChatRequest) -> EmbedRequest:
    """A chat whose task is `embedding`: the text of each message of the user, in order. Raises GatewayError (400) when
    there is none."""
    inputs = [text for message in request.messages if message.role == "user" and (text := message.text())]
    if not inputs:
        raise no_text()
    return EmbedRequest(
        model=request.model,
        inputs=inputs,
        truncate=request.truncate,
        keep_alive=request.keep_alive,
        privacy=request.privacy,
        task="embedding",
        provider=request.provider,
    )


def no_text() -> GatewayError:
    return refuse("task 'embedding': the messages hold no text of the user", param="messages")
