"""Marks that end some day, in memory that the processes of one gateway share: what one has marked, all know.

Knows: fingerprints of 16 bytes, a clock that is given and that is the same in all of them. Must not know: what a mark
means.

    set 0  | fingerprint 16, end 8 | fingerprint 16, end 8 | … eight of them
    set 1  | …                                                                     the fingerprint says which set

The memory is made before the processes part (fork), and is as large as it will ever be; what has never been written
takes no room. A full set forgets the mark that ends first. Nobody locks: two that write the same place in the same
moment can cost one of both marks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from mmap import mmap

_SETS, _WAYS = 32_768, 8  # of 50,000 marks, two in 100,000 find their set full
_SLOT = struct.Struct("<16sd")
_ROW = _WAYS * _SLOT.size


class Marks:
    """`clock` gives seconds and never goes back; a time before its zero is no end of anything."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._memory = mmap(-1, _SETS * _ROW + 1)  # its last byte: whether anything has been marked

    def __bool__(self) -> bool:
        """Whether it is worth making a fingerprint."""
        return self._memory[-1] != 0

    def put(self, name: bytes, seconds: float) -> None:
        """Marked from now on, for so long."""
        row = self._row(name)
        found = list(_SLOT.iter_unpack(self._memory[row : row + _ROW]))
        way = next((way for way, (other, _) in enumerate(found) if other == name), None)
        if way is None:
            way = min(range(_WAYS), key=lambda way: found[way][1])
        _SLOT.pack_into(self._memory, row + way * _SLOT.size, name, self._clock() + seconds)
        self._memory[-1] = 1

    def __contains__(self, name: bytes) -> bool:
        row = self._row(name)
        slots = _SLOT.iter_unpack(self._memory[row : row + _ROW])
        return any(other == name and end > self._clock() for other, end in slots)

    def _row(self, name: bytes) -> int:
        assert len(name) == 16, "a fingerprint"
        return int.from_bytes(name[:4]) % _SETS * _ROW
