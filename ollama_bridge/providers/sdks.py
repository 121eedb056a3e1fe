"""Which SDK each kind of provider needs, whether it is installed, and how much all of them may log.

Knows: names of packages and of their loggers. Must not know: what is in them: nothing is imported to find out.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import NamedTuple


class SDK(NamedTuple):
    """`module` is what is imported, `package` what is installed."""

    module: str
    package: str


# Without huggingface_hub the router's chats still work, so its provider says itself when it is needed.
SDKS = {
    "openai": SDK("openai", "openai"),
    "huggingface": SDK("openai", "openai"),
    "anthropic": SDK("anthropic", "anthropic"),
    "google": SDK("google.genai", "google-genai"),
}


def missing(kind: str) -> SDK | None:
    """What providers of this kind cannot work without, when it is not installed."""
    sdk = SDKS.get(kind)
    return None if sdk is None or _installed(sdk.module) else sdk


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is not there, or somebody keeps it out
        return False


_LOGGERS = ("openai", "anthropic", "google_genai", "huggingface_hub", "httpx", "httpx2", "httpcore2")


def hush() -> None:
    """No less than warnings from any SDK. Their debug logs quote prompts, and with the import a word in the environment
    (OPENAI_LOG, ANTHROPIC_LOG, HF_DEBUG) turns them on: to be called after it."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.WARNING:
            logger.setLevel(logging.WARNING)
