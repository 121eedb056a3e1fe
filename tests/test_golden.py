"""The whole gateway answers as a real Ollama does: every golden case of the groups built, through the native door and
through /v1 under `openai_compat: ollama`. What differs on purpose stands in docs/differences.md, with its reason.

Behind the golden models' names stands a fake of the OpenAI wire: frames, keys and errors are compared, never words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from fakes.openai_wire import FakeOpenAI
from fakes.script import Call, Refusal, Script, Tokens
from gateway import alias, openai_provider
from golden import Case, cases, report, run_case

DIFFERENCES = Path(__file__).resolve().parent.parent / "docs" / "differences.md"
COUNTS = {"facts": 27, "chat": 86, "generate": 30, "think": 20, "tools": 7, "embed": 25, "openai": 66}
SUFFIX = {"generate": {"fim-stream-false", "fim-stream-true"}}  # cases that need fill-in-the-middle
WINDOW = 256  # tokens; what the cases with too long a prompt ask for


def listed_differences() -> dict[str, str]:
    """`group/case` -> reason, from the table in docs/differences.md."""
    found: dict[str, str] = {}
    for line in DIFFERENCES.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 and cells[0].startswith("`") and "/" in cells[0]:
            found[cells[0].strip("`")] = cells[1]
    return found


class Gemma(FakeOpenAI):
    """Does what the golden models did: counts, thinks, calls `get_weather` for each city, refuses what is too long."""

    def _script(self, body: dict[str, Any]) -> Script:
        if "input" in body:
            if any(len(text) > WINDOW * 8 for text in [body["input"], *body["input"]] if isinstance(text, str)):
                raise Refusal("This model's maximum context length is exceeded", code="context_length_exceeded")
            return Script()
        parts = [part for message in body["messages"] for part in message.get("content") or [] if part != str(part)]
        if any(part["type"] == "image_url" for part in parts):
            raise Refusal("Multimodal data provided, but model does not support multimodal requests.")
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        if schema.get("type") == "nonsense":
            raise Refusal("JSON schema conversion failed", param="response_format")
        last = body["messages"][-1]
        if body.get("tools") and last["role"] == "user":
            cities = [word.strip("?") for word in str(last["content"]).split() if word[0].isupper()][1:]
            calls = tuple(Call("get_weather", (json.dumps({"city": city}),)) for city in cities or ["Oslo"])
            return Script(calls=calls, usage=Tokens())
        text: tuple[str, ...] = ("One", " two", " three")
        logprobs = tuple(
            {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": top(body, token)}
            for token in text
        )
        thinks = body["model"] == "think" and body.get("reasoning_effort") != "none"
        if body["model"] == "think" and not thinks:
            text = ()  # the model behind the recording had nothing to say without a thought
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        return Script(
            text=text,
            thinking=("Let", " me", " see") if thinks else (),
            logprobs=logprobs if body.get("logprobs") else (),
            reason="length" if limit else "stop",
            usage=Tokens(),
        )


def top(body: Mapping[str, Any], token: str) -> list[dict[str, Any]]:
    others = [token, "Model", "The"][: body.get("top_logprobs") or 0]
    return [{"token": each, "logprob": -0.5 - at, "bytes": list(each.encode())} for at, each in enumerate(others)]


def golden_models() -> dict[str, Any]:
    options = {"temperature": 0, "stop": ["<end_of_turn>"]}
    facts: dict[str, Any] = {"context_length": 32768, "embedding_length": 640, "options": options}
    return {
        "gemma-tiny": alias("lab", "tiny", **{**facts, "capabilities": ["completion"]}),
        "gemma-tools": alias("lab", "tools", **{**facts, "capabilities": ["completion", "tools"]}),
        "gemma-think": alias("lab", "think", **{**facts, "capabilities": ["completion", "thinking"]}),
        "gemma-fim": alias("lab", "fim", **{**facts, "capabilities": ["completion", "insert"]}),
        "gemma-embed": alias("lab", "embed", **{**facts, "options": {}, "capabilities": ["embedding"]}),
    }


def built(group: str) -> Iterator[Case]:
    left_out = {name.split("/")[1] for name in listed_differences() if name.startswith(f"{group}/")}
    yield from cases(group, without=left_out | SUFFIX.get(group, set()))


@pytest.mark.parametrize("group", COUNTS)
async def test_group(group: str, gateway_of: Start, capsys: pytest.CaptureFixture[str]) -> None:
    compared = list(built(group))
    listed = [name for name in listed_differences() if name.startswith(f"{group}/")]
    differences = []
    async with Gemma() as upstream:
        config = {
            "server": {"openai_compat": "ollama"},
            "providers": {"lab": openai_provider(upstream.url)},
            "models": golden_models(),
        }
        async with gateway_of(config) as gateway:
            for case in compared:
                differences += await run_case(gateway.url, case)
    with capsys.disabled():
        print(f"\ngolden {group}: {len(compared)} cases equal, {len(listed)} listed as different", end="")
    assert not differences, report(differences)
    assert len(compared) + len(listed) >= COUNTS[group]


def test_every_listed_difference_has_a_reason_and_a_case() -> None:
    for name, reason in listed_differences().items():
        group, _, case = name.partition("/")
        assert case in {found.file for found in cases(group)}, name
        assert len(reason) > 20, f"{name} needs a reason"
