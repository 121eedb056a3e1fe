"""Endpoints that are known and not there: they answer 501, so that a client does not take the gateway for a server of
another kind.

Knows: what each is for. Must not know: its body, which nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .describe import REFUSED, Name, Operation, whole
from .native import OllamaError
from .v1 import OpenAIError


def _unbuilt(summary: str, error: Any = OllamaError, **path: tuple[str, tuple[str, ...]]) -> Operation:
    replies = {501: whole(error, description="Not available on this gateway."), 403: REFUSED}
    return Operation(summary, replies, "Not in this version.", path=path)


_DIGEST: Mapping[str, tuple[str, tuple[str, ...]]] = {"digest": ("`sha256:` and 64 hexadecimal digits.", ())}

OPERATIONS: dict[Name, Operation] = {
    ("GET", "/api/status"): _unbuilt("Ollama's own state"),
    ("POST", "/api/pull"): _unbuilt("Fetch a model"),
    ("POST", "/api/push"): _unbuilt("Publish a model"),
    ("POST", "/api/create"): _unbuilt("Make a model"),
    ("POST", "/api/copy"): _unbuilt("Copy a model"),
    ("DELETE", "/api/delete"): _unbuilt("Remove a model"),
    ("HEAD", "/api/blobs/{digest}"): _unbuilt("Is this file of a model there?", **_DIGEST),
    ("POST", "/api/blobs/{digest}"): _unbuilt("Store a file of a model", **_DIGEST),
    ("POST", "/api/me"): _unbuilt("Ollama's account"),
    ("POST", "/api/signout"): _unbuilt("Sign out of Ollama's account"),
    ("DELETE", "/api/user/keys/{key}"): _unbuilt("Remove a key of Ollama's account", key=("The key, encoded.", ())),
    ("POST", "/api/experimental/web_search"): _unbuilt("Search the web"),
    ("POST", "/api/experimental/web_fetch"): _unbuilt("Fetch a page"),
    ("GET", "/api/experimental/model-recommendations"): _unbuilt("Models that Ollama recommends"),
    ("POST", "/v1/responses"): _unbuilt("OpenAI's Responses", OpenAIError),
    ("POST", "/v1/messages"): _unbuilt("Anthropic's Messages", OpenAIError),
    ("POST", "/v1/audio/transcriptions"): _unbuilt("Speech to text", OpenAIError),
}
