"""The native Ollama dialect: requests, checks and errors, against what a real Ollama answered."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ollama_bridge.dialects.base import CHAT, EMBED, EMBED_ONE, GENERATE, ModelView, Moment, Profile
from ollama_bridge.dialects.ollama import OllamaDialect
from ollama_bridge.errors import (
    INVALID_MODEL_NAME,
    NO_TOOLS,
    GatewayError,
    Scope,
    classify,
    model_not_found,
    refuse,
)
from ollama_bridge.events import unfold
from ollama_bridge.names import parse_name
from ollama_bridge.values import (
    ChatRequest,
    EmbedRequest,
    Format,
    Media,
    Message,
    Reply,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

GOLDEN = Path(__file__).parent / "data" / "golden"
KINDS = {"/api/chat": CHAT, "/api/generate": GENERATE, "/api/embed": EMBED, "/api/embeddings": EMBED_ONE}
MODELS = {
    f"gemma-{name}": ModelView(f"gemma-{name}:latest", frozenset(words))
    for name, words in {
        "tiny": ["completion"],
        "tools": ["completion", "tools"],
        "think": ["completion", "thinking"],
        "fim": ["completion", "insert"],
        "embed": ["embedding"],
    }.items()
}
DIFFERENT = {
    "chat/messages-bad-data-url": "a data URL is taken as a picture (clients.md 4.6)",
    "chat/messages-bad-image-url": "an address is fetched (clients.md 4.6)",
}
FROM_THE_JOB = {"embed/truncate-false": "only the provider counts tokens"}

dialect = OllamaDialect()
profile = Profile()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
NOW = Moment(wall_ns=1_795_261_023_120_000_000, elapsed_ns=900, first_ns=300)


# -- golden ------------------------------------------------------------------------------------------------------------


def golden_cases(compare: set[str]) -> list[Any]:
    cases = []
    for group in ("chat", "generate", "think", "tools", "embed"):
        for file in sorted((GOLDEN / group).glob("*.json")):
            for step in json.loads(file.read_text())["steps"]:
                if step["compare"] in compare and step["request"]["path"] in KINDS:
                    cases.append(pytest.param(f"{group}/{file.stem}", step, id=f"{group}/{file.stem}"))
    return cases


def body_of(step: dict[str, Any]) -> bytes:
    request = step["request"]
    if request.get("body") is not None:
        return str(request["body"]).encode()
    return base64.b64decode(request["body_base64"])


def refusal(kind: str, body: bytes) -> GatewayError | None:
    """What the request comes to before any provider is asked."""
    try:
        request = dialect.decode(kind, body)
        name = parse_name(request.model)
        if name is None:
            raise refuse("invalid model name", code=INVALID_MODEL_NAME)
        view = MODELS.get(name.key.removeprefix("registry.ollama.ai/library/").removesuffix(":latest"))
        if view is None:
            raise model_not_found(request.model)
        if request.intent != "unload":
            dialect.check(kind, request, view)
    except GatewayError as error:
        return error
    return None


def test_golden_refusals_are_all_compared() -> None:
    assert len(golden_cases({"exact"})) >= 70


@pytest.mark.parametrize(("name", "step"), golden_cases({"exact"}))
def test_golden_refusal(name: str, step: dict[str, Any]) -> None:
    kind, want = KINDS[step["request"]["path"]], step["response"]
    error = refusal(kind, body_of(step))
    if name in DIFFERENT or name in FROM_THE_JOB:
        assert error is None or error.message not in want["body"]
        return
    assert error is not None
    answer = dialect.write_error(kind, error, stream=b'"stream": false' not in body_of(step))
    content_type = next(line.partition(": ")[2] for line in want["headers"] if line.startswith("Content-Type"))
    status = 400 if want["status"] >= 500 else want["status"]
    assert (answer.status, answer.content_type, answer.body.decode()) == (status, content_type, want["body"])


@pytest.mark.parametrize(("name", "step"), golden_cases({"shape"}))
def test_golden_answer_has_the_same_shape(name: str, step: dict[str, Any]) -> None:
    """A recorded answer read, and written again for the same request, has the same keys in the same order."""
    kind, want = KINDS[step["request"]["path"]], step["response"]
    if want["status"] != 200:
        error = refusal(kind, body_of(step))
        assert error is not None
        assert json.loads(dialect.write_error(kind, error, stream=False).body) == json.loads(want["body"])
        return
    request = dialect.decode(kind, body_of(step))
    body: str = want["body"]
    if body.endswith("\n"):
        assert isinstance(request, ChatRequest) and request.stream
        written = dialect.writer(kind, request).write(
            dialect.reader(kind, profile).feed(body.encode()), Moment(NOW.wall_ns, 10**9, 10**8)
        )
        assert line_shapes(written.decode()) == line_shapes(body)
        return
    reply = dialect.read_reply(kind, body.encode(), profile)
    answer = dialect.write_reply(kind, request, reply, Moment(NOW.wall_ns, 10**9, 10**8))
    assert (answer.status, answer.content_type) == (200, "application/json; charset=utf-8")
    assert shape(json.loads(answer.body)) == shape(json.loads(body))


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {"keys": list(value), **{name: shape(each) for name, each in value.items() if name != "arguments"}}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def line_shapes(text: str) -> tuple[list[Any], Any]:
    """The kinds of line, and the last one. Lines that say nothing are Ollama's parser at work (2.3), not content."""
    lines = [json.loads(line) for line in text.splitlines()]
    said = [line for line in lines if any(line.get("message", line).get(k) for k in SAID) or line.get("logprobs")]
    kinds = {json.dumps(shape(line)) for line in said}
    return sorted(kinds), shape(lines[-1])


