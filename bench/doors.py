"""How a chat is asked for at each door, and what the last line of its stream looks like.

Knows: request bodies, as far as a chat of text needs them. Must not know: sockets, who answers, tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SYSTEM = "You are a helpful assistant."
WHOLE_END = re.compile(rb"\}\s*$")  # of any answer in one piece
_DONE = re.compile(rb"data: \[DONE\]\r?\n\r?\n$")


@dataclass(frozen=True)
class Door:
    """`path`: with {model} and {method} where those stand in it. `body(model, prompt, stream)`. `last`: what a stream
    ends in, and nothing that broke off."""

    path: str
    body: Callable[[str, str, bool], dict[str, Any]]
    last: re.Pattern[bytes]

    def path_for(self, model: str, stream: bool) -> str:
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return self.path.format(model=model, method=method)


def _ollama(model: str, prompt: str, stream: bool) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    return {"model": model, "messages": messages, "stream": stream}


def _openai(model: str, prompt: str, stream: bool) -> dict[str, Any]:
    return _ollama(model, prompt, stream) | ({"stream_options": {"include_usage": True}} if stream else {})


def _anthropic(model: str, prompt: str, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "system": SYSTEM, "messages": messages, "max_tokens": 4096, "stream": stream}


def _gemini(model: str, prompt: str, stream: bool) -> dict[str, Any]:
    contents = [{"role": "user", "parts": [{"text": prompt}]}]
    return {"contents": contents, "systemInstruction": {"parts": [{"text": SYSTEM}]}}


# Ours.
CHAT = Door("/api/chat", _ollama, re.compile(rb'"done": ?true[^\n]*\n$'))
COMPLETIONS = Door("/v1/chat/completions", _openai, _DONE)
# Those of the fake provider: through the floor, at which its streams stay as they are.
ROUTER = Door("/router/v1/chat/completions", _openai, _DONE)
MESSAGES = Door("/anthropic/v1/messages", _anthropic, re.compile(rb'data: \{"type":"message_stop" *\}\n\n$'))
CONTENT = Door("/gemini/v1beta/models/{model}:{method}", _gemini, re.compile(rb'"finishReason": "STOP"[^\n]*\n\r\n$'))
