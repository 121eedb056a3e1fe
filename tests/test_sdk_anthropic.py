"""Our contract with the anthropic SDK, over real sockets: raw bytes in and out, our key, address and version only,
typed errors, prompt closing. It fails when a new version of the SDK moves."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fakes.anthropic_wire import KEY, FakeAnthropic, model_item
from fakes.script import Frame, Refusal, Script, Trouble, Upstream

from ollama_bridge.dialects.base import CHAT, Profile
from ollama_bridge.errors import GatewayError, Scope, UpstreamRefused
from ollama_bridge.events import fold
from ollama_bridge.providers.anthropic import FIRST_VERSION, SAMPLING, AnthropicProvider, listed, read_models
from ollama_bridge.providers.base import Call, Timeouts
from ollama_bridge.providers.heads import LIFETIME
from ollama_bridge.providers.transport import AiohttpUpstream, http_client, open_session

NEWEST_VERSION = "2026-10-21"
QUICK = Timeouts(connect=5, first_byte=0.05, first_token=0.05, idle=0.05, total=0.05)
PATIENT = Timeouts()
ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "é🙂"}]}
ONE = b"event: ping\ndata: one\n\n"


class Bare(Upstream):
    """Answers whatever it is asked as `script` says, and judges nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.script = Script(raw=b'{"ok":true}')
        self.arrived = asyncio.Event()

    def routes(self, app: web.Application) -> None:
        app.router.add_route("*", "/{path:.*}", self.answer)

    def error_body(self, refusal: Refusal) -> Any:
        return {"type": "error", "error": {"type": refusal.type, "message": refusal.message}}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        self.arrived.set()
        frames = [Frame(ONE, content=True), Frame(b"data: never\n\n")] if self.script.trouble is not None else None
        return await self.perform(request, seen, self.script, frames, b"", "application/json")


@pytest.fixture
async def bare() -> AsyncIterator[Bare]:
    server = Bare()
    async with server:
        yield server


@pytest.fixture
async def fake() -> AsyncIterator[FakeAnthropic]:
    server = FakeAnthropic()
    async with server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    opened = await open_session()
    yield opened
    await opened.close()


Make = Callable[..., AnthropicProvider]


@pytest.fixture
async def make(session: aiohttp.ClientSession) -> AsyncIterator[Make]:
    """Makes providers at an address, and closes them."""
    made: list[AnthropicProvider] = []

    def new(base_url: str, **changes: Any) -> AnthropicProvider:
        settings: dict[str, Any] = {
            "api_key": KEY, "session": session, "profile": Profile(), "local": True, "off": None, "timeouts": PATIENT,
        }  # fmt: skip
        made.append(AnthropicProvider("lab", base_url=base_url, **settings | changes))
        return made[-1]

    yield new
    for provider in made:
        await provider.close()


def call(body: dict[str, Any] | bytes = b"{}", *, stream: bool = False, timeouts: Timeouts = PATIENT) -> Call:
    return Call(CHAT, body, stream, timeouts)


# -- what goes out -----------------------------------------------------------------------------------------------------


async def test_bytes_go_out_unchanged(bare: Bare, make: Make) -> None:
    body = b'{ "model":"m",  "x": 1.50, "odd\\u00e9": [ ] }'
    provider = make(bare.url)
    for stream in (True, False):
        (await provider.open(call(body, stream=stream))).close()
    for seen in bare.seen:
        assert (seen.method, seen.path, seen.body) == ("POST", "/v1/messages", body)
        assert seen.headers["content-type"] == "application/json"


async def test_a_value_goes_out_as_json(bare: Bare, make: Make) -> None:
    (await make(bare.url).open(call(ASK))).close()
    assert bare.seen[0].json == ASK


async def test_nothing_is_parsed_on_the_way(bare: Bare, make: Make) -> None:
    """What is no JSON passes both ways: the SDK builds no object of a request or an answer."""
    bare.script = Script(raw=b"\x00 no json")
    upstream = await make(bare.url).open(call(b"\xff no json either"))
    assert await upstream.body(100) == b"\x00 no json"
    assert bare.seen[0].body == b"\xff no json either"


async def test_a_body_of_tens_of_megabytes_goes_out(bare: Bare, make: Make) -> None:
    body = b'{"x":"' + b"a" * (20 << 20) + b'"}'
    (await make(bare.url).open(call(body))).close()
    assert bare.seen[0].body == body


