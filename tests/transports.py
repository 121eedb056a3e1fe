"""Every way out of the gateway that ends at somebody else's server: its fake, and its entry in the configuration.

Knows: which fake speaks for which provider kind, and what the kind's address looks like. Must not know: what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fakes.anthropic_wire import FakeAnthropic
from fakes.gemini_wire import KEY as GEMINI_KEY
from fakes.gemini_wire import FakeGemini
from fakes.huggingface_wire import FakeHuggingFace
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI
from fakes.script import Upstream


@dataclass(frozen=True)
class Transport:
    """One provider kind. `path` is what its address ends with."""

    kind: str
    fake: Callable[[], Upstream]
    path: str = ""
    key: str | None = KEY

    def entry(self, url: str, **more: Any) -> dict[str, Any]:
        """The provider in the configuration, when its fake answers at `url`."""
        return {"kind": self.kind, "base_url": url + self.path, **({"api_key": self.key} if self.key else {}), **more}


TRANSPORTS: Mapping[str, Transport] = {
    transport.kind: transport
    for transport in (
        Transport("openai", FakeOpenAI, "/v1"),
        Transport("anthropic", FakeAnthropic),
        Transport("google", FakeGemini, "/v1beta", GEMINI_KEY),
        Transport("huggingface", FakeHuggingFace, "/v1"),
        Transport("ollama", FakeOllama, key=None),
    )
}
