"""Junk: honest requests of every endpoint, the ways to spoil them, and the judge of what comes back.

Knows: the doors' wires as far as errors go (ollama-protocol.md 0.1, clients.md 4), JSON as text. Must not know: how the
gateway works.

    spoilt(BODIES["chat"])  ->  (b'{"model":"m","messages":null,...', 'messages = null'), ...

A spoilt request may still be fine (nobody reads `metadata`), so the judge wants one of two things: an answer, or a 4xx
in the door's own shape. A 5xx is a bug, unless an upstream caused it; so is an error inside a stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from golden import Answer

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "list": {"type": "array", "items": {"type": "string"}}},
    "required": ["n"],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {
            "type": "object",
            "properties": {"where": {"type": "string", "enum": ["here", "there"], "description": "A place."}},
            "required": ["where"],
        },
    },
}
_OPTIONS = {
    "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "seed": 7, "num_ctx": 4096, "num_predict": 9,
    "stop": ["END"], "repeat_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1,
}  # fmt: skip
_CALL = {"id": "c1", "function": {"name": "look", "arguments": {"where": "here"}}}
_V1_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"where":"here"}'}}

# Endpoint -> (path, a body with every member that it knows). The model is put in by whoever sends it.
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/api/chat",
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": "Look.", "images": [PNG]},
                {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [_CALL]},
                {"role": "tool", "content": "dark", "tool_name": "look", "tool_call_id": "c1"},
                {"role": "user", "content": "And now?"},
            ],
            "tools": [TOOL],
            "stream": True,
            "format": SCHEMA,
            "options": _OPTIONS,
            "think": "high",
            "keep_alive": "5m",
            "truncate": True,
            "shift": True,
            "logprobs": True,
            "top_logprobs": 2,
        },
    ),
    "generate": (
        "/api/generate",
        {
            "model": "m",
            "prompt": "Look.",
            "suffix": "",
            "images": [PNG],
            "system": "Be short.",
            "template": "{{ .Prompt }}",
            "context": [1, 2, 3],
            "raw": False,
            "stream": False,
            "format": "json",
            "options": _OPTIONS,
            "think": False,
            "keep_alive": 60,
            "logprobs": True,
            "top_logprobs": 2,
        },
    ),
    "embed": (
        "/api/embed",
        {
            "model": "m",
            "input": ["a", "b"],
            "truncate": True,
            "dimensions": 8,
            "keep_alive": "1m",
            "options": {"num_ctx": 512},
        },
    ),
    "embeddings": (
        "/api/embeddings",
        {"model": "m", "prompt": "a", "keep_alive": "1m", "options": {"num_ctx": 512}},
    ),
    "show": (
        "/api/show",
        {"model": "m", "name": "m", "system": "s", "template": "t", "verbose": True, "options": {"seed": 1}},
    ),
    "v1-chat": (
        "/v1/chat/completions",
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be short."},
                {
                    "role": "user",
                    "name": "ann",
                    "content": [
                        {"type": "text", "text": "Look."},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
                    ],
                },
                {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [_V1_CALL]},
                {"role": "tool", "content": "dark", "tool_call_id": "c1"},
                {"role": "user", "content": "And now?"},
            ],
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
            "parallel_tool_calls": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
            "temperature": 0.5,
            "top_p": 0.9,
            "n": 1,
            "max_tokens": 9,
            "max_completion_tokens": 9,
            "stop": ["END"],
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "logit_bias": {"50256": -100},
            "logprobs": True,
            "top_logprobs": 2,
            "seed": 7,
            "user": "u",
            "metadata": {"k": "v"},
            "store": False,
            "service_tier": "auto",
            "reasoning_effort": "high",
            "verbosity": "low",
            "modalities": ["text"],
        },
    ),
    "v1-text": (
        "/v1/completions",
        {
            "model": "m",
            "prompt": "Look.",
            "suffix": "",
            "stream": False,
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "n": 1,
            "best_of": 1,
            "echo": False,
            "stop": "END",
            "logprobs": 2,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "logit_bias": {"1": 1},
            "seed": 7,
            "user": "u",
        },
    ),
    "v1-embed": (
        "/v1/embeddings",
        {"model": "m", "input": ["a", "b"], "dimensions": 8, "encoding_format": "float", "user": "u"},
    ),
}

BODIES |= {
    name: (
        path,
        {
            "messages": [
                {"role": "system", "content": "Be short."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look."},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                    ],
                },
                {"role": "assistant", "content": "Dark."},
                {"role": "user", "content": "And now?"},
            ],
            "model": "m",
            "provider": None,
            "task": "chat",
            "privacy_mode": "flexible",
            "temperature": 0.5,
            "max_tokens": 9,
        },
    )
    for name, path in (("plain", "/chat"), ("plain-stream", "/v1/chat/stream"))
}
PLAIN = ("/chat", "/v1/chat", "/stream", "/v1/chat/stream")

# What a value is replaced by, as JSON text.
WRONG: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "zero": b"0",
    "negative": b"-1",
    "fraction": b"1.5",
    "2^63": b"9223372036854775808",
    "2^64": b"18446744073709551616",
    "400 digits": b"9" * 400,
    "5000 digits": b"9" * 5000,
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "1e-400": b"1e-400",
    "empty text": b'""',
    "text": b'"x"',
    "lone surrogate": b'"\\ud800"',
    "NUL": b'"\\u0000"',
    "bad UTF-8": b'"\xff\xc3\x28\xed\xa0\x80"',
    "long text": b'"' + b"x" * 20_000 + b'"',
    "empty list": b"[]",
    "list of null": b"[null]",
    "list of lists": b"[[[]]]",
    "list of numbers": b"[1,2.5,-3]",
    "list of objects": b'[{"a":1},{}]',
    "empty object": b"{}",
    "object": b'{"a":{"b":[null]},"type":[],"function":1,"url":{}}',
    "object of nothing": b'{"":null}',
    "deep list": b"[" * 600 + b"]" * 600,
    "deep object": b'{"a":' * 450 + b"1" + b"}" * 450,
}

Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every place of a JSON value, the whole of it first."""
    yield at
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield from places(inner, (*at, key))


