"""Gateways as programs: started on their core, waited for, their CPU time and memory read, stopped.

Knows: processes of Linux. Must not know: what is asked of them.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
START_LIMIT = 30.0  # seconds a gateway may take until it answers
SCHED_CLOCK = 2  # CPUCLOCK_SCHED: nanoseconds of all threads, dead ones too


class NotStarted(Exception):
    """A gateway that ended or stayed silent instead of answering. `code`: its exit code, None if it still ran."""

    def __init__(self, name: str, code: int | None, said: str) -> None:
        super().__init__(f"{name} did not start" + (f" (exit code {code})" if code is not None else ""))
        self.code = code
        self.said = said


@dataclass(frozen=True)
class Cores:
    """Which cores the gateway and the tools run on; the same one twice on a machine with one."""

    gateway: int
    tools: int

    @classmethod
    def of_machine(cls) -> Cores:
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[-1])


@dataclass(frozen=True)
class Program:
    """How to start a gateway. `{port}` in `arguments` is put in; `ready` is a path that answers once it is up."""

    name: str
    arguments: tuple[str, ...]
    ready: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """What is started inside runs on these cores; the caller comes back to its own."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def lift_file_limit() -> None:
    """A thousand streams take two thousand sockets in a gateway, which inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Gateway:
    """A running gateway. Leaving the `with` ends it and its children.

    Its environment holds nothing of ours but PATH, HOME and LANG, and its folder is an empty one: keys, `.env` and
    settings of whoever measures must not reach it.
    """

    def __init__(self, program: Program, cores: set[int], folder: Path) -> None:
        self.name = program.name
        self.port = free_port()
        self.log = Path(tempfile.mkstemp(prefix=f"{program.name}-", suffix=".log", dir=folder)[1])
        self._program = program
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.started_at = time.monotonic()
        with on_cores(cores), self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(part.format(port=self.port) for part in program.arguments)],
                cwd=folder,
                env=environment | dict(program.environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def _wait(self) -> None:
        request = f"GET {self._program.ready} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        while time.monotonic() - self.started_at < START_LIMIT and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as sock:
                    sock.sendall(request)
                    if sock.recv(7) == b"HTTP/1.":
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise NotStarted(self.name, self.process.poll(), self.said())

    def said(self, last: int = 800) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-last:].strip()

    def tracebacks(self) -> int:
        return self.log.read_text(errors="replace").count("Traceback (most recent call last)")

    def cpu(self) -> float:
        """Seconds of CPU time used so far. Raises OSError when it has ended."""
        return time.clock_gettime((~self.pid << 3) | SCHED_CLOCK)

    def memory(self) -> float:
        """Resident memory in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise OSError(f"{self.name} has ended")

    def ask_probe(self, question: str) -> str:
        """Sends a line to probe.py, under which it was started, and waits for the answer among what it printed."""
        assert self.process.stdin is not None
        self.process.stdin.write(question.encode() + b"\n")
        self.process.stdin.flush()
        sign = f"probe {question}: "
        for _ in range(250):
            for line in self.log.read_text(errors="replace").splitlines():
                if line.startswith(sign):
                    return line.removeprefix(sign)
            time.sleep(0.02)
        raise NotStarted(self.name, self.process.poll(), "the probe does not answer")

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def upstream() -> Program:
    return Program("upstream", (str(BENCH / "upstream.py"), "{port}"), "/v1/models")


def reference(kind: str, upstream_port: int) -> Program:
    return Program(kind, (str(BENCH / "references.py"), kind, "{port}", f"http://127.0.0.1:{upstream_port}"))


def bridge(
    upstream_port: int,
    folder: Path,
    *,
    config: str = "config.yaml",
    probed: bool = False,
    options: Sequence[str] = (),
    name: str = "bridge",
) -> Program:
    """start_gateway.py with a configuration of this folder."""
    door = (str(BENCH / "probe.py"),) if probed else ()
    arguments = (*door, str(ROOT / "start_gateway.py"), "127.0.0.1:{port}", "--config", str(BENCH / config), *options)
    environment = {"BENCH_UPSTREAM": f"http://127.0.0.1:{upstream_port}", "BENCH_STATE": str(folder / "state")}
    return Program(name, arguments, "/api/version", environment)
