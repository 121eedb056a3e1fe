"""Fake services for a long run, in a process of their own: `python -m soak.upstreams KIND…` prints their addresses as
one line of JSON, and serves until its standard input ends.

Knows: what each model's name makes a fake do. Must not know: who asks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack

from fakes.script import Call, Script, Trouble, Upstream
from transports import TRANSPORTS

WORDS = tuple(f"word {number} " for number in range(60))

GOOD = {
    "short": Script(text=WORDS[:8]),
    "long": Script(text=WORDS),
    "tool": Script(text=WORDS[:2], calls=(Call("look", ('{"where"', ': "here"}')),)),
}
ENDLESS = {  # for clients that leave
    "mute": Script(text=WORDS, trouble=Trouble.STALL, after=0),
    "stalls": Script(text=WORDS, trouble=Trouble.STALL, after=30),
}
BAD = {
    "refused": Script(status=400, error="this fake does not like it"),
    "busy": Script(status=429, error="too many requests", headers={"retry-after": "1"}),
    "broken": Script(status=500, error="this fake is broken"),
    "malformed": Script(text=WORDS, trouble=Trouble.MALFORMED, after=4),
    "cut": Script(text=WORDS, trouble=Trouble.CUT, after=4),
    "unfinished": Script(text=WORDS, trouble=Trouble.END, after=4),
    "error within": Script(text=WORDS, trouble=Trouble.ERROR, error="overloaded", after=4),
}


async def serve(kinds: list[str]) -> None:
    async with AsyncExitStack() as stack:
        upstreams: dict[str, Upstream] = {}
        for kind in kinds:
            upstreams[kind] = await stack.enter_async_context(TRANSPORTS[kind].fake())
            for model, script in {**GOOD, **ENDLESS, **BAD}.items():
                upstreams[kind].play(model.replace(" ", "-"), script)
        print(json.dumps({kind: upstream.url for kind, upstream in upstreams.items()}), flush=True)
        over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        while not over.done():
            await asyncio.wait([over], timeout=0.5)
            for upstream in upstreams.values():
                upstream.seen.clear()


if __name__ == "__main__":
    logging.getLogger("fakes").disabled = True  # it has nothing to tell but that somebody left, which is the idea
    asyncio.run(serve(sys.argv[1:]))
