"""Runs the project's start script unchanged, in a process of its own, and writes down whom it turns to.

    python tests/eyes.py RECORD WITHOUT start_gateway.py ARGUMENTS

RECORD is a file that gets a JSON line for each outbound connection, name looked up, program started and SDK imported:

    ["connect", "127.0.0.1", 41234]     ["look up", "localhost"]     ["run", "git"]     ["import", "openai"]

WITHOUT: packages that shall not be found, with commas; uvloop is always one of them, since it connects and looks up
without Python, which nobody can watch. Knows: Python's audit events. Must not know: what is right.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

SDKS = ("openai", "anthropic", "google.genai", "huggingface_hub", "httpx2")


class Absent(MetaPathFinder):
    """Says of some packages that they are not installed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self.names:
            raise ModuleNotFoundError(f"No module named '{fullname}'", name=fullname)
        return None


def seen(event: str, arguments: tuple[Any, ...]) -> list[Any] | None:
    if event == "socket.connect":
        address = arguments[1]
        return ["connect", *address[:2]] if isinstance(address, tuple) else ["connect", str(address), 0]
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0][0] if event.endswith("addr") else arguments[0]
        return ["look up", host.decode() if isinstance(host, bytes) else host]
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
        return ["run", str(arguments[0])]
    if event == "import" and arguments[0] in SDKS:
        return ["import", arguments[0]]
    return None


if __name__ == "__main__":
    record, without, script, *sys.argv[1:] = sys.argv[1:]
    sys.argv[0] = script
    sys.path[0] = str(Path(script).resolve().parent)
    lines = open(record, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - as long as the process

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if (line := seen(event, arguments)) is not None:
            lines.write(json.dumps(line) + "\n")

    sys.meta_path.insert(0, Absent(["uvloop", *without.split(",")]))
    sys.addaudithook(watch)
    runpy.run_path(script, run_name="__main__")
