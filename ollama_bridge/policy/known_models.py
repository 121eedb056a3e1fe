"""The small table of model facts: what neither catalogues nor the price package tell.

Knows: limits and dates of models, as data. Must not know: whose word counts more (policy/facts does).

OpenAI's, DeepSeek's and xAI's catalogues tell names only, and no catalogue but a few tells how much a model can write.
Limits follow the makers' pages as models.dev gathers them (MIT), Claude's dates its SDK. A row without `at` is true of
the model wherever it runs; one with it only at the service that was made from that preset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from ..providers.base import Known
from .facts import merge


@dataclass(frozen=True, slots=True)
class Row:
    """`pattern` is tried at the start of the model's last path segment, in lower case."""

    pattern: re.Pattern[str]
    known: Known
    at: str = ""


def _row(
    pattern: str,
    context: int | None = None,
    output: int | None = None,
    *,
    vector: int | None = None,
    retires: date | None = None,
    at: str = "",
) -> Row:
    known = Known(context_length=context, max_output=output, embedding_length=vector, retires=retires)
    return Row(re.compile(pattern), known, at)


_ROWS = (
    # OpenAI
    _row(r"gpt-6|gpt-5\.[4-9](?!.*(mini|nano|codex|chat))", 1_050_000, 128_000),
    _row(r"gpt-5(\.\d+)?-chat", 128_000, 16_384),
    _row(r"gpt-5\.3-codex-spark", 128_000, 32_000),
    _row(r"gpt-5-pro", 400_000, 272_000),
    _row(r"gpt-5", 400_000, 128_000),
    _row(r"gpt-4\.1", 1_047_576, 32_768),
    _row(r"gpt-4o-2024-05-13|gpt-4-turbo", 128_000, 4096),
    _row(r"gpt-4o", 128_000, 16_384),
    _row(r"gpt-4", 8192, 8192),
    _row(r"gpt-3\.5-turbo", 16_385, 4096),
    _row(r"o[134](-|$)", 200_000, 100_000),
    _row(r"gpt-oss", 131_072),
    _row(r"text-embedding-3-large", 8192, vector=3072),
    _row(r"text-embedding-(3-small|ada-002)", 8192, vector=1536),
    # Anthropic: a server of another maker may not tell what its own does
    _row(r"claude-(opus|sonnet)-4[-.][678](?!\d)|claude-(opus|sonnet|haiku|fable|mythos)-5", 1_000_000, 128_000),
    _row(r"claude-(opus|sonnet|haiku)-4[-.]5(?!\d)", 200_000, 64_000),
    _row(r"claude-opus-4", 200_000, 32_000),
    _row(r"claude-sonnet-4|claude-3[-.]7", 200_000, 64_000),
    _row(r"claude-3", 200_000, 4096),
    _row(r"claude-3-7-sonnet|claude-3-5-haiku", retires=date(2026, 2, 19), at="anthropic"),
    _row(r"claude-3-opus", retires=date(2026, 1, 5), at="anthropic"),
    _row(r"claude-(opus|sonnet)-4-(0|2025)", retires=date(2026, 6, 15), at="anthropic"),
    _row(r"claude-mythos-preview", retires=date(2026, 6, 30), at="anthropic"),
    _row(r"claude-sonnet-4-5", retires=date(2026, 11, 30), at="anthropic"),
    # Google
    _row(r"gemini-embedding-001", 2048, vector=3072),
    _row(r"gemini-(2\.5|[3-9])[\d.]*-(pro|flash|flash-lite)(?!.*(image|tts|live|audio))", 1_048_576, 65_536),
    # DeepSeek, xAI, Mistral
    _row(r"deepseek-(v4|flash)", 1_000_000, 384_000),
    _row(r"grok-4\.5", 500_000),
    _row(r"grok-4\.(20|3)", 1_000_000, 30_000),
    _row(r"mistral-embed", 8192, vector=1024),
    # Models that many serve
    _row(r"bge-m3", 8192, vector=1024),
    _row(r"(bge|e5|gte)-large", 512, vector=1024),
    _row(r"(bge|e5|gte)-base", 512, vector=768),
    _row(r"(bge|e5|gte)-small|all-minilm-l6", 512, vector=384),
)  # fmt: skip


@lru_cache(maxsize=4096)
def look_up(preset: str, model: str) -> Known:
    """What the table tells of an upstream model. `preset`: the row that its provider was made from, "" for none."""
    segment = model.lower().rsplit("/", 1)[-1].removeprefix("ft:")
    return merge(("", known) for known in _told(preset, segment))[0]


def _told(preset: str, segment: str) -> Iterator[Known]:
    for row in _ROWS:
        if row.at in ("", preset) and row.pattern.match(segment):
            yield row.known
