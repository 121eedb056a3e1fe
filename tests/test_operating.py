"""Watching and guarding a gateway: request ids, logs, metrics, the capture, the one shared key.

Seen from outside, over the whole gateway. What must never show up anywhere is looked for by markers that no test would
write by chance.
"""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import Start
from doors import CHAT, GENERATE, V1, Ask, Door, Turn
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.script import Call, Script, Tokens, Trouble
from gateway import NOBODY, Gateway, alias, ollama_provider, openai_provider
from prometheus_client.parser import text_string_to_metric_families

GUARD = 10.0  # seconds after which a test gives up waiting for what must come
PROMPT = "zebra-prompt-marker"
ANSWER = "walrus-answer-marker"
HEADER_KEY = "sk-header-marker-key"
SHARED = "sk-shared-marker-key"
ASK = Ask((Turn("system", f"Be kind {PROMPT}."), Turn("user", f"Say {PROMPT}.")))
SAID = Script(text=(ANSWER, " and more"))
DOORS: tuple[Door, ...] = (CHAT, GENERATE, V1)
every_door = pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])

Output = pytest.CaptureFixture[str]


def config_of(
    lab: FakeOpenAI, box: FakeOllama | None = None, endings: Iterable[str] = ("",), **more: Any
) -> dict[str, Any]:
    """`it` at an OpenAI-wire provider, `boxed` at a real Ollama, `two` at a provider that is not there (asked twice)
    and then at the first; each once for each ending, which their names and those of their targets bear. Nobody rests
    after failures."""
    words = ["completion", "tools", "vision", "thinking", "embedding"]
    providers = {"lab": openai_provider(lab.url, headers={"X-Team": HEADER_KEY}), "nobody": openai_provider(NOBODY)}
    models: dict[str, Any] = {}
    for end in endings:
        models[f"it{end}"] = alias("lab", f"up{end}", capabilities=words)
        models[f"two{end}"] = {"targets": [f"nobody/up{end}", f"lab/up{end}"], "capabilities": words}
        if box is not None:
            models[f"boxed{end}"] = alias("box", f"up{end}", capabilities=words)
    if box is not None:
        providers["box"] = ollama_provider(box.url)
    return {"providers": {**providers, "echo": {"kind": "echo"}}, "models": models, "backoff": {"base": 0}, **more}


def logged(output: Output) -> list[dict[str, Any]]:
    """Every line on standard error since the last look. A line that is no JSON object fails."""
    lines = [json.loads(line) for line in output.readouterr().err.splitlines()]
    for line in lines:
        assert {"timestamp", "level", "logger", "message"} <= line.keys()
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
        assert line["level"] in ("debug", "info", "warning", "error") and line["logger"] == "ollama_bridge"
    return lines