SAID = ("content", "response", "thinking", "tool_calls")


# -- requests ----------------------------------------------------------------------------------------------------------


def decode_chat(**fields: Any) -> ChatRequest:
    request = dialect.decode(CHAT, json.dumps({"model": "m", "messages": [{"role": "user"}], **fields}).encode())
    assert isinstance(request, ChatRequest)
    return request


def decode_generate(**fields: Any) -> ChatRequest:
    request = dialect.decode(GENERATE, json.dumps({"model": "m", "prompt": "p", **fields}).encode())
    assert isinstance(request, ChatRequest)
    return request


def test_chat_is_read_whole() -> None:
    request = decode_chat(
        messages=[
            {"role": "System", "content": "Be brief."},
            {"role": "user", "content": "What is it?", "images": [PNG]},
            {
                "role": "assistant",
                "thinking": "hm",
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"b": 1, "a": [2.5]}}}],
            },
            {"role": "tool", "content": "5 C", "tool_name": "f", "tool_call_id": "c1"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"x-own": 1}}}],
        options={"temperature": 0, "num_predict": 9, "stop": ["x"], "mirostat": 1, "top_k": 40.0, "seed": -1},
        format={"type": "object"},
        think="low",
        stream=False,
        keep_alive="1m30s",
        privacy_mode="strict",
        task="code",
    )
    assert request.messages == [
        Message("system", [Text("Be brief.")]),
        Message("user", [Text("What is it?"), Media(mime="image/png", data=PNG)]),
        Message("assistant", [Thinking("hm"), ToolCall("f", '{"b":1,"a":[2.5]}', "c1")]),
        Message("tool", [ToolResult([Text("5 C")], "c1", "f")]),
    ]
    assert request.tools == [Tool("f", "d", {"x-own": 1})]
    sampling = request.sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.stop, sampling.top_k) == (0, 9, ["x"], 40)
    assert (sampling.seed, sampling.extra) == (None, {"mirostat": 1})
    assert (request.format, request.think, request.stream) == (Format({"type": "object"}), "low", False)
    assert (request.keep_alive, request.privacy, request.task) == (90.0, "strict", "code")


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("", None),
        (None, None),
        ("json", Format()),
        ({}, Format()),
        ({"type": "object"}, Format({"type": "object"})),
        ('{"type":"object"}', Format({"type": "object"})),
    ],
    ids=str,
)
def test_format(sent: Any, found: Format | None) -> None:
    assert decode_chat(format=sent).format == found


@pytest.mark.parametrize(
    ("sent", "quoted"),
    [(b'"xml"', '\\"xml\\"'), (b"[1, 2]", "[1, 2]"), (b"true", "true"), (b"5", "5"), (b'"[1]"', '\\"[1]\\"')],
    ids=str,
)
def test_bad_format_is_quoted_as_sent_and_refused_by_the_job(sent: bytes, quoted: str) -> None:
    request = dialect.decode(CHAT, b'{"model":"m","messages":[{}],"format": ' + sent + b"}")
    with pytest.raises(GatewayError) as caught:
        dialect.check(CHAT, request, MODELS["gemma-tiny"])
    assert caught.value.message == f'invalid format: "{quoted}"; expected "json" or a valid JSON Schema object'
    answer = dialect.write_error(CHAT, caught.value, stream=True)
    assert (answer.status, answer.content_type, answer.chunked) == (400, "application/json", True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0.0), (300, 300.0), (-1, -1.0), (1.5, 1.5), ("5m", 300.0), ("0", 0.0), ("-1s", -1.0), ("1h30m", 5400.0),
     ("1.5s", 1.5), ("300ms", 0.3), (1e300, -1.0), (None, None)],
)  # fmt: skip
def test_keep_alive(value: Any, seconds: float | None) -> None:
    assert decode_chat(keep_alive=value).keep_alive == seconds


