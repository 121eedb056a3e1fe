"""The recorded traffic of real providers: other projects' data, read in place, never copied in.

Knows: where it lies, and what its fields say (the README beside it). Must not know: what an answer means
(recorded_meaning), the gateway.

RECORDED names another folder than `shared/recorded` beside the repository. Without it the tests that need it skip and
say so; with `--require-recordings` its absence is an error.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("RECORDED", Path(__file__).parents[2] / "shared" / "recorded"))

needs_recordings = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}")

LISTS = ("models", "tags", "tags-cloud", "ps", "show-local", "show-cloud")
EMBEDDINGS = ("/embeddings", "/embed", ":batchEmbedContents")


@dataclass
class Recording:
    """One recorded exchange. `name` is "vendor/file"."""

    name: str
    facts: dict[str, Any]

    @property
    def vendor(self) -> str:
        return self.name.partition("/")[0]

    @property
    def wire(self) -> str:
        """The wire it is spoken in: "anthropic", "gemini", "ollama", "openai" or "responses"."""
        if self.vendor in ("anthropic", "gemini", "ollama"):
            return self.vendor
        return "responses" if self.facts["endpoint"].endswith("/responses") else "openai"

    @property
    def body(self) -> bytes:
        return str(self.facts["response_text"]).encode()

    @property
    def status(self) -> int:
        return int(self.facts["status"])

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.facts["response_headers"])

    @property
    def asked_stream(self) -> bool:
        return bool(self.facts["stream"])

    @property
    def stream(self) -> bool:
        return self.asked_stream and self.status == 200

    @property
    def kind(self) -> str:
        """What sort of exchange it is: "chat", "generate", "embed" or "list"."""
        if self.name.partition("/")[2] in LISTS:
            return "list"
        endpoint = self.facts["endpoint"]
        if endpoint.endswith(EMBEDDINGS) or "/feature-extraction/" in endpoint:
            return "embed"
        return "generate" if endpoint.endswith("/generate") else "chat"


def load() -> dict[str, Recording]:
    """Every file of every folder, by name."""
    found = [
        Recording(f"{path.parent.name}/{path.stem}", json.loads(path.read_text("utf-8")))
        for path in sorted(FOLDER.glob("*/*.json"))
    ]
    return {recording.name: recording for recording in found}
