"""What the fake provider says: answers in the exact outer shape of real wires, token text apart.

Knows: the bytes of each wire, and where it is asked. Must not know: sockets, pace, who asks.

A stream is `opening`, then one event a token (`before` + text + `after`), then `closing`; each event travels in a chunk
of HTTP of its own, as providers send them:

    141\\r\\n
    data: {"id":"chatcmpl-...","object":"chat.completion.chunk",...,"choices":[{"index":0,"delta":{"content":" of~"},
    "logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"wq3fA1kV"}\\n\\n\\r\\n

A further wire is one more `Wire` in `WIRES`; README.md says what else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

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
_SAID = b"Air scatters short waves more than long ones, so the sky looks blue.~"


@dataclass(frozen=True, eq=False)
class Wire:
    """One provider's chat wire. `closing_with_usage` is sent to those who asked for the usage of a stream.

    `path`: where it is asked; groups `model` and `stream` where those stand there and not in the body. `listed`: where
    its models are listed, and `models` the list.
    """

    path: re.Pattern[bytes]
    opening: tuple[bytes, ...]
    before: bytes
    after: bytes
    closing: tuple[bytes, ...]
    closing_with_usage: tuple[bytes, ...]
    reply: bytes
    listed: bytes
    models: bytes

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


# -- OpenAI ------------------------------------------------------------------------------------------------------------

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
_LIST = b'{"object":"list","data":[{"id":"bench","object":"model","created":1795000000,"owned_by":"bench"}]}'

OPENAI = Wire(
    path=re.compile(rb"/v1/chat/completions"),
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
        b'"model":"gpt-bench-2026-06-01","choices":[{"index":0,"message":{"role":"assistant","content":"'
        + _SAID
        + b'","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":23,"completion_tokens":15,"total_tokens":38,'
        + _DETAILS
        + b'},"service_tier":"default","system_fingerprint":"fp_5be9c40c1d"}'
    ),
    listed=b"/v1/models",
    models=_LIST,
)

# -- the Hugging Face router: OpenAI's wire as most of the services behind it write it ---------------------------------

_ROUTED = b'data: {"id":"chatcmpl-e95808b4-bench-bench-bench-8c9d7796c958","choices":[{'
_ROUTED_END = (
    b'"created":1795000000,"model":"llama-bench","system_fingerprint":"fp_2df2c50ce520692a7dce",'
    b'"object":"chat.completion.chunk"'
)
_ROUTED_USAGE = b',"usage":{"total_tokens":87,"completion_tokens":64,"prompt_tokens":23}'
_STOPPED = _ROUTED + b'"delta":{},"finish_reason":"stop","index":0}],' + _ROUTED_END

HUGGINGFACE = Wire(
    path=re.compile(rb"/router/v1/chat/completions"),
    opening=(_ROUTED + b'"delta":{"role":"assistant"},"index":0}],' + _ROUTED_END + b"}\n\n",),
    before=_ROUTED + b'"delta":{"content":"',
    after=b'"},"index":0}],' + _ROUTED_END + b"}\n\n",
    closing=(_STOPPED + b"}\n\n", b"data: [DONE]\n\n"),
    closing_with_usage=(_STOPPED + _ROUTED_USAGE + b"}\n\n", b"data: [DONE]\n\n"),
    reply=(
        b'{"id":"chatcmpl-e95808b4-bench-bench-bench-8c9d7796c958","choices":[{"finish_reason":"stop","index":0,'
        b'"message":{"content":"' + _SAID + b'","role":"assistant"}}],"created":1795000000,"model":"llama-bench",'
        b'"object":"chat.completion","usage":{"total_tokens":38,"completion_tokens":15,"prompt_tokens":23}}'
    ),
    listed=b"/router/v1/models",
    models=_LIST,
)

# -- Anthropic ---------------------------------------------------------------------------------------------------------

_SPENT = b'"input_tokens":23,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":'
_MESSAGE = b'"model":"claude-bench","id":"msg_01BenchBenchBenchBenchBB","type":"message","role":"assistant","content":['
_TIER = b',"service_tier":"standard","inference_geo":"not_available"}'


def _event(name: bytes, rest: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"%b"%b}\n\n' % (name, name, rest)


_MESSAGE_END = (
    _event(b"content_block_stop", b',"index":0    '),
    _event(
        b"message_delta",
        b',"delta":{"stop_reason":"end_turn","stop_sequence":null,"stop_details":null},"usage":{' + _SPENT + b"64}",
    ),
    _event(b"message_stop", b"   "),
)

ANTHROPIC = Wire(
    path=re.compile(rb"/anthropic/v1/messages"),
    opening=(
        _event(
            b"message_start",
            b',"message":{' + _MESSAGE + b'],"stop_reason":null,"stop_sequence":null,"usage":{' + _SPENT + b"1"
            b',"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}' + _TIER + b"} ",
        ),
        _event(b"content_block_start", b',"index":0,"content_block":{"type":"text","text":""}           '),
        b'event: ping\ndata: {"type": "ping"}\n\n',
    ),
    before=b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    b'"text":"',
    after=b'"}       }\n\n',  # blanks: it pads its events, now more, now less
    closing=_MESSAGE_END,
    closing_with_usage=_MESSAGE_END,
    reply=b"{" + _MESSAGE + b'{"type":"text","text":"' + _SAID + b'"}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{' + _SPENT + b"15" + _TIER + b"}",
    listed=b"/anthropic/v1/models",
    models=b'{"data":[{"type":"model","id":"bench","display_name":"Bench","created_at":"2026-06-01T00:00:00Z"}],'
    b'"has_more":false,"first_id":"bench","last_id":"bench"}',
)

# -- Gemini ------------------------------------------------------------------------------------------------------------


def _candidate(text: bytes, finish: bytes = b"") -> bytes:
    return b'{"candidates": [{"content": {"parts": [{"text": "%b"}],"role": "model"},%b"index": 0}],' % (text, finish)


_COUNTS = (
    b'"usageMetadata": {"promptTokenCount": 23,"candidatesTokenCount": 15,"totalTokenCount": 38,'
    b'"promptTokensDetails": [{"modality": "TEXT","tokenCount": 23}]},'
    b'"modelVersion": "gemini-bench","responseId": "wrFVaf70BenchBenchBench"}'
)
_BEFORE, _AFTER = _candidate(b"\0").split(b"\0")
_LAST = b"data: " + _candidate(b"", b'"finishReason": "STOP",') + _COUNTS + b"\r\n\r\n"

GEMINI = Wire(
    path=re.compile(rb"/gemini/v1beta/models/(?P<model>[^/:]+):(?P<stream>stream)?[gG]enerateContent"),
    opening=(b"data: " + _candidate(b"") + _COUNTS + b"\r\n\r\n",),
    before=b"data: " + _BEFORE,
    after=_AFTER + _COUNTS + b"\r\n\r\n",
    closing=(_LAST,),
    closing_with_usage=(_LAST,),
    reply=_candidate(_SAID, b'"finishReason": "STOP",') + _COUNTS,
    listed=b"/gemini/v1beta/models",
    models=b'{"models":[{"name":"models/bench","supportedGenerationMethods":["generateContent"]}]}',
)

WIRES = (OPENAI, HUGGINGFACE, ANTHROPIC, GEMINI)


@lru_cache(maxsize=4096)
def asked_at(path: bytes) -> tuple[Wire, re.Match[bytes]] | None:
    """The wire that is asked at a path, its query left out, and what the path says of the request."""
    for wire in WIRES:
        if match := wire.path.fullmatch(path.partition(b"?")[0]):
            return wire, match
    return None


def listed_at(path: bytes) -> bytes | None:
    """The list of models at a path."""
    return next((wire.models for wire in WIRES if wire.listed == path.partition(b"?")[0]), None)


# -- heads -------------------------------------------------------------------------------------------------------------

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