@pytest.mark.parametrize(
    ("fields", "intent"),
    [({}, "run"), ({"keep_alive": 0}, "run"), ({"messages": []}, "load"), ({"messages": None}, "load"),
     ({"messages": [], "keep_alive": 0}, "unload"), ({"messages": [], "keep_alive": "0s"}, "unload")],
    ids=str,
)  # fmt: skip
def test_intent(fields: dict[str, Any], intent: str) -> None:
    assert decode_chat(**fields).intent == intent


@pytest.mark.parametrize("predict", [0, -1, -2])
def test_open_ended_num_predict_is_unset(predict: int) -> None:
    assert decode_chat(options={"num_predict": predict}).sampling.max_tokens is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": "0.5"}, 'option "temperature" must be of type float32'),
        ({"top_k": True}, 'option "top_k" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"seed": None, "unknown": {}, "num_ctx": 4096.7}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [CHAT, EMBED])
def test_options_are_judged_once_the_model_is_known(kind: str, options: dict[str, Any], words: str | None) -> None:
    body = {"model": "m", "messages": [{}], "input": "x", "options": options}
    request = dialect.decode(kind, json.dumps(body).encode())
    if words is None:
        dialect.check(kind, request, MODELS["gemma-tiny"])
        return
    with pytest.raises(GatewayError) as caught:
        dialect.check(kind, request, MODELS["gemma-tiny"])
    assert (caught.value.message, caught.value.status) == (words, 400)


BAD_IN_EVERY_WAY = {
    "think": True, "tools": [{"type": "function", "function": {"name": "f"}}], "options": {"top_k": "x"}, "format": 5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        ([], '"m" does not support thinking'),
        (["thinking"], '"m" does not support chat'),
        (["thinking", "completion"], "registry.ollama.ai/library/m:latest does not support tools"),
        (["thinking", "completion", "tools"], 'option "top_k" must be of type integer'),
    ],
    ids=str,
)
def test_checks_come_in_ollamas_order(capabilities: list[str], words: str) -> None:
    with pytest.raises(GatewayError) as caught:
        dialect.check(CHAT, decode_chat(**BAD_IN_EVERY_WAY), ModelView("m:latest", frozenset(capabilities)))
    assert caught.value.message == words


def test_tools_can_be_dropped_instead() -> None:
    request = decode_chat(tools=[{"type": "function", "function": {"name": "f"}}])
    dialect.check(CHAT, request, ModelView("m:latest", frozenset({"completion"}), drop_tools=True))
    assert (request.tools, request.losses) == ([], ["tools"])
    assert dialect.relay(b'{"model":"m"}', "x", request) is None


def test_think_false_is_fine_on_every_model() -> None:
    dialect.check(CHAT, decode_chat(think=False), MODELS["gemma-tiny"])


@pytest.mark.parametrize(
    ("image", "media"),
    [
        (PNG, Media(mime="image/png", data=PNG)),
        (PNG[:8] + "\r\n" + PNG[8:], Media(mime="image/png", data=PNG)),
        (f"data:image/jpeg;base64,{PNG}", Media(mime="image/png", data=PNG)),
        ("data:image/jpeg;base64,aGVsbG8=", Media(mime="image/jpeg", data="aGVsbG8=")),
        ("https://example.com/a.png", Media(url="https://example.com/a.png")),
        (base64.b64encode(b"RIFF1234WAVEfmt ").decode(), Media("audio", "audio/wav", "UklGRjEyMzRXQVZFZm10IA==")),
    ],
    ids=["base64", "with line ends", "data URL, bytes win", "data URL, stated", "address", "sound"],
)
def test_images(image: str, media: Media) -> None:
    assert decode_generate(images=[image]).messages[0].blocks[1] == media


