"""Real programs, started and stopped: llama.cpp's server, an Ollama, and the gateway as its users start it.

Knows: how each is told its address, and when it answers. Must not know: what is asked of them.

All of them listen on a free port of 127.0.0.1, see no more of the environment than they need, and are gone when their
`with` ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATIENCE = 300.0  # seconds for any one thing; the machine may be busy with others


class NotStarted(Exception):
    """A program ended, or stayed silent, before it said its address. The text is the end of what it wrote."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a program sees of ours: where programs and libraries are, and nothing that would configure it."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ") if name in os.environ}
    return {**kept, "HOME": str(home), **more}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], env: Mapping[str, str], ready: str, log: Path) -> Iterator[str]:
    """Starts a program and waits until a line of its output matches `ready`: the first group, else the whole match, is
    what the `with` gets. What it writes goes to `log`. Raises NotStarted."""
    process = subprocess.Popen(
        command, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    overdue = threading.Timer(PATIENCE, process.kill)
    overdue.start()
    found = None
    try:
        with log.open("w", buffering=1, encoding="utf-8") as kept:
            for line in process.stdout:
                kept.write(line)
                found = re.search(ready, line)
                if found:
                    break
        overdue.cancel()
        if found is None:
            raise NotStarted(f"{command[0]} did not start: {log.read_text(encoding='utf-8')[-2000:]}")
        rest = threading.Thread(target=_keep, args=(process.stdout, log))
        rest.start()
        yield found[1] if found.re.groups else found[0]
    finally:
        overdue.cancel()
        process.stdin.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if found is not None:
            rest.join()
        process.stdout.close()


def _keep(lines: Any, log: Path) -> None:
    """A program whose output nobody reads stops when the pipe is full."""
    with log.open("a", buffering=1, encoding="utf-8") as kept:
        for line in lines:
            kept.write(line)


@dataclass(frozen=True)
class Passed:
    """One request as the gateway kept it: what a client asked, what went to a provider, what came back."""

    path: str
    asked: bytes
    sent: bytes
    received: bytes


@dataclass
class Gateway:
    """`url`: its address. `kept`: the folder with what passed."""

    url: str
    kept: Path
    _told: set[str] = field(default_factory=set)

    def passed(self) -> list[Passed]:
        """What has passed since this was asked last, oldest first."""
        new = [path for path in self.kept.glob("*.in") if path.name not in self._told]
        self._told.update(path.name for path in new)
        return [self._read(path) for path in sorted(new, key=lambda path: path.stat().st_mtime_ns)]

    def _read(self, path: Path) -> Passed:
        where, _, asked = path.read_bytes().partition(b"\n")
        sent, received = path.with_suffix(".1.sent"), path.with_suffix(".1.received")
        return Passed(
            where.decode(),
            asked,
            sent.read_bytes().partition(b"\n")[2] if sent.exists() else b"",
            received.read_bytes() if received.exists() else b"",
        )


@contextlib.contextmanager
def llama_server(weights: Path, folder: Path, *, thinks: bool = False) -> Iterator[str]:
    """The address of llama.cpp's server."""
    command = [sys.executable, str(HERE / "llama_server.py"), str(weights), *(["--thinks"] if thinks else [])]
    with running(command, environment(folder), r"listens on (http\S+)", folder / "llama.log") as address:
        yield address


@contextlib.contextmanager
def ollama_server(program: str, folder: Path, port: int | None = None) -> Iterator[str]:
    """The address of a real Ollama with an empty store of its own: it never sees the models of the user."""
    port = port or free_port()
    env = environment(
        folder,
        OLLAMA_HOST=f"127.0.0.1:{port}",
        OLLAMA_MODELS=str(folder / "models"),
        OLLAMA_NO_CLOUD="1",
        OLLAMA_CONTEXT_LENGTH="2048",
        OLLAMA_NUM_PARALLEL="1",
    )
    with running([program, "serve"], env, r"Listening on", folder / "ollama.log"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def gateway(folder: Path, config: Mapping[str, Any]) -> Iterator[Gateway]:
    """A gateway, started by its own start script. An Ollama of this machine is not seen unless `config` names it."""
    nobody = {"ollama": {"base_url": f"http://127.0.0.1:{free_port()}"}}
    whole = {
        **config,
        "providers": {**nobody, **config["providers"]},
        "state_dir": str(folder / "state"),
        "debug": {"capture": str(folder / "capture")},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    command = [sys.executable, str(ROOT / "start_gateway.py"), "127.0.0.1:0", "--config", str(path)]
    with running(command, environment(folder), r"export OLLAMA_HOST=(\S+)", folder / "gateway.log") as address:
        yield Gateway(address, folder / "capture")