async def test_key_and_version(bare: Bare, make: Make) -> None:
    (await make(bare.url).open(call())).close()
    headers = bare.seen[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["anthropic-version"] == NEWEST_VERSION
    assert "x-api-key" not in headers and "cookie" not in headers
    assert headers["user-agent"].startswith("AsyncAnthropic/")


@pytest.mark.parametrize("path", ["", "/v1", "/proxy/anthropic"])
async def test_an_address_may_name_the_version_of_the_api(bare: Bare, make: Make, path: str) -> None:
    (await make(bare.url + path).open(call())).close()
    assert bare.seen[0].path == path.removesuffix("/v1") + "/v1/messages"


async def test_another_version_may_be_asked_for(bare: Bare, make: Make) -> None:
    by_option = make(bare.url, version=FIRST_VERSION)
    by_header = make(bare.url, headers={"Anthropic-Version": FIRST_VERSION, "X-Team": "bridge"}, version="other")
    for provider in (by_option, by_header):
        (await provider.open(call())).close()
        assert bare.seen[-1].headers["anthropic-version"] == FIRST_VERSION
    assert bare.seen[-1].headers["x-team"] == "bridge"


def test_the_first_version_lets_models_have_their_sampling(make: Make) -> None:
    profile = Profile(rejects=SAMPLING | {"seed"})
    assert make("http://x", profile=profile).profile == profile
    for first in ({"version": FIRST_VERSION}, {"compatible": True}, {"headers": {"anthropic-version": FIRST_VERSION}}):
        fitted = make("http://x", profile=profile, **first).profile
        assert (fitted.rejects, fitted.accepts) == ({"seed"}, {"top_k"})


async def test_servers_of_other_makers(bare: Bare, make: Make) -> None:
    (await make(bare.url, compatible=True).open(call())).close()
    headers = bare.seen[0].headers
    assert (headers["authorization"], headers["x-api-key"]) == (f"Bearer {KEY}", KEY)
    assert headers["anthropic-version"] == FIRST_VERSION
    keyless = make(bare.url, compatible=True, api_key=None)
    (await keyless.open(call())).close()
    headers = bare.seen[1].headers
    assert headers["authorization"] == "Bearer none" and "x-api-key" not in headers


async def test_the_environment_does_not_speak(
    bare: Bare, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither variables nor the profile files that the SDK looks for on disk."""
    for folder in ("configs", "credentials"):
        (tmp_path / folder).mkdir()
        profile = {"base_url": "http://127.0.0.1:9", "api_key": "sk-stray", "workspace_id": "stray", "token": "stray"}
        (tmp_path / folder / "default.json").write_text(json.dumps(profile))
    (tmp_path / "active_config").write_text("default")
    for name, value in {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
        "ANTHROPIC_API_KEY": "sk-stray",
        "ANTHROPIC_AUTH_TOKEN": "sk-stray-token",
        "ANTHROPIC_CUSTOM_HEADERS": "X-Stray: stray\nAuthorization: Bearer stray",
        "ANTHROPIC_PROFILE": "default",
        "ANTHROPIC_CONFIG_DIR": str(tmp_path),
        "ANTHROPIC_WORKSPACE_ID": "stray",
        "ANTHROPIC_ORGANIZATION_ID": "stray",
        "ANTHROPIC_FEDERATION_RULE_ID": "stray",
        "ANTHROPIC_IDENTITY_TOKEN": "stray",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    for key, sent in ((KEY, KEY), (None, "none")):
        (await make(bare.url, api_key=key).open(call())).close()
        headers = bare.seen[-1].headers
        assert headers["authorization"] == f"Bearer {sent}"
        assert not [value for value in headers.values() if "stray" in value]


async def test_the_sdk_traces_nothing(make: Make) -> None:
    """Unless told not to, it does so as soon as OpenTelemetry is installed."""
    provider = make("http://127.0.0.1:9")
    await provider.ready()
    assert provider._calls is not None
    assert provider._calls._client.open_telemetry["traces"]["enabled"] is False


async def test_streams_are_asked_for_unpacked(bare: Bare, make: Make) -> None:
    provider = make(bare.url)
    for stream in (True, False):
        (await provider.open(call(stream=stream))).close()
    assert [seen.headers["accept-encoding"] for seen in bare.seen] == ["identity", "gzip, deflate"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_the_sdk_writes_the_same_head_each_time(bare: Bare, make: Make, stream: bool) -> None:
    """What repeating heads rests on (performance.md 9.9): with a clock that runs, the SDK writes each; with one that
    stands still, the first goes out again."""
    hours = iter(range(100))
    for clock in (lambda: next(hours) * LIFETIME, lambda: 0.0):
        bare.seen.clear()
        provider = make(bare.url, clock=clock)
        for body in (b"{}", b'{"a":1}', b'{"b":[2]}'):
            (await provider.open(call(body, stream=stream))).close()
        heads = [{**seen.headers, "content-length": ""} for seen in bare.seen]
        assert heads[0] == heads[1] == heads[2]
        assert [seen.headers["content-length"] for seen in bare.seen] == ["2", "7", "9"]


# -- what comes back ---------------------------------------------------------------------------------------------------

ODD = b': comment\r\n\r\nevent: x\r\ndata: {"text":"\xc2\x85\xf0\x9f\x99\x82","x":1.50}\n\ndata:end'


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "bare"])
async def test_bytes_come_back_unchanged(bare: Bare, make: Make, stream: bool, packed: bool) -> None:
    headers = {"request-id": "req_1", **({"Content-Encoding": "gzip"} if packed else {})}
    bare.script = Script(raw=gzip.compress(ODD) if packed else ODD, headers=headers, content_type="text/event-stream")
    provider = make(bare.url)
    for _ in range(2):  # once by the SDK, once with the head it wrote
        upstream = await provider.open(call(stream=stream))
        assert type(upstream) is AiohttpUpstream
        assert (upstream.status, upstream.headers["request-id"]) == (200, "req_1")
        assert await upstream.body(1 << 20) == ODD
        assert await upstream.read() == b""


async def test_an_answer_of_the_wire(fake: FakeAnthropic, make: Make) -> None:
    """The SDK's request is one that the service takes, and its answer is what the dialect reads."""
    from ollama_bridge.dialects.anthropic import AnthropicDialect

    fake.play("m", Script(text=("Hel", "lo")))
    provider, dialect = make(fake.url), AnthropicDialect()
    upstream = await provider.open(call({**ASK, "stream": True}, stream=True))
    reader = dialect.reader(CHAT, Profile())
    streamed = fold([*reader.feed(await upstream.body(1 << 20)), *reader.end()])
    whole = dialect.read_reply(CHAT, await (await provider.open(call(ASK))).body(1 << 20), Profile())
    assert streamed == whole and streamed.blocks


async def test_cookies_are_not_kept(bare: Bare, make: Make) -> None:
    bare.script = Script(raw=b"{}", headers={"Set-Cookie": "session=1; Path=/"})
    provider = make(bare.url)
    for _ in range(2):
        (await provider.open(call())).close()
    assert "cookie" not in bare.seen[1].headers


# -- refusals and failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_refusal_keeps_status_headers_and_body(bare: Bare, make: Make, status: int, stream: bool) -> None:
    body = b'{"type":"error","error":{"type":"x","message":"no"}, "odd": 1.50}'
    provider = make(bare.url)
    (await provider.open(call(stream=stream))).close()
    bare.seen.clear()
    bare.script = Script(status=status, body=body, headers={"Retry-After": "7", "request-id": "req_1"})
    for fresh in (provider, make(bare.url)):  # with a head that is kept, and without
        with pytest.raises(UpstreamRefused) as caught:
            await fresh.open(call(stream=stream))
        refused = caught.value
        assert (refused.status, refused.body) == (status, body)
        assert (refused.headers["retry-after"], refused.headers["request-id"]) == ("7", "req_1")
    assert len(bare.seen) == 2  # retries are the gateway's


@pytest.mark.parametrize("body", [b"", b"<html>\xff</html>", b"null"], ids=["empty", "html", "null"])
async def test_a_refusal_may_have_any_body(bare: Bare, make: Make, body: bytes) -> None:
    bare.script = Script(status=500, body=body)
    with pytest.raises(UpstreamRefused) as caught:
        await make(bare.url).open(call())
    assert caught.value.body == body


async def test_a_key_that_is_refused_is_not_repeated(bare: Bare, make: Make) -> None:
    provider = make(bare.url)
    (await provider.open(call())).close()
    assert provider._calls is not None
    provider._calls._client.api_key = "sk-new"
    bare.script = Script(status=401, body=b"{}")
    for _ in range(2):
        with pytest.raises(UpstreamRefused):
            await provider.open(call())
    assert [seen.headers["authorization"] for seen in bare.seen] == [f"Bearer {KEY}", f"Bearer {KEY}", "Bearer sk-new"]


@pytest.mark.parametrize("again", [False, True], ids=["by the SDK", "repeated"])
async def test_redirects_are_not_followed(bare: Bare, make: Make, again: bool) -> None:
    provider = make(bare.url)
    if again:
        (await provider.open(call())).close()
        bare.seen.clear()
    bare.script = Script(raw=b"", headers={"Location": "/v1/elsewhere"})

    async def moved(request: web.Request) -> web.StreamResponse:
        await bare.note(request)
        return web.Response(status=307, headers={"Location": "/v1/elsewhere"})

    bare.perform = lambda request, *_: moved(request)  # type: ignore[method-assign]
    with pytest.raises(GatewayError, match="'lab' answered with a redirect") as caught:
        await provider.open(call())
    assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)
    assert {seen.path for seen in bare.seen} == {"/v1/messages"}


@pytest.fixture
def unused_url() -> Iterator[str]:
    """An address where nobody listens, and nobody can begin to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


async def test_nobody_listens(unused_url: str, make: Make) -> None:
    with pytest.raises(GatewayError) as caught:
        await make(unused_url).open(call())
    assert (caught.value.status, caught.value.scope, caught.value.provider) == (502, Scope.PROVIDER, "lab")
    assert caught.value.message == "cannot reach provider 'lab': connection refused"


async def test_silence_before_the_answer_times_out(bare: Bare, make: Make) -> None:
    bare.script = Script(hold=asyncio.Event())
    with pytest.raises(GatewayError) as caught:
        await make(bare.url).open(call(stream=True, timeouts=QUICK))
    assert (caught.value.status, caught.value.scope) == (504, Scope.PROVIDER)
    assert caught.value.message == "provider 'lab' sent no answer within 0.05 s"
    assert KEY not in caught.value.message
    await asyncio.wait_for(bare.client_gone.wait(), 5)


async def test_silence_within_the_answer_times_out(bare: Bare, make: Make) -> None:
    bare.script = Script(trouble=Trouble.STALL)
    upstream = await make(bare.url).open(call(stream=True, timeouts=QUICK))
    assert await upstream.read() == ONE
    with pytest.raises(GatewayError) as caught:
        await upstream.read()
    assert caught.value.status == 504
    upstream.close()
    await asyncio.wait_for(bare.client_gone.wait(), 5)


async def test_a_stream_that_is_cut_breaks(bare: Bare, make: Make) -> None:
    bare.script = Script(trouble=Trouble.CUT)
    upstream = await make(bare.url).open(call(stream=True))
    with pytest.raises(GatewayError, match="provider 'lab' broke off its answer") as caught:
        while await upstream.read():
            pass
    upstream.close()
    assert (caught.value.status, caught.value.scope) == (502, Scope.PROVIDER)


async def test_a_provider_that_is_off_says_so(bare: Bare, make: Make) -> None:
    off = make(bare.url, off="provider 'lab' has no key: set LAB_KEY")
    await off.ready()
    for attempt in (off.open(call()), off.models()):
        with pytest.raises(GatewayError, match="has no key: set LAB_KEY") as caught:
            await attempt
        assert (caught.value.status, caught.value.scope) == (500, Scope.NO_KEY)
    assert bare.seen == []


async def test_without_the_sdk_the_provider_says_what_to_install(
    bare: Bare, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(GatewayError, match="pip install anthropic") as caught:
        await make(bare.url).open(call())
    assert (caught.value.status, caught.value.scope) == (500, Scope.NO_KEY)


def test_the_sdk_is_not_imported_with_the_provider() -> None:
    program = (
        "import sys, ollama_bridge.providers.anthropic, ollama_bridge.dialects.anthropic\n"
        "print([name for name in ('anthropic', 'httpx2', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- connections -------------------------------------------------------------------------------------------------------

PROMPTLY = 0.25  # seconds until an upstream must have seen that its client left (providers.md 11)


async def promptly(gone: asyncio.Event) -> None:
    async with asyncio.timeout(PROMPTLY):
        await gone.wait()


@pytest.mark.parametrize("again", [False, True], ids=["by the SDK", "repeated"])
async def test_closing_in_mid_stream_closes_the_connection(bare: Bare, make: Make, again: bool) -> None:
    provider = make(bare.url)
    if again:
        await (await provider.open(call(stream=True))).body(100)
    bare.script = Script(trouble=Trouble.STALL)
    upstream = await provider.open(call(stream=True))
    assert await upstream.read() == ONE
    upstream.close()
    upstream.close()
    await promptly(bare.client_gone)


@pytest.mark.parametrize("again", [False, True], ids=["by the SDK", "repeated"])
async def test_cancelling_open_closes_the_connection(bare: Bare, make: Make, again: bool) -> None:
    provider = make(bare.url)
    await provider.ready()
    if again:
        await (await provider.open(call(stream=True))).body(100)
    bare.arrived.clear()
    bare.script = Script(hold=asyncio.Event())
    opening = asyncio.create_task(provider.open(call(stream=True)))
    await asyncio.wait_for(bare.arrived.wait(), 5)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await promptly(bare.client_gone)


async def test_cancelling_a_read_loses_nothing(bare: Bare, make: Make) -> None:
    more = asyncio.Event()
    bare.script = Script(trouble=Trouble.END, hold_content=more)
    upstream = await make(bare.url).open(call(stream=True))
    reading = asyncio.create_task(upstream.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    more.set()
    assert await upstream.body(100) == ONE


async def test_a_connection_is_used_again(bare: Bare, make: Make) -> None:
    provider = make(bare.url)
    for stream in (True, False, True, False):
        upstream = await provider.open(call(stream=stream))
        await upstream.body(100)
        upstream.close()
    assert bare.open_connections == 1


async def test_closing_a_provider_leaves_the_session_open(
    bare: Bare, make: Make, session: aiohttp.ClientSession
) -> None:
    provider = make(bare.url)
    await (await provider.open(call())).body(100)
    await provider.close()
    await provider.close()
    assert not session.closed
    await (await provider.open(call())).body(100)


async def test_the_sdk_can_read_for_itself(fake: FakeAnthropic, session: aiohttp.ClientSession) -> None:
    """Off the hot path the SDK may build its objects over our transport, and its error classes stay true."""
    import anthropic

    fake.play("m", Script(text=("Hello",)))
    http = http_client(session)
    client = anthropic.AsyncAnthropic(api_key=KEY, base_url=fake.url, http_client=http, max_retries=0)
    answer = await client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    assert [block.text for block in answer.content if block.type == "text"] == ["Hello"]
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.messages.create(model="x", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.type == "not_found_error"
    await client.close()
    assert not session.closed


# -- catalogues --------------------------------------------------------------------------------------------------------


async def test_models_come_from_all_pages(fake: FakeAnthropic, make: Make) -> None:
    fake.models, fake.page = ("claude-a", "claude-b", "claude c/ü", "claude-d", "claude-e"), 2
    provider = make(fake.url)
    for _ in range(2):
        models = await provider.models()
        assert [model.id for model in models] == list(fake.models)
    assert {(seen.method, seen.path) for seen in fake.seen} == {("GET", "/v1/models")}
    assert len(fake.seen) == 6
    first = models[0]
    assert (first.context_length, first.max_output, first.created) == (200_000, 64_000, 1_790_812_800)
    assert first.capabilities == {"completion", "tools", "vision", "thinking"}
    assert "retires_at" in first.raw


async def test_a_catalogue_without_an_end_is_left(bare: Bare, make: Make) -> None:
    bare.script = Script(raw=b'{"data":[{"id":"m"}],"has_more":true,"last_id":"m"}')
    assert len(await make(bare.url).models()) == 20


async def test_a_catalogue_may_be_refused(bare: Bare, make: Make) -> None:
    bare.script = Script(status=401, body=b"no")
    with pytest.raises(UpstreamRefused) as caught:
        await make(bare.url).models()
    assert (caught.value.status, caught.value.body) == (401, b"no")


@pytest.mark.parametrize("body", [b"no", b"[]", b"{}", b'{"data":{}}'])
def test_what_is_no_catalogue(body: bytes) -> None:
    with pytest.raises(GatewayError, match="'lab' answered something that is not a list of models"):
        read_models("lab", body)


def test_a_page_is_read_defensively() -> None:
    entries = [
        {"id": "a"},
        {"id": 7},
        "x",
        {**model_item("gone"), "lifecycle": "retired"},
        {"id": "b", "created_at": 1},
    ]
    models, after = read_models("lab", json.dumps({"data": entries, "has_more": False, "last_id": "b"}).encode())
    assert [(model.id, model.capabilities, model.created) for model in models] == [("a", None, None), ("b", None, None)]
    assert after is None


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (None, None),
        ({}, {"completion", "tools"}),
        ({"image_input": {"supported": True}}, {"completion", "tools", "vision"}),
        ({"thinking": {"supported": False}, "image_input": None}, {"completion", "tools"}),
    ],
)
def test_what_a_model_can_do(capabilities: Any, expected: set[str] | None) -> None:
    assert listed({"id": "m", "capabilities": capabilities}).capabilities == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2025-11-24T00:00:00Z", 1_763_942_400), ("1970-01-01T00:00:00Z", None), ("soon", None), (None, None)],
)
def test_dates(text: Any, expected: int | None) -> None:
    assert listed({"id": "m", "created_at": text}).created == expected
