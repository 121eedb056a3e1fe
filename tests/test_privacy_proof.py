"""The proof that what is strict stays here: over random configurations, plans, faults and requests, every connection
that is opened while a strict request is answered is seen at the socket, and none leads to a target that is not local.

Whether a request is strict, which configuration could leak and which server is local is decided here once more, from
the words of product.md 3 and without the gateway's code. Routers that leak on purpose show that the proof would see it.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml
from connects import connections
from fakes.ollama_wire import FakeOllama, tag
from fakes.openai_wire import FakeOpenAI
from fakes.script import Script, Trouble, Upstream
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ollama_bridge.app import start
from ollama_bridge.config import ConfigError, load
from ollama_bridge.lists.discovery import Discovery
from ollama_bridge.policy import router, selection
from ollama_bridge.policy.sticky import Sticky

EXAMPLES = 100
KEYS = ("sk-test", "sk-further")
MODELS = ("m0", "m1")
EVERYTHING = ["completion", "tools", "vision", "thinking", "embedding"]
WORLDS_ADDRESS = "198.51.100.7"  # of a documentation range: nobody's, and not private

# What a name may be in the configuration and in requests.
OPENAI_WIRE = ("p0", "p1", "p2", "p3", "named")
AT_THE_BOX = ("box/here", "box/stub", "box/away:cloud", "box/unlisted", "club/there")
TARGETS = (*(f"{p}/{m}" for p in OPENAI_WIRE for m in MODELS), *AT_THE_BOX, "echo/echo")
ALIASES = ("a0", "a1", "a2")
TASKS = ("chat", "vision", "ocr", "embedding")

FAULTS = {
    "none": Script(text=("Hel", "lo")),
    "500": Script(status=500, error="It broke."),
    "404": Script(status=404, error="The model does not exist."),
    "401": Script(status=401, error="Who are you?"),
    "429": Script(status=429, error="Slow down.", headers={"Retry-After": "30"}),
    "filter": Script(status=400, error="Filtered.", error_code="content_filter"),
    "too-long": Script(status=400, error="maximum context length is 10 tokens", error_code="context_length_exceeded"),
    "cut": Script(text=("Hel", "lo"), trouble=Trouble.CUT, after=0),
    "cut-later": Script(text=("Hel", "lo"), trouble=Trouble.CUT, after=1),
}
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


# -- what is drawn -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Alias:
    targets: tuple[str, ...]
    strategy: str
    strict: bool


@dataclass(frozen=True)
class Setup:
    """A configuration. `local`: which of p0 to p3 are declared so; `named` (a host name) and `box` always are, `club`
    never is. `strict` and `flexible`: task -> names."""

    local: frozenset[str]
    keys: int
    aliases: dict[str, Alias]
    default: str
    strict: dict[str, tuple[str, ...]]
    flexible: dict[str, tuple[str, ...]]
    faults: dict[str, str]  # target -> fault

    def __hash__(self) -> int:
        return id(self)

    def is_local(self, provider: str) -> bool:
        return provider in self.local or provider in ("named", "box", "echo")

    def leaves(self, target: str) -> bool:
        """As far as a file can tell."""
        provider, _, model = target.partition("/")
        return not self.is_local(provider) or (provider == "box" and model.endswith(":cloud"))

    def could_leak(self) -> bool:
        cells = [name for names in self.strict.values() for name in names]
        strict = [t for name in cells for t in (self.aliases[name].targets if name in self.aliases else (name,))]
        strict += [target for alias in self.aliases.values() if alias.strict for target in alias.targets]
        return any(map(self.leaves, strict))


@dataclass(frozen=True)
class Request:
    path: str
    model: str | None
    body_word: str | None
    header_word: str | None
    task: str | None
    provider: str | None
    picture: str  # "", "data" or "url"
    tools: bool
    stream: bool
    goes_on: bool  # with the conversation of the request before
    resolves: bool  # whether the host name of `named` leads here

    def is_strict(self, setup: Setup, earlier: bool) -> bool:
        """`earlier`: the conversation has been strict before."""
        words = {self.body_word, self.header_word}
        alias = setup.aliases.get(self.model or "")
        named_private = self.model == "private" and bool(setup.strict)
        if "strict" in words or earlier or named_private or (alias is not None and alias.strict):
            return True
        named_auto = self.model == "auto" and bool(setup.flexible)
        return setup.default == "strict" and "flexible" not in words and not named_auto

    def body(self, turns: list[dict[str, Any]], picture_url: str) -> dict[str, Any]:
        body: dict[str, Any] = {"stream": self.stream}
        for name, value in (("model", self.model), ("privacy_mode", self.body_word), ("task", self.task),
                            ("provider", self.provider)):  # fmt: skip
            if value is not None:
                body[name] = value
        if "embed" in self.path:
            return {**body, "input": "Hi"}
        if self.path == "/api/generate":
            return {**body, "prompt": turns[0]["content"], **({"images": [PICTURE]} if self.picture else {})}
        turns = [dict(turn) for turn in turns]
        if self.picture and self.path == "/api/chat":
            turns[-1]["images"] = [PICTURE if self.picture == "data" else picture_url]
        elif self.picture:
            url = f"data:image/png;base64,{PICTURE}" if self.picture == "data" else picture_url
            parts = [{"type": "text", "text": turns[-1]["content"]}, {"type": "image_url", "image_url": {"url": url}}]
            turns[-1]["content"] = parts
        if self.tools and self.path in ("/api/chat", "/v1/chat/completions"):
            body["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        return {**body, "messages": turns}


def some(names: tuple[str, ...], most: int = 3) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), min_size=1, max_size=most, unique=True).map(tuple)


def aliases() -> st.SearchStrategy[dict[str, Alias]]:
    strategy = st.sampled_from(["ordered", "weighted", "least_busy", "cheapest"])
    rarely = st.sampled_from([False, False, False, True])
    return st.fixed_dictionaries({name: st.builds(Alias, some(TARGETS), strategy, rarely) for name in ALIASES})


def cells() -> st.SearchStrategy[dict[str, tuple[str, ...]]]:
    return st.dictionaries(st.sampled_from(TASKS), some((*ALIASES, *TARGETS), 2), min_size=2, max_size=4)


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    """Most of them such that they load: what could leak is drawn as well, and mended in most of the cases."""
    made = Setup(
        draw(st.frozensets(st.sampled_from(("p0", "p1", "p2", "p3")))),
        draw(st.integers(1, 2)),
        draw(aliases()),
        draw(st.sampled_from(["flexible", "flexible", "strict"])),
        draw(cells()),
        draw(cells()),
        draw(st.fixed_dictionaries({target: st.sampled_from(["none"] * 12 + [*FAULTS]) for target in TARGETS})),
    )
    if not made.could_leak() or draw(st.sampled_from([True, False, False, False, False])):
        return made
    stays = [target for target in TARGETS if not made.leaves(target)]
    kept = {
        name: Alias(tuple(t for t in alias.targets if t in stays) or ("box/stub",), alias.strategy, True)
        if alias.strict
        else alias
        for name, alias in made.aliases.items()
    }
    safe = {*stays, *(name for name, alias in kept.items() if not any(map(made.leaves, alias.targets)))}
    strict = {task: tuple(n for n in names if n in safe) or ("box/here",) for task, names in made.strict.items()}
    return Setup(made.local, made.keys, kept, made.default, strict, made.flexible, made.faults)


WORDS = st.sampled_from([None, None, "strict", "flexible"])
PATHS = ("/api/chat", "/api/generate", "/v1/chat/completions", "/chat", "/stream", "/api/embed", "/v1/embeddings")
REQUESTS = st.builds(
    Request,
    path=st.sampled_from([*PATHS, "/api/chat", "/v1/chat/completions"]),
    model=st.sampled_from([None, "auto", "private", *ALIASES * 4, *TARGETS, "unknown"]),
    body_word=WORDS,
    header_word=WORDS,
    task=st.sampled_from([None] * 8 + [*TASKS]),
    provider=st.sampled_from([None] * 20 + [*OPENAI_WIRE, "box", "club"]),
    picture=st.sampled_from(["", "", "", "data", "url"]),
    tools=st.booleans(),
    stream=st.booleans(),
    goes_on=st.booleans(),
    resolves=st.sampled_from([True, True, False]),
)


# -- the world it is tried in ------------------------------------------------------------------------------------------
@dataclass
class World:
    """Servers for all that is drawn, for all examples. `names`: what host names resolve to."""

    servers: dict[str, Upstream] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    strict: int = 0  # requests that were, over all examples
    answered: int = 0  # strict ones with a 200
    refused: int = 0  # configurations

    async def open(self, exit_stack: AsyncExitStack) -> None:
        for name in (*OPENAI_WIRE, "pictures"):
            self.servers[name] = server = FakeOpenAI()
            server.keys = frozenset(KEYS)
        self.servers["box"], self.servers["club"] = FakeOllama(), FakeOllama()
        for server in self.servers.values():
            await exit_stack.enter_async_context(server)

    def port(self, name: str) -> int:
        return urlsplit(self.servers[name].url).port or 0

    def set_up(self, setup: Setup) -> None:
        box, club = self.servers["box"], self.servers["club"]
        assert isinstance(box, FakeOllama) and isinstance(club, FakeOllama)
        words = tuple(EVERYTHING)
        stub = {**tag("stub", words), "remote_host": "https://ollama.com:443", "remote_model": "stub"}
        box.tags = {"models": [tag("here", words), tag("away:cloud", words), stub]}
        club.tags = {"models": [tag("there", words)]}
        for target, fault in setup.faults.items():
            provider, _, model = target.partition("/")
            if provider in self.servers:
                for spelling in (model, f"{model}:latest"):
                    self.servers[provider].play(spelling, FAULTS[fault])
        for server in self.servers.values():
            server.seen.clear()

    def config(self, setup: Setup) -> dict[str, Any]:
        facts = {model: {"capabilities": EVERYTHING} for model in MODELS}
        providers: dict[str, Any] = {"echo": {}, "ollama": {"base_url": "http://127.0.0.1:9", "local": False}}
        for name in OPENAI_WIRE:
            keys = list(KEYS[: setup.keys])
            entry = {"kind": "openai", "base_url": f"{self.servers[name].url}/v1", "api_keys": keys, "models": facts}
            providers[name] = {**entry, "local": setup.is_local(name)}
        providers["named"]["base_url"] = f"http://llm.test:{self.port('named')}/v1"
        for name in ("box", "club"):
            providers[name] = {"kind": "ollama", "base_url": self.servers[name].url, "local": setup.is_local(name)}
        models = {
            name: {
                "targets": list(alias.targets),
                "strategy": alias.strategy,
                "capabilities": EVERYTHING,
                **({"privacy": "strict"} if alias.strict else {}),
            }
            for name, alias in setup.aliases.items()
        }
        table = {
            word: {task: list(names) for task, names in row.items()}
            for word, row in (("strict", setup.strict), ("flexible", setup.flexible))
        }
        return {
            "server": {"listen": "127.0.0.1:0", "log_level": "error"},
            "providers": providers,
            "models": models,
            "routing": {"default": setup.default, **table},
            "timeouts": {"total": "10s", "first_byte": "10s", "first_token": "10s", "idle": "10s"},
        }

    def strayed(self, setup: Setup, opened: list[tuple[str, int]]) -> list[str]:
        """What of all connections and of what servers were asked is not local."""
        ports = {self.port(name): name for name in self.servers}
        found = [
            f"a connection to {ports.get(port, port)} at {host}"
            for host, port in opened
            if host not in ("127.0.0.1", "::1") or not setup.is_local(ports.get(port, "box"))
        ]
        # A connection that was kept open would not be seen again at the socket.
        for name, server in self.servers.items():
            for one in server.seen:
                model = str(one.json.get("model", "")) if one.method == "POST" else ""
                if not setup.is_local(name) or model.split(":")[0] in ("stub", "away", "unlisted"):
                    found.append(f"{one.method} {one.path} {model} at {name}")
        return found


@contextmanager
def quiet_discovery() -> Iterator[None]:
    """Providers' lists of models are not asked for beside: what is seen at the socket belongs to the request."""

    async def nothing(self: Discovery, provider: Any) -> None:
        return

    with mock.patch.object(Discovery, "_keep_asking", nothing):
        yield


