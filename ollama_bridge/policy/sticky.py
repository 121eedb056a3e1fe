"""What is remembered of conversations: who served one last, and that it was strict once. Bounded, forgotten in time.

Knows: fingerprints of a conversation's beginning. Must not know: words (only their fingerprints are kept), targets'
wires, a clock of its own.

A provider keeps the prompts of an account in a cache, so the next turn of a conversation is cheaper and quicker where
the last one was. And a conversation that was strict once holds what must not leave: a later turn that forgets to say so
is strict as well, whatever model it names. That is told by the user's first words alone, or by the picture where there
are none: two conversations that begin alike are taken for one, which errs on the safe side. A request without an answer
in it begins a new conversation.

Who served is remembered by each process for itself; what was strict, by all processes of a gateway together.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable

from ..framing import dumps
from ..values import Block, ChatRequest, EmbedRequest, Media, Message, Opaque
from .marks import Marks

SERVED_SECONDS = 3600.0  # as long as the longest prompt cache on offer
STRICT_SECONDS = 24 * 3600.0
AT_MOST = 50_000  # conversations of which it is remembered who served them

Fingerprint = bytes


class Sticky:
    """`clock` gives seconds and never goes back. The oldest conversations go first. `strict`: the openings of those
    that were, where several processes share them."""

    def __init__(self, clock: Callable[[], float], at_most: int = AT_MOST, strict: Marks | None = None) -> None:
        self._clock = clock
        self._at_most = at_most
        self._served: OrderedDict[Fingerprint, tuple[float, str, int]] = OrderedDict()
        self._strict = Marks(clock) if strict is None else strict

    def served(self, conversation: Fingerprint) -> tuple[str, int] | None:
        """The target and the account that answered last."""
        found = self._served.get(conversation)
        return found[1:] if found is not None and found[0] > self._clock() else None

    def keep(self, conversation: Fingerprint, target: str, account: int) -> None:
        self._served.pop(conversation, None)
        self._served[conversation] = (self._clock() + SERVED_SECONDS, target, account)
        while len(self._served) > self._at_most:
            self._served.popitem(last=False)

    def mark_strict(self, opening: Fingerprint) -> None:
        self._strict.put(opening, STRICT_SECONDS)

    @property
    def knows_strict(self) -> bool:
        """Whether it is worth taking a fingerprint."""
        return bool(self._strict)

    def was_strict(self, opening: Fingerprint) -> bool:
        return opening in self._strict


def opening(caller: str, request: ChatRequest | EmbedRequest) -> Fingerprint | None:
    """How a conversation began, whatever model it is with and whatever system text it has now; None for what is no
    conversation. `caller`: whose it is."""
    if isinstance(request, EmbedRequest):
        return None
    first = next((_beginning(message) for message in request.messages if message.role == "user"), "")
    return _fingerprint("opening", caller, first) if first else None


def goes_on(request: ChatRequest | EmbedRequest) -> bool:
    """Whether the request continues a conversation: somebody has answered in it."""
    return isinstance(request, ChatRequest) and any(m.role in ("assistant", "tool") for m in request.messages)


def conversation(caller: str, model: str, request: ChatRequest | EmbedRequest) -> Fingerprint | None:
    """A conversation with one model: what a provider's prompt cache would know it by."""
    if isinstance(request, EmbedRequest) or not request.messages:
        return None
    return _fingerprint("served", caller, model, _first(request.messages, "system"), _first(request.messages, "user"))


def _first(messages: Iterable[Message], role: str) -> str:
    return next((message.text() for message in messages if message.role == role), "")


def _beginning(message: Message) -> str:
    """The words of a message, or else what it shows."""
    return message.text() or "".join(map(_content, message.blocks))


def _content(block: Block) -> str:
    if isinstance(block, Media):
        return block.data or block.url or ""
    return dumps(block.payload).decode() if isinstance(block, Opaque) else ""


def _fingerprint(*parts: str) -> Fingerprint:
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        piece = part.encode("utf-8", "surrogatepass")
        made.update(len(piece).to_bytes(8))
        made.update(piece)
    return made.digest()
