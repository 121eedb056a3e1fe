"""Several processes that answer on one port: the kernel gives each new connection to one of them (SO_REUSEPORT).

The first process answers nobody. It keeps the address, starts the workers, puts another in the place of one that dies,
and ends them when it is told to end. A worker whose first process is gone ends as well.

Knows: processes, signals, sockets of Linux. Must not know: what the workers do.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

# What a worker runs: (tells that it answers, a file that ends when the first process is gone) -> when it has ended.
Work = Callable[[Callable[[], None], int], None]

PAUSE = 1.0  # seconds between the end of a worker and the start of another: one may fail at once, again and again
_AWAITED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP})
_TO_END = frozenset({signal.SIGTERM, signal.SIGINT})


@contextmanager
def reserved(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets that keep the addresses of `host` without listening. Port 0 is any free one, the same at each address.
    Raises OSError: in use, not ours, not allowed, or not to be had on this system."""
    if not (hasattr(socket, "SO_REUSEPORT") and hasattr(signal, "sigtimedwait")):
        raise OSError(errno.ENOSYS, "several workers need Linux")
    with ExitStack() as open_sockets:
        kept: list[socket.socket] = []
        for family, _, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            where = (address[0], kept[0].getsockname()[1] if kept else port, *address[2:])
            # Whoever shares an address may take part in it: only one who wants it for himself learns that it is taken.
            with _bound(family, where, shared=False) as probe:
                where = (where[0], probe.getsockname()[1], *where[2:])
            kept.append(open_sockets.enter_context(_bound(family, where, shared=True)))
        yield kept


def listeners(kept: Iterable[socket.socket]) -> list[socket.socket]:
    """A worker's own sockets at the addresses that are kept. Raises OSError."""
    return [_bound(sock.family, sock.getsockname(), shared=True) for sock in kept]


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def supervise(count: int, work: Work, ready: Callable[[], None], lost: Callable[[int], None]) -> None:
    """Runs `work` in `count` processes until SIGTERM or SIGINT, which end them; a second one makes them hurry, a
    third ends them at once. SIGHUP is passed on.

    `ready` is called once all of them answer; `lost` with the process id of one that has died and is replaced. Call it
    while there is one thread and no event loop. Raises ChildProcessError when one ends before it answers.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    workers: set[int] = set()
    alive, guard = os.pipe()
    try:
        told = [_start(work, mask, alive, guard, workers) for _ in range(count)]
        answers = [_answers(file) for file in told]
        if not all(answers):
            raise ChildProcessError(errno.ECHILD, "a worker has ended before it could answer")
        ready()
        while (told_what := signal.sigwait(_AWAITED)) not in _TO_END:
            if told_what == signal.SIGHUP:
                _tell(workers, signal.SIGHUP)
                continue
            for worker in _ended(workers):
                lost(worker)
                if signal.sigtimedwait(_TO_END, PAUSE) is not None:
                    return
                _answers(_start(work, mask, alive, guard, workers))
    finally:
        _end(workers)
        os.close(guard)
        os.close(alive)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(work: Work, mask: Iterable[int], alive: int, guard: int, workers: set[int]) -> int:
    """Adds a worker's process id; gives back the file in which it tells that it answers."""
    told, tell = os.pipe()
    worker = os.fork()
    if worker:
        os.close(tell)
        workers.add(worker)
        return told
    code = 1
    try:
        os.close(guard)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it knows what to do on it
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        work(lambda: os.close(tell) if os.write(tell, b".") else None, alive)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)  # nothing of the first process, whose copy this is, may run here


def _answers(told: int) -> bool:
    """Waits until a worker answers, or has ended without."""
    try:
        return os.read(told, 1) != b""
    finally:
        os.close(told)


def _ended(workers: set[int]) -> list[int]:
    """Those that have ended are taken out."""
    ended = [worker for worker in workers if os.waitpid(worker, os.WNOHANG)[0]]
    workers.difference_update(ended)
    return ended


def _end(workers: set[int]) -> None:
    _tell(workers, signal.SIGTERM)
    more = iter((signal.SIGTERM,))  # a worker hurries at its second; whoever asks a third time does not want to wait
    while _ended(workers) or workers:
        if workers and signal.sigwait(_AWAITED) in _TO_END:
            _tell(workers, next(more, signal.SIGKILL))


def _tell(workers: Iterable[int], what: signal.Signals) -> None:
    for worker in workers:
        os.kill(worker, what)  # it has not been waited for: the number is still its own
