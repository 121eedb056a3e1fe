"""The `context` of /api/generate: a conversation that the client carries for us.

Knows: the encoding. Must not know: who asks, who answers.

A real Ollama gives token numbers. Here the numbers hold the conversation itself, so that any target can continue it and
the gateway needs no memory: a magic number, the length in bytes, then three bytes of zlib-compressed JSON a number.

    [("user", "Hi"), ("assistant", "Hello!")]   ->   [11893617, 41, 7908907, ...]

What comes back from a client may be anything (another server's tokens, a changed list): `decode` then says None.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

Turn = tuple[str, str]  # role, text

MAGIC = 11_893_617
MAX_TEXT = 1024 * 1024  # bytes of JSON; older turns are left out beyond it (a client sends all of it back each time)

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(list[Turn])


def pack(turns: Sequence[Turn]) -> bytes:
    """A conversation, compressed: what a stream keeps until its answer is complete."""
    sizes = [len(_encode(turn)) + 1 for turn in turns]
    excess = sum(sizes) - MAX_TEXT
    left_out: set[int] = set()
    # The oldest go first; a system message says how to answer, so it stays while anything else can go.
    for i in sorted(range(len(turns)), key=lambda i: turns[i][0] == "system"):
        if excess <= 0:
            break
        left_out.add(i)
        excess -= sizes[i]
    return zlib.compress(_encode([turn for i, turn in enumerate(turns) if i not in left_out]), 1)


def unpack(packed: bytes) -> list[Turn] | None:
    """None when the bytes are not of `pack`."""
    try:
        reader = zlib.decompressobj()
        text = reader.decompress(packed, MAX_TEXT + 64)
        if not reader.eof or reader.unused_data:
            return None
        return _decoder.decode(text)
    except (zlib.error, msgspec.DecodeError, RecursionError):
        return None


def encode(packed: bytes, answer: str) -> list[int]:
    """A packed conversation and the answer to it -> the numbers for the client."""
    packed = pack([*(unpack(packed) or []), ("assistant", answer)])
    padded = packed + b"\0" * (-len(packed) % 3)
    return [MAGIC, len(packed), *(int.from_bytes(padded[i : i + 3]) for i in range(0, len(padded), 3))]


def decode(numbers: Sequence[int]) -> list[Turn] | None:
    """The numbers of `encode` -> the conversation; None for any other numbers. Never raises."""
    if len(numbers) < 3 or numbers[0] != MAGIC or not 0 < numbers[1] <= 3 * (len(numbers) - 2):
        return None
    if any(not 0 <= number < 1 << 24 for number in numbers):
        return None
    packed = b"".join(number.to_bytes(3) for number in numbers[2:])
    return unpack(packed[: numbers[1]]) if len(packed) - numbers[1] < 3 else None