@contextmanager
def resolving(names: dict[str, str]) -> Iterator[None]:
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        return real(names.get(host, host), port, *more, **named)

    with mock.patch.object(socket, "getaddrinfo", resolve):
        yield


class Lab:
    """One loop, and the servers in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = asyncio.Runner()
        self.exit_stack = AsyncExitStack()
        self.world = World()

    def __enter__(self) -> Lab:
        self.runner.run(self.world.open(self.exit_stack))
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.run(self.exit_stack.aclose())
        self.runner.close()

    def tried(self, setup: Setup, requests: list[Request]) -> None:
        """Raises AssertionError when anything strict leaves."""
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump({**self.world.config(setup), "state_dir": str(self.folder / "state")}))
        try:
            config = load(path, env={})
        except ConfigError as error:
            assert setup.could_leak(), f"refused for no reason: {error}"
            self.world.refused += 1
            return
        assert not setup.could_leak(), "a configuration that could leak was not refused"
        with quiet_discovery(), resolving(self.world.names):
            self.runner.run(self._asked(setup, config, requests))

    async def _asked(self, setup: Setup, config: Any, requests: list[Request]) -> None:
        self.world.set_up(setup)
        running = await start(config)
        try:
            timeout = aiohttp.ClientTimeout(total=30)
            async with aiohttp.ClientSession(timeout=timeout) as http:
                await self._one_after_the_other(setup, running.url, http, requests)
        finally:
            await running.stop()

    async def _one_after_the_other(
        self, setup: Setup, url: str, http: aiohttp.ClientSession, requests: list[Request]
    ) -> None:
        numbers = itertools.count()
        turns: list[dict[str, Any]] = []
        was_strict = False
        picture_url = f"{self.world.servers['pictures'].url}/a.png"
        ours = urlsplit(url).port
        for request in requests:
            if request.goes_on and turns:
                turns = [*turns, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "And then?"}]
            else:
                turns, was_strict = [{"role": "user", "content": f"Words {next(numbers)}"}], False
            is_chat = "embed" not in request.path and request.path != "/api/generate" and request.task != "embedding"
            strict = request.is_strict(setup, was_strict and len(turns) > 1 and is_chat)
            self.world.names["llm.test"] = "127.0.0.1" if request.resolves else WORLDS_ADDRESS
            for server in self.world.servers.values():
                server.seen.clear()
            headers = {"X-Bridge-Privacy": request.header_word} if request.header_word else {}
            with connections() as opened:
                body = request.body(turns, picture_url)
                async with http.post(url + request.path, json=body, headers=headers) as response:
                    raw = await response.read()
            assert response.status < 500 or (response.status in (500, 502, 503, 504) and b"internal" not in raw), raw
            if strict:
                strayed = self.world.strayed(setup, [(host, port) for host, port in opened if port != ours])
                assert not strayed, f"strict, and yet {strayed}"
                self.world.strict += 1
                self.world.answered += response.status == 200
            # A request that was refused before its words were understood leaves no mark.
            was_strict = was_strict or (strict and is_chat and response.status not in (400, 404))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("proof")) as made:
        yield made


def proven(lab: Lab, examples: int, **more: Any) -> None:
    """Raises AssertionError with the smallest example that was found."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        **{"phases": (Phase.explicit, Phase.generate, Phase.shrink), **more},  # to explain takes longer than to read
    )
    @given(setup=setups(), requests=st.lists(REQUESTS, min_size=3, max_size=6))
    def proof(setup: Setup, requests: list[Request]) -> None:
        lab.tried(setup, requests)

    proof()


