"""Request types of Ollama's /v1 layer as tables for go.json.

Knows: the structs of Ollama's package `openai`, and how the layer words what does not fit them. Must not know: what a
field means.
"""

from __future__ import annotations

from typing import Any, cast

from ...errors import GatewayError, Scope
from ..go.json import ANY, BOOL, FLOAT, FLOAT32, INT, STRING, Array, Checked, Kind, Struct
from ..go.json import decode as decode_body
from ..ollama.types import TOOLS

EMPTY = "EOF"

Fields = dict[str, Any]


class LayerError(GatewayError):
    """Refused by the layer itself, before the native handler."""


def refused(message: str) -> LayerError:
    return LayerError(message, status=400, scope=Scope.CALLER, early=True)


_OURS: dict[str, Kind] = {"privacy_mode": STRING, "task": STRING, "provider": ANY}
_STREAM_OPTIONS = Struct("openai.StreamOptions", {"include_usage": BOOL}, pointer=True)
_CALLED = Struct(
    'struct { Name string "json:\\"name\\""; Arguments string "json:\\"arguments\\"" }',
    {"name": STRING, "arguments": STRING},
)
_CALLED.name = ""  # it has none, and errors below it show that
_CALL = Struct("openai.ToolCall", {"id": STRING, "index": INT, "type": STRING, "function": _CALLED})
_MESSAGE = Struct(
    "openai.Message",
    {
        "role": STRING,
        "content": ANY,
        "reasoning": STRING,
        "tool_calls": Array("[]openai.ToolCall", _CALL),
        "name": STRING,
        "tool_call_id": STRING,
    },
)
_SCHEMA = Struct("openai.JsonSchema", {"schema": ANY}, pointer=True)
CHAT_REQUEST = Struct(
    "openai.ChatCompletionRequest",
    {
        "model": STRING,
        "messages": Array("[]openai.Message", _MESSAGE),
        "stream": BOOL,
        "stream_options": _STREAM_OPTIONS,
        "max_tokens": INT,
        "seed": INT,
        "stop": ANY,
        "temperature": FLOAT,
        "frequency_penalty": FLOAT,
        "presence_penalty": FLOAT,
        "top_p": FLOAT,
        "response_format": Struct("openai.ResponseFormat", {"type": STRING, "json_schema": _SCHEMA}, pointer=True),
        "tools": Checked(Array("[]api.Tool", cast(Array, TOOLS.kind).item)),
        "reasoning": Struct("openai.Reasoning", {"effort": STRING}, pointer=True),
        "reasoning_effort": STRING,
        "logprobs": BOOL,
        "top_logprobs": INT,
        "_debug_render_only": BOOL,
        **_OURS,
    },
)
COMPLETION_REQUEST = Struct(
    "openai.CompletionRequest",
    {
        "model": STRING,
        "prompt": STRING,
        "frequency_penalty": FLOAT32,
        "max_tokens": INT,
        "presence_penalty": FLOAT32,
        "seed": INT,
        "stop": ANY,
        "stream": BOOL,
        "stream_options": _STREAM_OPTIONS,
        "temperature": FLOAT32,
        "top_p": FLOAT32,
        "suffix": STRING,
        "logprobs": INT,
        "_debug_render_only": BOOL,
        **_OURS,
    },
)
EMBEDDING_REQUEST = Struct(
    "openai.EmbedRequest",
    {"input": ANY, "model": STRING, "dimensions": INT, "encoding_format": STRING, **_OURS},
)


def fields_of(body: bytes, struct: Struct) -> Fields:
    try:
        return decode_body(body, struct, EMPTY)
    except GatewayError as error:
        raise refused(error.message) from None


def go_type(value: Any) -> str:
    """What Go's %T prints for a JSON value."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "float64"
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"
