"""What an upstream was asked, read from the request it got, in the words of `doors.Ask`.

Knows: request bodies of the OpenAI, the Responses, the Anthropic, the Gemini and the Ollama wire. Must not know: the
gateway.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from doors import Ask
from fakes.gemini_wire import PLACEHOLDER
from fakes.script import Seen


@dataclass
class Said:
    """One message. `answers`: position of the call that a result answers, counted over the whole conversation.
    `sealed`: its thoughts came back in the form that only the service reads, beside their text or without it."""

    role: str
    text: str = ""
    images: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    thinking: str = ""
    answers: int | None = None
    sealed: bool = False


@dataclass
class Asked:
    """`think` is None when nothing was said about it."""

    turns: list[Said]
    tools: list[str] = field(default_factory=list)
    format: Any = None
    stop: list[str] = field(default_factory=list)
    max_tokens: int | None = None
    think: Any = None
    logprobs: tuple[bool, int] = (False, 0)


def intended(ask: Ask) -> Asked:
    """What must reach any upstream. Thoughts of earlier turns are left to the caller: not every wire carries them."""
    turns = [
        Said(
            turn.role,
            turn.text,
            [*turn.images, *turn.image_urls],
            [(call.name, call.arguments) for call in turn.calls],
            answers=turn.answers,
        )
        for turn in ask.turns
    ]
    names = [tool["function"]["name"] for tool in ask.tools]
    return Asked(turns, names, ask.format, list(ask.stop), ask.max_tokens, ask.think, (ask.logprobs, ask.top))


def asked_openai(seen: Seen) -> Asked:
    """A chat/completions request."""
    body = seen.json
    turns: list[Said] = []
    ids: list[str] = []
    for message in body["messages"]:
        said = Said(message["role"])
        content = message.get("content") or ""
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                said.text += part["text"]
            else:
                said.images.append(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
        for call in message.get("tool_calls") or []:
            ids.append(call["id"])
            said.calls.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
        said.thinking = message.get("reasoning_content") or message.get("reasoning") or ""
        if "tool_call_id" in message:
            said.answers = ids.index(message["tool_call_id"])
        turns.append(said)
    assert len(set(ids)) == len(ids), "two calls with one id"
    wanted = body.get("response_format") or {}
    shape = {"json_object": "json", "json_schema": (wanted.get("json_schema") or {}).get("schema")}.get(
        wanted.get("type")
    )
    stop = body.get("stop") or []
    effort = body.get("reasoning_effort")
    return Asked(
        turns,
        [tool["function"]["name"] for tool in body.get("tools") or []],
        shape,
        [stop] if isinstance(stop, str) else stop,
        body.get("max_completion_tokens") or body.get("max_tokens"),
        False if effort == "none" else effort,
        (bool(body.get("logprobs")), body.get("top_logprobs") or 0),
    )


FEWEST = 16  # tokens of an answer that the Responses API can be limited to


def asked_responses(seen: Seen) -> Asked:
    """A Responses request. Reasoning, calls and words of one turn of the model are items of their own."""
    body = seen.json
    turns = [Said("system", body["instructions"])] if body.get("instructions") else []
    ids: list[str] = []
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "function_call_output":
            turns.append(Said("tool", item["output"], answers=ids.index(item["call_id"])))
            continue
        role = item["role"] if kind == "message" else "assistant"
        if not (turns and turns[-1].role == role == "assistant"):
            turns.append(Said(role))
        said = turns[-1]
        if kind == "function_call":
            ids.append(item["call_id"])
            said.calls.append((item["name"], json.loads(item["arguments"])))
        elif kind == "reasoning":
            said.thinking += "".join(part["text"] for part in item["summary"])
            said.sealed = bool(item["encrypted_content"])
        else:
            content = item["content"]
            for part in [{"type": "input_text", "text": content}] if isinstance(content, str) else content:
                if part["type"] == "input_image":
                    said.images.append(part["image_url"].removeprefix("data:image/png;base64,"))
                else:
                    said.text += part["text"]
    assert len(set(ids)) == len(ids), "two calls with one id"
    shape = (body.get("text") or {}).get("format") or {}
    effort = (body.get("reasoning") or {}).get("effort")
    return Asked(
        turns,
        [tool["name"] for tool in body.get("tools") or []],
        "json" if shape.get("type") == "json_object" else shape.get("schema"),
        [],
        body.get("max_output_tokens"),
        False if effort == "none" else effort,
        ("message.output_text.logprobs" in body.get("include", ()), body.get("top_logprobs") or 0),
    )


UNASKED = 4096  # the limit that a wire which demands one gets for a model nobody knows (providers.md 2.4)


def asked_anthropic(seen: Seen) -> Asked:
    """A Messages request. Turns of the user that stand in one message are told apart by what they hold."""
    body = seen.json
    system = body.get("system") or []
    turns = [Said("system", part["text"]) for part in ([{"text": system}] if isinstance(system, str) else system)]
    ids: list[str] = []
    for message in body["messages"]:
        said = Said(message["role"])
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "tool_result":
                inner = part.get("content") or ""
                text = inner if isinstance(inner, str) else "".join(each["text"] for each in inner)
                turns.append(Said("tool", text, answers=ids.index(part["tool_use_id"])))
            elif part["type"] == "tool_use":
                ids.append(part["id"])
                said.calls.append((part["name"], part["input"]))
            elif part["type"] == "image":
                said.images.append(part["source"].get("data") or part["source"]["url"])
            elif part["type"] == "thinking":
                said.thinking += part["thinking"]
                said.sealed = bool(part["signature"])
            else:
                said.text += part["text"]
        if said != Said(said.role):
            turns.append(said)
    assert len(set(ids)) == len(ids), "two calls with one id"
    config = body.get("output_config") or {}
    thinking = (body.get("thinking") or {}).get("type")
    think = None if thinking is None else config.get("effort") or thinking in ("adaptive", "enabled")
    return Asked(
        turns,
        [tool["name"] for tool in body.get("tools") or []],
        loosened((config.get("format") or {}).get("schema")),
        body.get("stop_sequences") or [],
        None if body["max_tokens"] == UNASKED else body["max_tokens"],
        think,
    )


def loosened(schema: Any) -> Any:
    """The schema as the client gave it: this wire wants every object closed (providers.md 2.4)."""
    if isinstance(schema, dict):
        closed = schema.get("additionalProperties") is False
        return {k: loosened(v) for k, v in schema.items() if not (closed and k == "additionalProperties")}
    return [loosened(each) for each in schema] if isinstance(schema, list) else schema


def asked_gemini(seen: Seen) -> Asked:
    """A generateContent request. Turns of the user that stand in one content are told apart by what they hold; the
    system's words come first."""
    body = seen.json
    turns: list[Said] = []
    ids: list[str] = []
    if "systemInstruction" in body:
        turns += [Said("system", part["text"]) for part in body["systemInstruction"]["parts"]]
    for content in body["contents"]:
        said = Said("assistant" if content["role"] == "model" else "user")
        for part in content["parts"]:
            if "functionResponse" in part:
                response = part["functionResponse"]
                turns.append(Said("tool", response["response"]["output"], answers=ids.index(response["id"])))
            elif "functionCall" in part:
                ids.append(part["functionCall"]["id"])
                said.calls.append((part["functionCall"]["name"], part["functionCall"]["args"]))
                said.sealed = said.sealed or part.get("thoughtSignature") not in (None, PLACEHOLDER)
            elif "inlineData" in part:
                said.images.append(part["inlineData"]["data"])
            elif part.get("thought"):
                said.thinking += part["text"]
            else:
                said.text += part["text"]
        if said != Said(said.role):
            turns.append(said)
    assert len(set(ids)) == len(ids), "two calls with one id"
    config = body.get("generationConfig", {})
    thinking = config.get("thinkingConfig")
    think = None if thinking is None else thinking.get("includeThoughts", False)
    if think and "thinkingLevel" in thinking:
        think = thinking["thinkingLevel"].lower()
    wanted = "json" if config.get("responseMimeType") == "application/json" else None
    return Asked(
        turns,
        [declared["name"] for tool in body.get("tools") or [] for declared in tool["functionDeclarations"]],
        config.get("responseJsonSchema", wanted),
        config.get("stopSequences") or [],
        config.get("maxOutputTokens"),
        think,
        (bool(config.get("responseLogprobs")), config.get("logprobs") or 0),
    )


