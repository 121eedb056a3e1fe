"""What the fake provider says: answers in the exact outer shape of real wires, token text apart.

Knows: the bytes of each wire. Must not know: sockets, pace, who asks.

A stream is `opening`, then one event a token (`before` + text + `after`), then `closing`; each event travels in a chunk
of HTTP of its own, as providers send them:

    141\\r\\n
    data: {"id":"chatcmpl-...","object":"chat.completion.chunk",...,"choices":[{"index":0,"delta":{"content":" of~"},
    "logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"wq3fA1kV"}\\n\\n\\r\\n

A further wire is one more `Wire` and one more line in `WIRES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

# Every token's text holds MARK once, and nothing else in any frame does: whoever counts it counts tokens, whatever the
# framing. Two of the sixteen need escaping in JSON, about as many as in real prose.
MARK = b"~"
WORDS: tuple[bytes, ...] = tuple(
    word + MARK
    for word in (
        *(b" sky", b" is", b" blue", b" because", b" air", b" scatters", b" short", b" waves"),
        *(b" more", b" than", b" long", b" ones", b",", b".", rb" \"Rayleigh\"", rb"\n\n"),
    )
)


@dataclass(frozen=True, eq=False)
class Wire:
    """One provider's chat wire. `closing_with_usage` is sent to those who asked for the usage of a stream."""

    opening: tuple[bytes, ...]
    before: bytes
    after: bytes
    closing: tuple[bytes, ...]
    closing_with_usage: tuple[bytes, ...]
    reply: bytes

    def token(self, text: bytes) -> bytes:
        """One token's event as a chunk of HTTP. `text` is already escaped for JSON."""
        return chunk(self.before + text + self.after)

    def head(self) -> bytes:
        return b"".join(map(chunk, self.opening))

    def tail(self, usage: bool) -> bytes:
        return b"".join(map(chunk, self.closing_with_usage if usage else self.closing)) + b"0\r\n\r\n"

    @cache  # noqa: B019 - the few wires live as long as the program
    def stream(self, tokens: int, usage: bool) -> bytes:
        """A whole stream without pauses or time stamps."""
        kinds = [self.token(word) for word in WORDS]
        middle = b"".join(kinds[i % len(kinds)] for i in range(tokens))
        return self.head() + middle + self.tail(usage)


def chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


_START = (
    b'data: {"id":"chatcmpl-DfQ2kBenchBenchBenchBenchB1","object":"chat.completion.chunk","created":1795000000,'
    b'"model":"gpt-bench-2026-06-01","service_tier":"default","system_fingerprint":"fp_5be9c40c1d","choices":['
)
_DETAILS = (
    b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,'
    b'"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}'
)
_END = b'"usage":null,"obfuscation":"wq3fA1kV"}\n\n'
_CLOSING = (
    _START + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],' + _END,
    _START
    + b'],"usage":{"prompt_tokens":23,"completion_tokens":64,"total_tokens":87,'
    + _DETAILS
    + b'},"obfuscation":""}\n\n',
    b"data: [DONE]\n\n",
)

OPENAI = Wire(
    opening=(
        _START
        + b'{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],'
        + _END,
    ),
    before=_START + b'{"index":0,"delta":{"content":"',
    after=b'"},"logprobs":null,"finish_reason":null}],' + _END,
    closing=(_CLOSING[0], _CLOSING[2]),
    closing_with_usage=_CLOSING,
    reply=(
        b'{"id":"chatcmpl-DfQ2kBenchBenchBenchBenchB1","object":"chat.completion","created":1795000000,'
        b'"model":"gpt-bench-2026-06-01","choices":[{"index":0,"message":{"role":"assistant","content":'
        b'"Air scatters short waves more than long ones, so the sky looks blue.~","refusal":null,"annotations":[]},'
        b'"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":23,"completion_tokens":15,"total_tokens":38,'
        + _DETAILS
        + b'},"service_tier":"default","system_fingerprint":"fp_5be9c40c1d"}'
    ),
)

# Path of the request -> its wire.
WIRES: dict[bytes, Wire] = {b"/v1/chat/completions": OPENAI}

MODELS = b'{"object":"list","data":[{"id":"bench","object":"model","created":1795000000,"owned_by":"bench"}]}'

# As many as api.openai.com sends, so that reading and forwarding them costs what it costs there.
HEADERS = (
    b"date: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
    b"server: bench\r\n"
    b"connection: keep-alive\r\n"
    b"access-control-expose-headers: X-Request-ID\r\n"
    b"openai-organization: bench\r\n"
    b"openai-processing-ms: 9\r\n"
    b"openai-version: 2020-10-01\r\n"
    b"x-ratelimit-limit-requests: 30000\r\n"
    b"x-ratelimit-limit-tokens: 150000000\r\n"
    b"x-ratelimit-remaining-requests: 29999\r\n"
    b"x-ratelimit-remaining-tokens: 149999976\r\n"
    b"x-request-id: req_b0000000000000000000000000000001\r\n"
)


def head(status: bytes, content_type: bytes, framing: bytes) -> bytes:
    """The head of an answer; `framing` is its length or transfer coding, as a header without the line end."""
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\n%b\r\n%b\r\n" % (status, content_type, framing, HEADERS)


def whole(status: bytes, body: bytes) -> bytes:
    """An answer with its length."""
    return head(status, b"application/json", b"content-length: %d" % len(body)) + body


STREAM_HEAD = head(b"200 OK", b"text/event-stream; charset=utf-8", b"transfer-encoding: chunked")