# -- request ids and log lines ---------------------------------------------------------------------------------------
async def post(
    gateway: Gateway, path: str, body: Mapping[str, Any] | bytes, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, Mapping[str, str]]:
    """-> (status, body, headers)."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with gateway.http.post(gateway.url + path, data=raw, headers=headers) as response:
        return response.status, await response.read(), response.headers


@every_door
async def test_a_request_id_goes_in_out_and_into_the_log(
    gateway_of: Start, fake_openai: FakeOpenAI, capfd: Output, door: Door
) -> None:
    fake_openai.play("up", SAID)
    async with gateway_of(config_of(fake_openai)) as gateway:
        for model, status in (("it", 200), ("two", 200), ("unknown", 404)):
            body = {**door.body(ASK, model, True)}
            got, _, headers = await post(gateway, door.path, body, {"X-Request-ID": f"trace-{model}"})
            assert (got, headers["X-Request-ID"]) == (status, f"trace-{model}")
        _, _, first = await post(gateway, door.path, door.body(ASK, "it", False))
        _, _, second = await post(gateway, door.path, door.body(ASK, "it", False))
    made = [first["X-Request-ID"], second["X-Request-ID"]]
    assert len(set(made)) == 2 and all(len(one) >= 16 for one in made)
    ids = [line.get("request_id") for line in logged(capfd) if line["message"] in ("attempt", "refused")]
    assert ids == ["trace-it", *["trace-two"] * 3, "trace-unknown", *made]


async def test_an_attempt_is_one_line(gateway_of: Start, fake_openai: FakeOpenAI, capfd: Output) -> None:
    fake_openai.play("up", SAID)
    async with gateway_of(config_of(fake_openai)) as gateway:
        await gateway.ask(CHAT, ASK, "two", True)
        lines = [line for line in logged(capfd) if line["message"] == "attempt"]
    wanted = ("path", "provider", "model", "target", "attempt", "outcome", "prompt_tokens", "completion_tokens")
    assert [[line[name] for name in wanted] for line in lines] == [
        ["/api/chat", "nobody", "two", "nobody/up", 1, "provider", None, None],
        ["/api/chat", "nobody", "two", "nobody/up", 2, "provider", None, None],
        ["/api/chat", "lab", "two", "lab/up", 3, "ok", 11, 7],
    ]
    assert all(line["level"] == "info" and line["seconds"] >= 0 for line in lines)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_failure_names_request_provider_and_model(
    gateway_of: Start, fake_openai: FakeOpenAI, capfd: Output, stream: bool
) -> None:
    fake_openai.play("up", Script(status=500, error=f"Bad {PROMPT}", headers={"x-request-id": "req-7"}))
    async with gateway_of(config_of(fake_openai)) as gateway:
        heard = await gateway.ask(CHAT, ASK, "it", stream)
        lines = [line for line in logged(capfd) if line["message"] == "request failed"]
    assert [line["level"] for line in lines] == ["warning"]
    assert lines[0]["request_id"] == heard.headers["x-request-id"]
    wanted = ("provider", "model", "scope", "status", "upstream_status", "upstream_id")
    assert [lines[0][name] for name in wanted] == ["lab", "it", "provider", 502, 500, "req-7"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/show", "/v1/chat/completions", "/v1/models"])
async def test_near_names_are_in_the_log(gateway_of: Start, fake_openai: FakeOpenAI, capfd: Output, path: str) -> None:
    async with gateway_of({**config_of(fake_openai), "models": {"gpt-large": "lab/up"}}) as gateway:
        if path == "/v1/models":
            async with gateway.http.get(f"{gateway.url}{path}/gpt-larg") as response:
                assert response.status == 404
        else:
            body = {"model": "gpt-larg", "messages": [{"role": "user", "content": "Hi"}]}
            assert (await post(gateway, path, body))[0] == 404
        (line,) = [line for line in logged(capfd) if line["message"] == "refused"]
    assert (line["level"], line["status"]) == ("info", 404)
    assert line["model"].removesuffix(":latest") == "gpt-larg" and "gpt-large" in line["near"]


async def test_a_lesson_is_logged_once(gateway_of: Start, fake_openai: FakeOpenAI, capfd: Output) -> None:
    fake_openai.play("up", Script(text=("Hi",), rejects=frozenset({"seed"})))
    async with gateway_of(config_of(fake_openai)) as gateway:
        for _ in range(3):
            await gateway.ask(CHAT, ASK, "it", True, options={"seed": 7})
        (line,) = [line for line in logged(capfd) if "learnt" in line["message"]]
    assert (line["level"], line["provider"], line["model"]) == ("warning", "lab", "up")


@pytest.mark.parametrize(("level", "expected"), [("info", 3), ("warning", 1), ("error", 0)])
async def test_the_log_level_is_the_configured_one(
    gateway_of: Start, fake_openai: FakeOpenAI, capfd: Output, level: str, expected: int
) -> None:
    fake_openai.play("up", Script(status=500, error="It broke."))
    async with gateway_of(config_of(fake_openai, server={"log_level": level})) as gateway:
        heard = await gateway.ask(CHAT, ASK, "it", True)
        lines = [line for line in logged(capfd) if line.get("request_id") == heard.headers["x-request-id"]]
    assert len(lines) == expected


# -- what must show up nowhere ---------------------------------------------------------------------------------------
PICTURE = base64.b64encode(f"\x89PNG\r\n\x1a\n{PROMPT}".encode("latin-1")).decode()
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": PROMPT, "parameters": {"type": "object", "properties": {PROMPT: {}}}},
}
RICH = Ask(
    (
        Turn("system", PROMPT),
        Turn("user", PROMPT, images=(PICTURE,)),
        Turn("assistant", PROMPT, calls=(Call("look", (json.dumps({"a": PROMPT}),), "call_1"),)),
        Turn("tool", PROMPT, answers=0),
        Turn("user", PROMPT),
    ),
    tools=(TOOL,),
    format={"type": "object", "properties": {PROMPT: {"type": "string"}}},
    stop=(PROMPT, "2", "3", "4", "5"),
    max_tokens=5,
)
ECHOED = f"{PROMPT} {KEY} {HEADER_KEY}"  # a provider that quotes what it got
SCRIPTS = {
    "text": SAID,
    "thinking": Script(thinking=(ANSWER,), text=(ANSWER,)),
    "calls": Script(calls=(Call("look", (json.dumps({"a": ANSWER}),)),)),
    "rejects": Script(text=(ANSWER,), rejects=frozenset({"stop", "response_format", "max_tokens"})),
    "cut": Script(text=(ANSWER, ANSWER), trouble=Trouble.CUT, after=1),
    "end": Script(text=(ANSWER, ANSWER), trouble=Trouble.END, after=1),
    "malformed": Script(text=(ANSWER, ANSWER), trouble=Trouble.MALFORMED, after=1),
    "error-inside": Script(text=(ANSWER, ANSWER), trouble=Trouble.ERROR, error=ECHOED, after=1),
    "error-first": Script(text=(ANSWER, ANSWER), trouble=Trouble.ERROR, error=ECHOED, after=0),
    "garbage": Script(raw=f"{ANSWER} {ECHOED}".encode()),
    **{
        str(status): Script(status=status, error=ECHOED, headers={"x-request-id": "req-1"})
        for status in (400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 503, 529)
    },
    "page": Script(status=502, body=f"<html>{ECHOED}</html>".encode(), content_type="text/html"),
}
BROKEN = (b'{"model":"it","messages":[{"role":"user","content":"zebra-prompt-marker', b'{"model":"it","messages":"x"}',
          b"zebra-prompt-marker", b'{"model":"it","prompt":5,"zebra-prompt-marker":1}')  # fmt: skip


async def test_no_prompt_answer_or_key_is_logged_or_counted_and_no_key_is_answered(
    gateway_of: Start, fake_openai: FakeOpenAI, fake_ollama: FakeOllama, capfd: Output
) -> None:
    """Whatever happens: every script at every door, streamed and whole, relayed and translated."""
    answers: list[bytes] = []
    shared = {"Authorization": f"Bearer {SHARED}"}
    config = config_of(fake_openai, fake_ollama, [f"-{name}" for name in SCRIPTS], server={"api_key": SHARED})
    async with gateway_of(config) as gateway:

        async def hear(path: str, body: Mapping[str, Any] | bytes) -> None:
            try:
                status, answer, headers = await post(gateway, path, body, shared)
            except aiohttp.ClientError:
                return  # cut
            answers.append(f"{status} {dict(headers)} ".encode() + answer)

        asks = []
        for name, script in SCRIPTS.items():
            for upstream in (fake_openai, fake_ollama):
                upstream.play(f"up-{name}", script)
            asks += [
                hear(door.path, {**door.body(RICH, model, stream), "truncate": False})
                for door in DOORS
                for model in (f"it-{name}", f"boxed-{name}", f"two-{name}", "echo")
                for stream in (True, False)
            ]
            asks += [
                hear(path, {"model": model, "input": PROMPT, "prompt": PROMPT})
                for path in ("/api/embed", "/api/embeddings", "/v1/embeddings")
                for model in (f"it-{name}", f"boxed-{name}")
            ]
        await asyncio.gather(*asks)
        for body in BROKEN:
            for door in DOORS:
                await hear(door.path, body)
        async with gateway.http.get(f"{gateway.url}/metrics", headers=shared) as response:
            page = await response.text()
        for key in (f"{SHARED}x", "wrong-marker-key"):
            for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
                assert (await post(gateway, "/api/chat", CHAT.body(ASK, "it-text", True), headers))[0] == 401
            assert (await post(gateway, f"/k/{key}/api/chat", CHAT.body(ASK, "it-text", True)))[0] == 401
    output = capfd.readouterr()
    assert output.err.count('"attempt"') > 300 and output.out == ""
    for marker in (PROMPT, ANSWER, KEY, HEADER_KEY, SHARED, "wrong-marker-key", PICTURE[:40]):
        assert marker not in output.err, marker
        assert marker not in page, marker
    for answer in answers:
        for key in (KEY, HEADER_KEY, SHARED):
            assert key.encode() not in answer, answer
    words = b"".join(answer for answer in answers if answer.startswith((b"400", b"401", b"404", b"5")))
    assert b"[redacted]" in words, "the provider's words arrive, without our keys"


# -- metrics ---------------------------------------------------------------------------------------------------------
async def counted(gateway: Gateway) -> dict[str, float]:
    """`name{label="value",…}` -> value of every sample, labels in alphabetical order."""
    async with gateway.http.get(f"{gateway.url}/metrics") as response:
        assert response.status == 200 and response.headers["Content-Type"].startswith("text/plain; version=")
        page = await response.text()
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


async def test_metrics_count_what_happened(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    fake_openai.play("up", Script(text=("a", "b"), usage=Tokens(100, 20, cached=64, reasoning=5)))
    async with gateway_of(config_of(fake_openai)) as gateway:
        for stream in (True, False):
            await gateway.ask(CHAT, ASK, "it", stream)
        await gateway.ask(V1, ASK, "two", True)
        await gateway.ask(CHAT, ASK, "unknown", True)
        await gateway.ask(CHAT, ASK, "it", False, options={"top_k": 5, "mirostat": 2})
        fake_openai.play("up", Script(status=429, error="Slow.", headers={"Retry-After": "60"}))
        await gateway.ask(GENERATE, ASK, "it", True)
        fake_openai.play("up", Script(status=400, error="Odd."))
        await gateway.ask(V1, ASK, "it", False)
        fake_openai.play("up", Script(text=("a", "b"), trouble=Trouble.CUT, after=1))
        await gateway.ask(V1, ASK, "it", True)
        fake_openai.play("up", Script(text=("a",), usage=None, rejects=frozenset({"seed"})))
        await gateway.ask(CHAT, ASK, "it", False, options={"seed": 5})
        async with gateway.http.get(f"{gateway.url}/no/such/path-{PROMPT}") as response:
            assert response.status == 404
        async with gateway.http.get(f"{gateway.url}/v1/models/it") as response:
            assert response.status == 200
        got = await counted(gateway)
    expected = {
        'requests_total{method="POST",route="/api/chat",status="200"}': 4,
        'requests_total{method="POST",route="/api/chat",status="404"}': 1,
        'requests_total{method="POST",route="/api/generate",status="429"}': 1,
        'requests_total{method="POST",route="/v1/chat/completions",status="200"}': 2,
        'requests_total{method="POST",route="/v1/chat/completions",status="400"}': 1,
        'requests_total{method="GET",route="unmatched",status="404"}': 1,
        'requests_total{method="GET",route="/v1/models/{id...}",status="200"}': 1,
        'request_latency_seconds_count{route="/api/chat"}': 5,
        'provider_success_total{provider="lab"}': 5,
        'provider_failures_total{provider="lab",reason="throttle"}': 1,
        'provider_failures_total{provider="lab",reason="caller"}': 1,
        'provider_failures_total{provider="lab",reason="provider"}': 1,
        'provider_failures_total{provider="nobody",reason="provider"}': 2,
        'fallbacks_total{provider="nobody"}': 1,
        "active_streams": 0,
        'time_to_first_token_seconds_count{provider="lab"}': 3,
        'tokens_total{kind="prompt",provider="lab"}': 400,
        'tokens_total{kind="completion",provider="lab"}': 80,
        'tokens_total{kind="cached",provider="lab"}': 256,
        'tokens_total{kind="reasoning",provider="lab"}': 20,
        'losses_total{name="top_k",provider="lab"}': 1,
        'losses_total{name="mirostat",provider="lab"}': 1,
        'losses_total{name="seed",provider="lab"}': 1,
        'repairs_total{name="seed",provider="lab"}': 1,
    }
    assert {name: got.get(name) for name in expected} == expected
    prefixes = ("requests_total", "provider_", "fallbacks_total", "tokens_total", "losses_total", "repairs_total")
    mine = {name for name in got if name.startswith(prefixes) and "_created" not in name}
    assert mine <= expected.keys(), "something else was counted"


async def test_streams_are_counted_while_they_run(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    release = asyncio.Event()
    fake_openai.play("up", Script(text=("a",), hold_content=release))
    async with gateway_of(config_of(fake_openai)) as gateway:
        asking = asyncio.ensure_future(gateway.ask(CHAT, ASK, "it", True))
        await asyncio.wait_for(fake_openai.request_about("up"), GUARD)
        assert (await counted(gateway))["active_streams"] == 1
        release.set()
        await asking
        assert (await counted(gateway))["active_streams"] == 0


@pytest.mark.parametrize("phase", ["before", "midway"])
async def test_a_client_that_left_is_counted_as_cancelled(
    gateway_of: Start, fake_openai: FakeOpenAI, capfd: Output, phase: str
) -> None:
    held = Script(text=("a",), hold=asyncio.Event())
    fake_openai.play("up", held if phase == "before" else Script(text=("a", "b"), trouble=Trouble.STALL, after=1))
    async with gateway_of(config_of(fake_openai)) as gateway:
        async with asyncio.timeout(GUARD):
            if phase == "before":
                asking = asyncio.ensure_future(gateway.ask(CHAT, ASK, "it", True))
                seen = await fake_openai.request_about("up")
                asking.cancel()
            else:
                body = CHAT.body(ASK, "it", True)
                async with gateway.http.post(f"{gateway.url}/api/chat", json=body) as response:
                    await response.content.readany()
                seen = await fake_openai.request_about("up")
            await seen.gone.wait()
            reason = 'provider_failures_total{provider="lab",reason="cancelled"}'
            while (got := await counted(gateway)).get(reason) != 1:
                pass
            status = "499" if phase == "before" else "200"
            while (await counted(gateway)).get(
                f'requests_total{{method="POST",route="/api/chat",status="{status}"}}'
            ) != 1:
                pass
        assert got["active_streams"] == 0
        (line,) = [line for line in logged(capfd) if line["message"] == "attempt"]
        assert line["outcome"] == "cancelled"


async def test_clients_cannot_fill_the_metrics_with_names(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    """Labels stay few, whatever options a client invents."""
    fake_openai.play("up", SAID)
    async with gateway_of(config_of(fake_openai)) as gateway:
        for start in range(0, 600, 60):
            options = {f"made_up_{n}": 1 for n in range(start, start + 60)}
            assert (await gateway.ask(CHAT, ASK, "it", False, options=options)).status == 200
        got = await counted(gateway)
    lost = {name: value for name, value in got.items() if name.startswith("losses_total")}
    assert len(lost) <= 101
    assert sum(lost.values()) == 600, "all are counted"


# -- the capture -----------------------------------------------------------------------------------------------------
async def test_the_capture_keeps_what_came_what_went_and_what_came_back(
    gateway_of: Start, fake_openai: FakeOpenAI, tmp_path: Path
) -> None:
    fake_openai.play("up", SAID)
    folder = tmp_path / "kept" / "here"
    async with gateway_of(config_of(fake_openai, debug={"capture": str(folder)})) as gateway:
        body = json.dumps({**CHAT.body(ASK, "it", True), "keep": SHARED, "key": KEY}).encode()
        await post(gateway, "/api/chat", body, {"X-Request-ID": "one", "Authorization": f"Bearer {SHARED}"})
    (seen,) = fake_openai.about("up")
    assert (folder / "one.in").read_bytes() == b"/api/chat\n" + body.replace(KEY.encode(), b"[redacted]")
    assert (folder / "one.1.sent").read_bytes() == b"lab chat\n" + seen.body
    assert (folder / "one.1.received").read_bytes() == bytes(seen.sent)
    assert {path.name for path in folder.iterdir()} == {"one.in", "one.1.sent", "one.1.received"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir()), "others can read prompts"


async def test_the_capture_holds_no_key_of_ours(gateway_of: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    config = config_of(fake_openai, debug={"capture": str(folder)}, server={"api_key": SHARED})
    shared = {"X-API-Key": SHARED}
    body = {**CHAT.body(ASK, "it", False), "note": f"{KEY} {SHARED} {HEADER_KEY}"}
    async with gateway_of(config) as gateway:
        for script in (Script(text=(f"your key is {KEY}",)), Script(status=401, error=f"Wrong: {KEY} {HEADER_KEY}")):
            fake_openai.play("up", script)
            for door in DOORS:
                await post(gateway, door.path, {**body, **door.body(ASK, "it", False)}, shared)
                await post(gateway, f"/k/{SHARED}{door.path}", door.body(ASK, "two", True))
    files = [path.read_text() for path in folder.iterdir()]
    assert len(files) > 20 and any("[redacted]" in text for text in files)
    for text in files:
        for key in (KEY, HEADER_KEY, SHARED):
            assert key not in text


async def test_the_capture_numbers_the_attempts(gateway_of: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    fake_openai.play("up", Script(text=("Hi",), rejects=frozenset({"seed"})))
    async with gateway_of(config_of(fake_openai, debug={"capture": str(folder)})) as gateway:
        body = {**CHAT.body(ASK, "two", False), "options": {"seed": 7}}
        await post(gateway, "/api/chat", body, {"X-Request-ID": "../../odd/../id"})
        await post(gateway, "/api/embed", {"model": "it", "input": "x"}, {"X-Request-ID": "embed"})
    names = {path.name for path in folder.iterdir()}
    (base,) = {name.removesuffix(".in") for name in names if name.endswith("id.in")}
    assert "/" not in base
    assert names == {f"{base}.in", f"{base}.1.sent", f"{base}.2.sent", f"{base}.3.sent", f"{base}.3.received",
                     "embed.in", "embed.1.sent", "embed.1.received"}  # fmt: skip
    sent = (folder / f"{base}.3.sent").read_text()
    assert sent.count("lab chat\n") == 2, "a repaired request goes out twice"
    assert "unsupported_parameter" in (folder / f"{base}.3.received").read_text()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_without_a_capture_nothing_is_kept(gateway_of: Start, fake_openai: FakeOpenAI, tmp_path: Path) -> None:
    fake_openai.play("up", SAID)
    async with gateway_of(config_of(fake_openai)) as gateway:
        await gateway.ask(CHAT, ASK, "it", True)
    kept = b"".join(path.read_bytes() for path in files_below(tmp_path))
    assert PROMPT.encode() not in kept and ANSWER.encode() not in kept


# -- the one shared key ----------------------------------------------------------------------------------------------
def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


RIGHT: dict[str, tuple[str, dict[str, str]]] = {
    "bearer": ("", {"Authorization": f"Bearer {SHARED}"}),
    "bearer-in-small-letters": ("", {"authorization": f"bearer {SHARED}"}),
    "x-api-key": ("", {"X-API-Key": SHARED}),
    "x-api-key-in-small-letters": ("", {"x-api-key": SHARED}),
    "basic": ("", basic("anyone", SHARED)),
    "path": (f"/k/{SHARED}", {}),
    "path-beside-a-dummy": (f"/k/{SHARED}", {"Authorization": "Bearer ollama"}),
    "header-beside-a-dummy": ("", {"Authorization": "Bearer ollama", "X-API-Key": SHARED}),
}
WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "none": ("", {}),
    "dummy": ("", {"Authorization": "Bearer ollama"}),
    "part": ("", {"Authorization": f"Bearer {SHARED[:-1]}"}),
    "more": ("", {"X-API-Key": f"{SHARED}x"}),
    "basic-user": ("", basic(SHARED, "")),
    "path": ("/k/other", {}),
    "provider-key": ("", {"Authorization": f"Bearer {KEY}"}),
}
PLACES: dict[str, dict[str, Any] | None] = {
    "/api/chat": {"model": "it", "messages": [{"role": "user", "content": "Hi"}]},
    "/api/generate": {"model": "boxed", "prompt": "Hi"},
    "/v1/chat/completions": {"model": "it", "messages": [{"role": "user", "content": "Hi"}]},
    "/api/show": {"model": "it"},
    "/api/tags": None,
    "/api/ps": None,
    "/v1/models": None,
    "/v1/models/it": None,
    "/api/version": None,
    "/metrics": None,
}


async def visit(gateway: Gateway, prefix: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    body = PLACES[path]
    method = "GET" if body is None else "POST"
    async with gateway.http.request(method, gateway.url + prefix + path, json=body, headers=headers) as response:
        return response.status, await response.text()


async def test_the_shared_key_in_every_form(
    gateway_of: Start, fake_openai: FakeOpenAI, fake_ollama: FakeOllama
) -> None:
    fake_openai.play("up", SAID)
    fake_ollama.play("up", SAID)
    config = config_of(fake_openai, fake_ollama, server={"api_key": SHARED})
    async with gateway_of(config) as gateway:
        for name, (prefix, headers) in RIGHT.items():
            for path in PLACES:
                status, text = await visit(gateway, prefix, path, headers)
                assert status == 200, (name, path, text)
        asked = [seen for seen in [*fake_openai.seen, *fake_ollama.seen] if seen.method == "POST"]
        for name, (prefix, headers) in WRONG.items():
            for path in PLACES:
                status, text = await visit(gateway, prefix, path, headers)
                error = json.loads(text)["error"]
                assert status == 401, (name, path, text)
                assert (error["message"] if path.startswith("/v1/") else error) == "unauthorized"
        after = [seen for seen in [*fake_openai.seen, *fake_ollama.seen] if seen.method == "POST"]
        assert len(asked) == len(after) == 3 * len(RIGHT), "an unknown client reached a provider"
    for seen in after:
        assert SHARED not in str(seen.headers) + seen.path and SHARED.encode() not in seen.body


@pytest.mark.parametrize("headers", [
    {"Authorization": "Bearer ollama"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer api-key-not-set"},
    {"X-API-Key": "na"}, basic("me", "secret"), {"Cookie": "a=b", "X-Api-Key": "x", "OpenAI-Organization": "org-1"},
], ids=["ollama", "empty", "dummy", "x-api-key", "basic", "others"])  # fmt: skip
async def test_what_a_client_calls_its_key_never_reaches_a_provider(
    gateway_of: Start, fake_openai: FakeOpenAI, fake_ollama: FakeOllama, headers: dict[str, str]
) -> None:
    """clients.md 4.6: with no key of ours it is ignored, and it is nobody else's."""
    fake_openai.play("up", SAID)
    fake_ollama.play("up", SAID)
    async with gateway_of(config_of(fake_openai, fake_ollama)) as gateway:
        for path in PLACES:
            status, text = await visit(gateway, "", path, headers)
            assert status == 200, text
    (box,) = fake_ollama.about("up")
    assert not {"authorization", "x-api-key", "cookie", "openai-organization"} & box.headers.keys()
    for seen in fake_openai.about("up"):
        assert seen.headers["authorization"] == f"Bearer {KEY}" and seen.headers["x-team"] == HEADER_KEY
        assert not {"x-api-key", "cookie", "openai-organization"} & seen.headers.keys()


async def test_health_needs_no_key(gateway_of: Start, fake_openai: FakeOpenAI) -> None:
    async with gateway_of(config_of(fake_openai, server={"api_key": SHARED})) as gateway:
        for prefix in ("", "/k/other"):
            async with gateway.http.get(f"{gateway.url}{prefix}/health") as response:
                assert response.status == 200 and response.headers["Content-Type"].startswith("application/json")
                assert await response.json() == {"status": "ok"}
        async with gateway.http.head(f"{gateway.url}/health") as response:
            assert response.status == 200 and await response.read() == b""
        async with gateway.http.get(f"{gateway.url}/") as response:
            assert await response.text() == "Ollama is running"