@pytest.mark.parametrize(("image", "at"), [("data:image/png;base64,%%", 22), ("aGk", 0), ("data:x", 4), ("ftp://x", 3)])
def test_bad_images(image: str, at: int) -> None:
    with pytest.raises(GatewayError, match=f"illegal base64 data at input byte {at}$"):
        decode_generate(images=[image])


def test_generate_is_a_conversation() -> None:
    request = decode_generate(system="Be brief.", suffix="s", template="t", prompt="p")
    assert request.messages == [Message("system", [Text("Be brief.")]), Message("user", [Text("p")])]
    assert (request.suffix, request.template, request.raw) == ("s", "t", False)
    assert decode_generate(system="", suffix="", template="").suffix is None


def test_context_continues_the_conversation() -> None:
    first = decode_generate(system="Be brief.", prompt="My name is Ada.")
    writer = dialect.writer(GENERATE, first)
    first.messages = []
    written = writer.write(unfold(Reply([Text("Hello "), Text("Ada!")], "stop")), NOW)
    numbers = json.loads(written.splitlines()[-1])["context"]
    second = decode_generate(prompt="Who am I?", context=numbers)
    said = [(message.role, message.text()) for message in second.messages]
    assert said == [
        ("system", "Be brief."),
        ("user", "My name is Ada."),
        ("assistant", "Hello Ada!"),
        ("user", "Who am I?"),
    ]
    assert second.losses == []
    assert dialect.relay(b'{"model":"m"}', "x", second) is None


def test_context_of_another_server_is_a_loss() -> None:
    request = decode_generate(context=[105, 2364, 107])
    assert (request.losses, len(request.messages)) == (["context"], 1)


def test_raw_has_no_context() -> None:
    written = dialect.writer(GENERATE, decode_generate(raw=True)).write(unfold(Reply([Text("x")])), NOW)
    last = json.loads(written.splitlines()[-1])
    assert last["done"] and "context" not in last


@pytest.mark.parametrize(
    ("body", "inputs"),
    [({"input": "a"}, ["a"]), ({"input": ["", "b"]}, ["", "b"]), ({"input": ""}, []), ({}, []), ({"input": None}, [])],
    ids=str,
)
def test_embed_inputs(body: dict[str, Any], inputs: list[str]) -> None:
    request = dialect.decode(EMBED, json.dumps({"model": "m", **body}).encode())
    assert isinstance(request, EmbedRequest)
    assert (request.inputs, request.intent) == (inputs, "run" if inputs else "load")


CONVERSATION = ChatRequest(
    model="up",
    messages=[
        Message("system", [Text("s")]),
        Message("user", [Text("u"), Media(mime="image/png", data=PNG)]),
        Message("assistant", [Thinking("hm"), Text("t"), ToolCall("f", '{"a":1}', "c1"), ToolCall("g", "{}", None)]),
        Message("tool", [ToolResult([Text("5 C")], "c1", "f")]),
        Message("tool", [ToolResult([Text("6 C")])]),
    ],
    stream=True,
    tools=[
        Tool("f", "d", {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}}),
        Tool("g", vendor={"ollama": {"tool": {}, "function": {"strict": True}}}),
    ],
    format=Format({"type": "object"}),
    think="high",
    logprobs=True,
    top_logprobs=3,
    keep_alive=90.0,
    truncate=True,
)


def test_chat_survives_the_round_trip() -> None:
    CONVERSATION.sampling.temperature = 0.5
    CONVERSATION.sampling.extra = {"mirostat": 1}
    kind, body, losses = dialect.encode(CONVERSATION, "up", profile)
    assert (kind, losses) == (CHAT, [])
    assert list(body)[:3] == ["model", "messages", "tools"]
    assert dialect.decode(kind, json.dumps(body).encode()) == CONVERSATION


def test_completion_survives_the_round_trip() -> None:
    request = decode_generate(model="up", raw=True, suffix="s", images=[PNG], options={"top_p": 0.5}, stream=False)
    kind, body, losses = dialect.encode(request, "up", profile)
    assert (kind, losses) == (GENERATE, [])
    assert dialect.decode(kind, json.dumps(body).encode()) == request


