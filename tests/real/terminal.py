"""A program in a terminal of its own: lines are typed, its prompts awaited.

Knows: pseudo-terminals. Must not know: which program it is, beyond what its prompt looks like.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping

from transcript import plain

COLUMNS = 120


class Terminal:
    """`prompt` is what a prompt begins with, `hint` what stands behind it until something is typed."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int, prompt: str, hint: str, patience: float) -> None:
        self._process = process
        self._screen = screen
        self._prompt = prompt
        self._hint = hint
        self._patience = patience
        self._output = b""
        self._seen = 0

    @property
    def text(self) -> str:
        return plain(self._output.decode(errors="replace"))

    def wait(self) -> str:
        """Until the next prompt: what came before it. Raises AssertionError when the program ends or stays silent."""
        until = time.monotonic() + self._patience
        while True:
            assert self._read(until), f"no further prompt after:\n{self.text}"
            if (text := self.text).endswith(self._prompt + self._hint):
                break
        shown = text.removesuffix(self._hint)
        said, self._seen = shown[self._seen :], len(shown)
        return said.removesuffix(self._prompt)

    def type(self, line: str) -> str:
        """What the program says to a line, which it shows first."""
        os.write(self._screen, f"{line}\r".encode())
        return self.wait().removeprefix(line).strip("\n")

    def leave(self, line: str) -> int:
        """Types the last line. -> the program's exit status."""
        os.write(self._screen, f"{line}\r".encode())
        until = time.monotonic() + self._patience
        while self._read(until):
            pass
        return self._process.wait(30)

    def _read(self, until: float) -> bool:
        ready, _, _ = select.select([self._screen], [], [], max(0.0, until - time.monotonic()))
        try:
            data = os.read(self._screen, 65536) if ready else b""
        except OSError:  # how Linux says that the program has left its terminal
            data = b""
        self._output += data
        return bool(data)


@contextlib.contextmanager
def terminal(command: list[str], env: Mapping[str, str], prompt: str, hint: str, patience: float) -> Iterator[Terminal]:
    """Starts a program in a terminal and waits for its first prompt. `patience`: seconds for each of them."""
    screen, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command, env={**env, "TERM": "xterm-256color"}, stdin=inside, stdout=inside, stderr=inside,
        start_new_session=True,
    )  # fmt: skip
    os.close(inside)
    try:
        session = Terminal(process, screen, prompt, hint, patience)
        session.wait()
        yield session
    finally:
        process.kill()
        process.wait()
        os.close(screen)