def written(value: Any, at: Place | None = None, other: bytes = b"") -> bytes:
    """JSON text, with `other` in place of what stands at `at`."""
    if at == ():
        return other
    if isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        parts: list[bytes] = []
        for key, inner in members:
            text = written(inner, at[1:] if at and at[0] == key else None, other)
            parts.append(text if isinstance(value, list) else json.dumps(key).encode() + b":" + text)
        return (b"{%b}" if isinstance(value, dict) else b"[%b]") % b",".join(parts)
    return json.dumps(value).encode()


@dataclass(frozen=True)
class Request:
    """`what` says how it was spoilt."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    what: str = ""

    @property
    def wire(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1".encode("utf-8", "surrogateescape")]
        names = {name.lower() for name, _ in self.headers}
        if b"host" not in names:
            lines.append(b"Host: localhost")
        lines += [name + b": " + value for name, value in self.headers]
        if not names & {b"content-length", b"transfer-encoding"} and (self.body or self.method == "POST"):
            lines.append(b"Content-Length: %d" % len(self.body))
        if b"connection" not in names:
            lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body

    def __str__(self) -> str:
        return f"{self.what}: {self.method} {self.path[:200]} {self.headers!r:.300} {self.body[:300]!r}"


def judge(request: Request, answer: Answer) -> None:
    """Raises AssertionError unless it is an answer or a refusal in the shape of the door."""
    where = f"{request}\n-> {answer.status} {answer.body[:400]!r}"
    if answer.status == 501:  # Ollama's routes that this gateway does not have, told in the door's shape
        assert b"is not available on this gateway" in answer.body or request.method == "HEAD", where
    else:
        assert answer.status < 500, where
    # What is no HTTP is answered before its method is known, as Go does it.
    assert answer.whole or (request.method == "HEAD" and answer.status == 400), where
    path = request.path.partition("?")[0]
    kind = "".join(answer.header("content-type"))
    if request.method == "HEAD" or answer.status in (204, 301, 307, 403):
        return
    if answer.status < 400:
        if path.startswith(("/api/", "/v1/")) or path in PLAIN:
            assert b'"error"' not in answer.body.partition(b'"error"')[0] + _errors(answer, kind), where
        return
    if kind.startswith("text/plain"):
        assert answer.status in (400, 404, 405) and answer.body.startswith(b"%d " % answer.status), where
        assert answer.status != 400 or not answer.body.startswith(b"{"), where
        return
    assert kind.startswith("application/json"), where
    said = json.loads(answer.body)
    if isinstance(said["error"], dict):
        assert path.startswith("/v1/") and path not in PLAIN, where
        assert list(said) == ["error"] and list(said["error"]) == ["message", "type", "param", "code"], where
        words = said["error"]["message"]
    else:  # a body that could not be inflated is refused natively at both doors
        assert list(said) == ["error"], where
        assert not path.startswith("/v1/") or path in PLAIN or "zstd" in str(request.headers), where
        words = said["error"]
    assert isinstance(words, str) and words and "Traceback" not in words, where


def _errors(answer: Answer, kind: str) -> bytes:
    """The frames of a stream that are errors."""
    if not kind.startswith(("application/x-ndjson", "text/event-stream")):
        return b""
    lead = b"data: " if kind.startswith("text/event-stream") else b""
    return b"".join(line for line in answer.body.splitlines() if line.startswith(lead + b'{"error"'))
