"""A whole gateway for a test: the real configuration, the real web server on a free port, in the test's own loop.

Knows: how one is started and stopped, and the configuration keys tests need. Must not know: what it should answer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import yaml
from doors import CHAT, Ask, Door, Heard, Turn, ask_door
from fakes.openai_wire import KEY
from fakes.script import Script, Upstream

NOBODY = "http://127.0.0.1:9"  # the discard service, which no machine runs: connections are refused
CAPABLE = ["completion", "tools", "vision", "thinking"]


@dataclass
class Gateway:
    """A running one. `http` is a bare client of it, without time-outs or retries. `running`: the gateway itself, where
    it lives in the test's own loop."""

    url: str
    http: aiohttp.ClientSession
    running: Any = None

    async def ask(self, door: Door, ask: Ask, model: str, stream: bool, **more: Any) -> Heard:
        """One request through `door`; `more` are further keys of its body."""
        return await ask_door(self.http, self.url, door, {**door.body(ask, model, stream), **more})


@asynccontextmanager
async def running(
    folder: Path, config: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> AsyncIterator[Gateway]:
    """Starts a gateway from `config` (the YAML file as a dict); it sees no environment but `environment`. Files go into
    `folder`."""
    # Imported here, so that a test file that cannot start a gateway fails as tests, not as a collection.
    from ollama_bridge.app import start
    from ollama_bridge.config import load

    server = {"listen": "127.0.0.1:0", **config.get("server", {})}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"state_dir": str(folder / "state"), **config, "server": server}), encoding="utf-8")
    started = await start(load(path, env=dict(environment or {})))
    try:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
            yield Gateway(started.url, http, started)
    finally:
        await started.stop()


NO_BREAKERS = {"base": 0, "max": 0}  # backoff: no failure shuts anybody off for what follows
PAUSE = 0.003  # seconds


@contextmanager
def hardly_any_pause() -> Iterator[None]:
    """What may be asked again is asked again at once, unless a provider said when: pauses of our own (policy/retries)
    are cut to PAUSE. How often and how many in any 3 s stays as it is."""
    from ollama_bridge.policy import retries

    with mock.patch.multiple(retries, THROTTLE_PAUSE=PAUSE, FAILURE_PAUSE=PAUSE):
        yield


# The least a client can ask at each endpoint that reaches a provider.
LEAST: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": [{"role": "user", "content": "Hi"}], "stream": False},
    "/api/generate": {"prompt": "Hi", "stream": False},
    "/api/embed": {"input": "Hi"},
    "/api/embeddings": {"prompt": "Hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
}


async def ask_least(gateway: Gateway, path: str, model: str, **more: Any) -> tuple[int, str, Mapping[str, str]]:
    """-> (status, an error's words or the whole answer, headers). `more` are further keys of the body."""
    async with gateway.http.post(gateway.url + path, json={"model": model, **LEAST[path], **more}) as response:
        text = await response.text()
        if response.status >= 400:
            error = json.loads(text)["error"]
            text = error if isinstance(error, str) else error["message"]
        return response.status, text, response.headers


async def warm(gateway: Gateway, upstream: Upstream, account: str) -> None:
    """One request through the provider `account`, so that its SDK is loaded and its client built before short limits
    count. `upstream` must answer for `account`."""
    upstream.play("warm", Script(text=("warm",)))
    heard = await gateway.ask(CHAT, Ask((Turn("user", "Warm?"),)), f"{account}/warm", False)
    assert heard.text == "warm", heard


def openai_provider(url: str, **more: Any) -> dict[str, Any]:
    """The entry of an OpenAI-wire provider at a fake."""
    return {"kind": "openai", "base_url": f"{url}/v1", "api_key": KEY, **more}


def ollama_provider(url: str, **more: Any) -> dict[str, Any]:
    return {"kind": "ollama", "base_url": url, **more}


def alias(provider: str, model: str, **more: Any) -> dict[str, Any]:
    """A model that can do everything but embed, unless `more` says otherwise."""
    return {"provider": provider, "model": model, "capabilities": CAPABLE, **more}


def aliases(provider: str, models: Iterable[str], **more: Any) -> dict[str, Any]:
    """`provider-name` -> the provider's model `up-name`: public and upstream name differ, so that one showing up in
    place of the other is seen."""
    return {f"{provider}-{name}": alias(provider, f"up-{name}", **more) for name in models}
