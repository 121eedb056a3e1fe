"""What is known of a model, fact by fact, and who said it. Pure.

Knows: which facts there are, whose word counts more, what a model's name alone tells. Must not know: how a catalogue is
read, providers, the table's contents (known_models holds them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import date
from functools import lru_cache
from typing import Any

from ..providers.base import Known

# Who tells, the most trusted first. A fact of the configuration is never doubted, a name is the last resort.
CONFIG = "config"
PROVIDER = "provider"  # its own catalogue
PRICES = "genai-prices"  # the package
TABLE = "table"  # policy/known_models
NAME = "name"

SOON = 90  # days before the end of a model from which on it is spoken of


NOTHING = Known()
_NAMES = tuple(each.name for each in fields(Known))


def merge(told: Iterable[tuple[str, Known]]) -> tuple[Known, Mapping[str, str]]:
    """(source, what it tells), the most trusted first -> all of it together, and the source of each fact that there
    is."""
    facts: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, known in told:
        for name in _NAMES:
            value = getattr(known, name)
            if value is not None and name not in facts:
                facts[name], sources[name] = value, source
    return Known(**facts), sources


def told_by(model: object) -> Known:
    """The facts of what has them as attributes: an entry of a provider's list, a model of the catalog."""
    return Known(**{name: getattr(model, name) for name in _NAMES})


def values(known: Known) -> dict[str, Any]:
    """By name."""
    return {name: getattr(known, name) for name in _NAMES}


def retires_soon(retires: date | None, today: date) -> bool:
    """Whether a model is gone within SOON days, or is gone already."""
    return retires is not None and (retires - today).days <= SOON


# -- names -------------------------------------------------------------------------------------------------------------

_EMBEDDING = re.compile(r"embed|^bge-|^e5-|^gte-|minilm", re.I)
_VISION = re.compile(
    r"gpt-4o|gpt-4\.1|gpt-4-turbo|gpt-[5-9]|\bo[134](-|$)|vision|-vl\b|[-_]vl[-:]|llava|pixtral|gemini|gemma-?3|claude|llama-4|grok-[4-9]|echo",
    re.I,
)
_THINKING = re.compile(
    r"\bo[134](-|$)|gpt-(5|6)|gpt-oss|deepseek-(r1|reasoner|v4)|\br1\b|qwq|qwen3|magistral|reason|think|grok-(3-mini|4)|glm-[45]|kimi-k2"
    r"|claude-3[-.]7|claude-(opus|sonnet|haiku|fable|mythos)-[4-9]|gemini-(2\.5|[3-9])",
    re.I,
)
_NOT_THINKING = re.compile(r"gpt-5-chat|non-reasoning|instruct|gemini-2\.5-flash-image", re.I)
_NO_TEXT = re.compile(
    r"whisper|transcribe|\btts\b|dall-e|gpt-image|chatgpt-image|moderation|\bsora\b|realtime|rerank", re.I
)
# Families trained to fill in the middle of a text.
_INSERT = re.compile(
    r"codestral|deepseek-(chat|coder|v4)|code-?(llama|gemma|qwen)|qwen-?[\d.]*-?coder|star-?coder|granite-?[\d.]*-?code"
    r"|stable-?code|\bfim\b",
    re.I,
)


@lru_cache(maxsize=1024)
def guess_capabilities(model: str) -> frozenset[str]:
    """Capability words from a model's name alone (providers.md 5.1: the weakest source); none for a model that draws,
    listens or judges instead of answering. `insert` only means that the model could: whether its provider has a way to
    ask for it is known elsewhere."""
    base = model.rpartition("/")[2]
    if _NO_TEXT.search(base):
        return frozenset()
    if _EMBEDDING.search(base):
        return frozenset({"embedding"})
    words = {"completion", "tools"}
    if _VISION.search(base):
        words.add("vision")
    if _THINKING.search(base) and not _NOT_THINKING.search(base):
        words.add("thinking")
    if _INSERT.search(base):
        words.add("insert")
    return frozenset(words)