def asked_ollama(seen: Seen) -> Asked:
    """A /api/chat or /api/generate request."""
    body = seen.json
    turns: list[Said] = []
    calls: list[tuple[str | None, str]] = []  # (id, name)
    open_calls: list[int] = []
    if "messages" not in body:
        if body.get("system"):
            turns.append(Said("system", body["system"]))
        turns.append(Said("user", body["prompt"], list(body.get("images") or [])))
    for message in body.get("messages") or []:
        said = Said(message["role"], message.get("content") or "", list(message.get("images") or []))
        said.thinking = message.get("thinking") or ""
        for call in message.get("tool_calls") or []:
            open_calls.append(len(calls))
            calls.append((call.get("id"), call["function"]["name"]))
            said.calls.append((call["function"]["name"], call["function"]["arguments"]))
        if said.role == "tool":
            said.answers = answered(message, calls, open_calls)
            open_calls.remove(said.answers)
        turns.append(said)
    options = body.get("options") or {}
    return Asked(
        turns,
        [tool["function"]["name"] for tool in body.get("tools") or []],
        body.get("format"),
        options.get("stop") or [],
        options.get("num_predict"),
        body.get("think"),
        (bool(body.get("logprobs")), body.get("top_logprobs") or 0),
    )


def answered(message: dict[str, Any], calls: list[tuple[str | None, str]], open_calls: list[int]) -> int:
    """The call a result belongs to: by id, else by name, else the first that is open (clients.md 4.3)."""
    for at in open_calls:
        identity, name = calls[at]
        if message.get("tool_call_id"):
            if message["tool_call_id"] == identity:
                return at
        elif message.get("tool_name") in (None, "", name):
            return at
    raise AssertionError(f"a result without its call: {message}")
