"""The plan of a request that nobody has sent: what `ollama-bridge explain` shows.

Knows: how an engine is made without doors, and asked for a plan. Must not know: how a plan comes about, how it is laid
out on a terminal.

Real Ollamas are asked for their lists, for these decide what is local. Nobody else is asked.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from ..config import Config
from ..dialects.base import CHAT
from ..dialects.openai import OpenAIDialect
from ..engine import Engine, Lasting
from ..logs import logger, set_up
from ..policy.plans import Plan
from ..policy.ports import Exchange
from ..values import Block, ChatRequest, Media, Message, Text, Tool


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request would be. `model` "" leaves the choice to the table."""

    model: str = ""
    privacy: str | None = None
    task: str | None = None
    provider: str | None = None
    tools: bool = False
    images: bool = False
    thinking: bool = False

    def request(self) -> ChatRequest:
        blocks: list[Block] = [Text("?")]
        if self.images:
            blocks.append(Media(mime="image/png", data=""))
        return ChatRequest(
            model=self.model,
            messages=[Message("user", blocks)],
            tools=[Tool("tool")] if self.tools else [],
            think=True if self.thinking else None,
            privacy=self.privacy,
            task=self.task,
            provider=self.provider,
        )


@dataclass(frozen=True, slots=True)
class Explained:
    """`privacy_by`: whose word on it holds. `model`: the name that the choice of targets began with."""

    privacy: str
    privacy_by: str
    task: str
    model: str
    plan: Plan


async def explain(config: Config, asked: Asked) -> Explained:
    """Raises GatewayError as the request itself would."""
    set_up("error")
    request = asked.request()
    exchange = Exchange(OpenAIDialect(), CHAT, "", b"", {}, "explain", time.perf_counter_ns())
    async with contextlib.AsyncExitStack() as exit_stack:
        engine = Engine(config, await Lasting.open(logger("ollama_bridge"), exit_stack))
        exit_stack.push_async_callback(engine.close)
        await engine.discovery.refresh()
        selected = await engine.selection.select(exchange, request)
        plan = engine.planner.plan(exchange, selected)
    return Explained(
        selected.facts.privacy or "", selected.privacy_by, selected.facts.task or "", selected.model.name, plan
    )
