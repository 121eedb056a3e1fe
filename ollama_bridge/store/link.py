"""The one connection to Redis: what is asked at the same time travels together, and nobody waits for a Redis that does
not answer.

Knows: redis-py, time limits, when Redis counts as lost. Must not know: what is asked, which keys there are.

Questions are scripts. They are executed in the order in which they were asked, so what takes a thing back can be asked
without waiting for the answer about the thing. Whatever goes wrong (refused, silent, slow, full, a wrong password), the
link is down: questions are answered with Lost at once, and a try in the background, with longer and longer pauses,
brings it up again as soon as Redis takes a write within the time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

TIMEOUT = 0.1  # seconds that an answer may take
CONNECT_TIMEOUT = 1.0  # of a new connection, for which nobody waits
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # seconds between tries to reach a lost Redis
STEADY = 30.0  # seconds after which a loss is a new one
BATCH = 256  # questions that travel together
QUEUED = 10_000  # questions that wait; more than that are not asked
LATE = 0.02  # seconds: a timer that late was held up by this process, not by Redis
ALIVE = "alive"  # a key that is written to see whether Redis takes writes

_REDIS_SAYS = re.compile(r"\b(OOM|NOAUTH|WRONGPASS|NOPERM|READONLY|LOADING|MISCONF|BUSY|CLUSTERDOWN|WRONGTYPE)\b")

# What a connection that breaks, and the parser of what came over it, come up with.
FAILURES = (RedisError, OSError, EOFError, ValueError)


class Lost(Exception):
    """Redis cannot be asked now."""


class Log(Protocol):
    """A structured logger."""

    def info(self, event: str, **values: object) -> object: ...

    def warning(self, event: str, **values: object) -> object: ...


@dataclass(slots=True, eq=False)
class _Question:
    script: str
    keys: tuple[str, ...]
    arguments: tuple[str | int, ...]
    asked: float
    answer: asyncio.Future[Any] | None = field(default=None, repr=False)


class Link:
    """`url` as redis-py takes it (redis://, rediss://, unix://). `scripts`: name -> Lua. `prefix` of every key.
    `changed(up)` is told when the link goes down or up. Start it in the loop, stop it before the loop ends."""

    def __init__(
        self,
        url: str,
        scripts: Mapping[str, str],
        log: Log,
        *,
        prefix: str,
        timeout: float = TIMEOUT,
        changed: Callable[[bool], None] = lambda up: None,
    ) -> None:
        self.up = False
        self._url = url
        self._scripts = scripts
        self._hashes = {name: sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in scripts.items()}
        self._log = log
        self._prefix = prefix
        self._timeout = timeout
        self._changed = changed
        self._questions: deque[_Question] = deque()
        self._wake = asyncio.Event()
        self._redis: Redis | None = None
        self._pause = SHORTEST_PAUSE
        self._up_since = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Tries once to reach Redis; if that fails, goes on trying in the background."""
        why = await self._connect()
        self._changed(self.up)
        if why:
            self._say_lost(why)
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """What was asked and is not answered yet is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()
        self._changed(False)

    async def ask(self, script: str, keys: tuple[str, ...], *arguments: str | int) -> Any:
        """The script's answer. Raises Lost, within the time limit. When the asker is cancelled, the script may run
        nevertheless."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._put(_Question(script, keys, arguments, asyncio.get_running_loop().time(), answer)):
            raise Lost
        return await answer

    def post(self, script: str, keys: tuple[str, ...], *arguments: str | int) -> None:
        """A script whose answer nobody waits for. It is not run when Redis is lost."""
        self._put(_Question(script, keys, arguments, asyncio.get_running_loop().time()))

    def _put(self, question: _Question) -> bool:
        if not self.up or len(self._questions) >= QUEUED:
            return False
        self._questions.append(question)
        self._wake.set()
        return True

    # -- at work -----------------------------------------------------------------------------------------------------
    async def _work(self) -> None:
        try:
            while True:
                await (self._serve() if self.up else self._recover())
        finally:
            self.up = False
            self._answer_lost()  # nobody may wait for what nobody fetches

    async def _serve(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        while self.up and self._questions:
            await self._send()

    async def _recover(self) -> None:
        await asyncio.sleep(self._pause)
        if await self._connect():
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._log.info("redis answers")
            self._changed(True)

    async def _send(self) -> None:
        """One batch there and back."""
        batch: list[_Question] = []
        while self._questions and len(batch) < BATCH:
            question = self._questions.popleft()
            if question.answer is None or not question.answer.done():
                batch.append(question)
        if not batch:
            return
        deadline = min(question.asked for question in batch) + self._timeout
        try:
            why = await self._exchange(batch, deadline)
        except BaseException:
            _tell_lost(batch)
            raise
        if why:
            _tell_lost(batch)
            await self._lose(why)

    async def _exchange(self, batch: list[_Question], deadline: float) -> str:
        """-> why it failed, "" when everything is answered."""
        answers = await self._within(deadline, asyncio.ensure_future(self._run(batch)))
        if isinstance(answers, str):
            return answers
        for question, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                return _in_short(answer)
            if question.answer is not None and not question.answer.done():
                question.answer.set_result(answer)
        return ""

    async def _within(self, deadline: float, running: asyncio.Task[list[Any]]) -> list[Any] | str:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait({running}, timeout=max(deadline - loop.time(), 0.0))
            if not running.done() and loop.time() > deadline + LATE:
                # We come late ourselves: the answer may lie there, unread.
                await asyncio.wait({running}, timeout=self._timeout)
            if not running.done():
                return "no answer in time"
            return running.result()
        except FAILURES as error:
            return _in_short(error)
        finally:
            running.cancel()

    async def _run(self, batch: list[_Question]) -> list[Any]:
        answers = await self._pipeline(batch)
        if any(_is_unknown(answer) for answer in answers):  # Redis was started anew
            await self._load()
            again = [n for n, answer in enumerate(answers) if _is_unknown(answer)]
            for n, answer in zip(again, await self._pipeline([batch[n] for n in again]), strict=True):
                answers[n] = answer
        return answers

    async def _pipeline(self, batch: list[_Question]) -> list[Any]:
        assert self._redis is not None
        pipeline = self._redis.pipeline(transaction=False)
        for question in batch:
            keys = [self._prefix + key for key in question.keys]
            pipeline.evalsha(self._hashes[question.script], len(keys), *keys, *question.arguments)
        return list(await pipeline.execute(raise_on_error=False))

    # -- down and up -------------------------------------------------------------------------------------------------
    async def _lose(self, why: str) -> None:
        self.up = False
        now = asyncio.get_running_loop().time()
        self._pause = SHORTEST_PAUSE if now - self._up_since > STEADY else min(2 * self._pause, LONGEST_PAUSE)
        self._say_lost(why)
        self._changed(False)
        self._answer_lost()
        await self._disconnect()

    def _say_lost(self, why: str) -> None:
        self._log.warning("redis is lost, this process limits by itself meanwhile", why=why)

    def _answer_lost(self) -> None:
        _tell_lost(self._questions)
        self._questions.clear()

    async def _connect(self) -> str:
        """-> why it failed, "" when the link is up."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self._redis = _client(self._url)
                await self._load()
            async with asyncio.timeout(self._timeout):
                await self._redis.set(self._prefix + ALIVE, 1, px=1000)
        except FAILURES as error:
            await self._disconnect()
            return "no answer in time" if isinstance(error, TimeoutError) else _in_short(error)
        self.up = True
        self._up_since = asyncio.get_running_loop().time()
        return ""

    async def _load(self) -> None:
        assert self._redis is not None
        pipeline = self._redis.pipeline(transaction=False)
        for text in self._scripts.values():
            pipeline.script_load(text)
        await pipeline.execute()

    async def _disconnect(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(self._timeout):
                    await redis.aclose()


def _client(url: str) -> Redis:
    return Redis.from_url(
        url, protocol=2, decode_responses=True, retry=Retry(NoBackoff(), 0),
        socket_timeout=None, socket_connect_timeout=CONNECT_TIMEOUT,
    )  # fmt: skip


def _tell_lost(questions: deque[_Question] | list[_Question]) -> None:
    for question in questions:
        if question.answer is not None and not question.answer.done():
            question.answer.set_exception(Lost())


def _is_unknown(answer: object) -> bool:
    return isinstance(answer, Exception) and "NOSCRIPT" in f"{type(answer).__name__} {answer}".upper()


def _in_short(error: Exception) -> str:
    """The kind of an error, and Redis' own word for it; never an address or a password."""
    word = _REDIS_SAYS.search(str(error))
    return f"{type(error).__name__} {word[0]}" if word else type(error).__name__