def test_no_strict_request_ever_opens_a_connection_to_what_is_not_local(lab: Lab) -> None:
    proven(lab, EXAMPLES)
    world = lab.world
    print(f"{EXAMPLES} worlds: {world.refused} refused; {world.strict} strict requests, {world.answered} answered")
    assert world.strict > EXAMPLES and world.answered > EXAMPLES / 4, "what is never tried is not proven"
    assert world.refused > 0


def no_reason(*_: Any) -> None:
    return None


LEAKS: dict[str, Callable[[], Any]] = {
    "the filter": lambda: mock.patch.object(router, "_leaving", no_reason),
    "the header": lambda: mock.patch.object(
        selection, "privacy_word", lambda text, where, real=selection.privacy_word: (
            None if where.startswith("X-") else real(text, where)
        ),
    ),
    "the body": lambda: mock.patch.object(
        selection, "privacy_word", lambda text, where, real=selection.privacy_word: (
            real(text, where) if where.startswith("X-") else None
        ),
    ),
    "the conversation": lambda: mock.patch.object(Sticky, "was_strict", lambda self, opening: False),
}  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_router_that_leaks_is_found_out(lab: Lab, leak: Callable[[], Any]) -> None:
    with leak(), pytest.raises(AssertionError, match="strict, and yet"):
        proven(lab, 300, phases=[Phase.generate])


def test_a_session_without_its_guard_is_found_out(lab: Lab) -> None:
    from ollama_bridge.providers import transport

    with (
        mock.patch.object(transport, "is_private", lambda host: True),
        pytest.raises(AssertionError, match=f"strict, and yet .* at {WORLDS_ADDRESS}"),
    ):
        proven(lab, 300, phases=[Phase.generate])