def test_embeddings_survive_the_round_trip() -> None:
    request = EmbedRequest("up", ["a", ""], 5, True, 3.0, vendor={"ollama": {"options": {"num_ctx": 9}}})
    kind, body, losses = dialect.encode(request, "up", profile)
    assert (kind, losses) == (EMBED, [])
    assert dialect.decode(kind, json.dumps(body).encode()) == request


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"tool_choice": "required"}, ["tool_choice"]),
        ({"tool_choice": "none"}, []),
        ({"n": 2}, ["n"]),
        ({"messages": [Message("user", [Media(url="http://x/y.png")])]}, ["image_url"]),
        ({"suffix": "s", "tools": [], "messages": [Message("user", []), Message("user", [])]}, ["messages"]),
    ],
    ids=str,
)
def test_losses(changes: dict[str, Any], names: list[str]) -> None:
    fields: dict[str, Any] = {"model": "m", "messages": [], "tools": [Tool("f")], **changes}
    _, body, losses = dialect.encode(ChatRequest(**fields), "m", profile)
    assert [loss.name for loss in losses] == names
    assert ("tools" in body) == (fields["tools"] != [] and fields.get("tool_choice") != "none")


def test_late_refusals_reach_the_client_when_nobody_checked() -> None:
    with pytest.raises(GatewayError, match="top_k"):
        dialect.encode(decode_chat(options={"top_k": "x"}), "m", profile)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (CHAT, "model 'a\"b' not found"),
        (GENERATE, "model 'a\"b' not found"),
        (EMBED, 'model "a\\"b" not found, try pulling it first'),
        (EMBED_ONE, 'model "a\\"b" not found, try pulling it first'),
        ("show", "model 'a\"b' not found"),
    ],
)
def test_unknown_model_by_endpoint(kind: str, words: str) -> None:
    assert json.loads(dialect.write_error(kind, model_not_found('a"b'), True).body) == {"error": words}


def test_show_names_the_tag() -> None:
    assert (
        dialect.write_error("show", model_not_found("nope"), False).body
        == b'{"error":"model \'nope:latest\' not found"}'
    )


def test_error_from_elsewhere_is_worded_here() -> None:
    error = GatewayError("no tools", status=400, scope=Scope.CALLER, code=NO_TOOLS, model="x", early=True)
    body = dialect.write_error(CHAT, error, True).body
    assert body == b'{"error":"registry.ollama.ai/library/x:latest does not support tools"}'


@pytest.mark.parametrize(
    ("early", "stream", "content_type", "chunked"),
    [
        (True, True, "application/json; charset=utf-8", False),
        (False, True, "application/json", True),
        (False, False, "application/json; charset=utf-8", False),
    ],
)
def test_content_type_of_errors(early: bool, stream: bool, content_type: str, chunked: bool) -> None:
    answer = dialect.write_error(CHAT, GatewayError("x", status=502, early=early, retry_after=1.2), stream)
    assert (answer.content_type, answer.chunked, answer.headers) == (content_type, chunked, {"Retry-After": "2"})


@pytest.mark.parametrize(
    ("body", "message", "type_"),
    [
        (b'{"error":"model \'x\' not found"}', "model 'x' not found", None),
        (
            b'{"error":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"too long\\",\\"type\\":\\"t\\"}}"}',
            "too long",
            "t",
        ),
        (b'{"error":{"message":"m","type":"t"}}', "m", "t"),
        (b"upstream down", "upstream down", None),
        (b"", "HTTP 503", None),
        (b"[1]", "HTTP 503", None),
    ],
    ids=str,
)
def test_read_error(body: bytes, message: str, type_: str | None) -> None:
    error = dialect.read_error(503, {"retry-after": "7"}, body)
    assert (error.message, error.type, error.retry_after) == (message, type_, 7.0)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ('"up:latest" does not support thinking', '"mine" does not support thinking'),
        ("registry.ollama.ai/library/up:latest does not support tools",
         "registry.ollama.ai/library/mine:latest does not support tools"),
        ("registry.ollama.ai/library/up:latest does not support insert",
         "registry.ollama.ai/library/mine:latest does not support insert"),
        ('"up:latest" does not support chat', '"mine" does not support chat'),
        ("temperature does not support that", "temperature does not support that"),
    ],
)  # fmt: skip
def test_what_a_real_ollama_refuses_is_said_of_the_name_that_was_asked(words: str, shown: str) -> None:
    for charset in ("; charset=utf-8", ""):
        headers = {"content-type": f"application/json{charset}"}
        wire = dialect.read_error(400, headers, json.dumps({"error": words}).encode())
        answer = dialect.write_error(CHAT, classify("real", 400, wire, "mine"), stream=True)
        assert (json.loads(answer.body), answer.content_type) == ({"error": shown}, headers["content-type"])
