"""`--workers N`: real processes on one port, told apart by what Linux says of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0  # seconds for whatever processes take their time for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT shares connections out on Linux only")


@dataclass
class Program:
    process: subprocess.Popen[str]
    screen: str
    port: int

    def workers(self) -> set[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return set(map(int, found.split()))

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path: str) -> str:
        with closing(self.connection()) as connection:
            return get(connection, path)


def get(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read().decode()


def until(condition: Callable[[], bool]) -> None:
    """Other processes have no events for us."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of one until somebody asks how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def sockets(pid: int) -> int:
    files = Path(f"/proc/{pid}/fd")
    return sum(os.readlink(files / name).startswith("socket:") for name in os.listdir(files))


@contextmanager
def started(folder: Path, address: str = "127.0.0.1:0", providers: str = "echo: {}") -> Iterator[Program]:
    config = folder / "config.yaml"
    config.write_text(f"providers: {{{providers}}}\n")
    process = subprocess.Popen(
        [sys.executable, ROOT / "start_gateway.py", address, "--workers", "2", "--config", config],
        stderr=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    assert process.stderr is not None
    screen = ""
    try:
        for line in process.stderr:
            screen += line
            if "ollama run echo" in line:
                break
        told = re.search(r"OLLAMA_HOST=http://127\.0\.0\.1:(\d+)$", screen, re.MULTILINE)
        assert told, screen
        yield Program(process, screen, int(told[1]))
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def test_connections_are_shared_out_and_counted_together(tmp_path: Path) -> None:
    with started(tmp_path) as program:
        workers = program.workers()
        assert len(workers) == 2
        idle = {worker: sockets(worker) for worker in workers}
        connections = [program.connection() for _ in range(64)]
        for connection in connections:
            assert get(connection, "/api/version") == '{"version":"0.33.0"}'
        assert all(sockets(worker) > idle[worker] + 5 for worker in workers)  # each has a good part of them
        for connection in connections[:10]:  # whoever is asked
            counted = 'requests_total{method="GET",route="/api/version",status="200"} 64.0'
            assert counted in get(connection, "/metrics")
        for connection in connections:
            connection.close()
        program.process.terminate()
        assert program.process.stderr is not None
        rest = program.process.stderr.read()
        assert program.process.wait(PATIENCE) == 0
    assert program.screen.count("OLLAMA_HOST") == 1
    assert not re.search("OLLAMA_HOST|died|Traceback", rest)
    assert not any(map(runs, workers))


def test_what_was_strict_once_is_so_for_all(tmp_path: Path) -> None:
    """Whichever worker gets a later turn of the conversation, also one that has come later than the first turn."""
    with started(tmp_path, providers="echo: {}, far: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}") as program:

        def ask(words: str, **more: str) -> int:
            """Over a connection of its own -> the status: 403 where the conversation must not leave the machine."""
            turns = [("user", words), ("assistant", "Yes?"), ("user", "Go on.")]
            messages = [{"role": role, "content": content} for role, content in turns]
            with closing(program.connection()) as connection:
                connection.request("POST", "/api/chat", json.dumps({"model": "far/m", "messages": messages, **more}))
                return connection.getresponse().status

        assert ask("My secret", privacy_mode="strict") == 403
        assert {ask("My secret") for _ in range(16)} == {403}
        assert ask("No secret") != 403
        before = program.workers()
        for victim in before:
            os.kill(victim, signal.SIGKILL)
            until(lambda victim=victim: len(program.workers() - {victim}) == 2)  # type: ignore[misc]
        assert not before & program.workers()
        assert {ask("My secret") for _ in range(16)} == {403}
        assert ask("No secret") != 403


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with started(tmp_path) as program:
        before = program.workers()
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        assert program.process.stderr is not None
        told = (line for line in program.process.stderr if "a worker has died" in line)  # other lines may come first
        assert f'"worker":{victim}' in next(told)
        until(lambda: len(program.workers()) == 2)
        assert victim not in program.workers()
        for _ in range(20):
            assert program.get("/health")
        program.process.terminate()
        assert program.process.wait(PATIENCE) == 0


def test_workers_do_not_outlive_the_first_process(tmp_path: Path) -> None:
    with started(tmp_path) as program:
        workers = program.workers()
        program.process.kill()
        until(lambda: not any(map(runs, workers)))


def test_ctrl_c_reaches_all_of_them_at_once(tmp_path: Path) -> None:
    with started(tmp_path) as program:
        workers = program.workers()
        for pid in (*workers, program.process.pid):  # as a terminal does
            os.kill(pid, signal.SIGINT)
        assert program.process.wait(PATIENCE) == 0
    assert not any(map(runs, workers))


@pytest.mark.parametrize("others", ["1", "2"])
def test_a_port_that_workers_share_is_in_use_for_others(tmp_path: Path, others: str) -> None:
    with started(tmp_path) as program:
        command = [ROOT / "start_gateway.py", f"127.0.0.1:{program.port}", "--workers", others]
        second = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode == 1
    assert f"error: port {program.port} is in use" in second.stderr


# -- the supervisor alone ----------------------------------------------------------------------------------------------


def supervised(work: str) -> subprocess.CompletedProcess[str]:
    program = f"""
        import os, signal, sys, time
        from ollama_bridge import workers

        def work(tell, first):
            {work}

        print("first", os.getpid(), flush=True)
        try:
            workers.supervise(2, work, lambda: print("ready", flush=True), lambda worker: print("lost", flush=True))
        except OSError as error:
            print(repr(error))
        print("end", os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, []))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT
    )
    return done


def test_a_worker_that_cannot_start_ends_it_all() -> None:
    done = supervised("raise ValueError('no')")
    first, *rest = done.stdout.splitlines()
    assert rest == [
        "ChildProcessError(10, 'a worker has ended before it could answer')",
        f"end {first.split()[1]} set()",
    ]
    assert "ValueError: no" in done.stderr  # once or twice: the second may be ended before it says so


def test_a_worker_that_does_not_listen_to_the_signal_is_ended_by_the_third() -> None:
    done = supervised(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell(); time.sleep(0.1)\n"
        "            for _ in range(3): os.kill(os.getppid(), signal.SIGTERM); time.sleep(1)\n"
        "            time.sleep(60)"
    )
    first, *rest = done.stdout.splitlines()
    assert rest == ["ready", f"end {first.split()[1]} set()"]
