"""Raw calls through an SDK client: bytes out and bytes back, by the SDK's own head and its own error classes.

Knows: what the clients of one generator have in common (`get` and `post` with `cast_to=httpx2.Response`, three error
classes; providers.md 7.1). Must not know: any SDK (its module is handed in), keys, what a body says.

An SDK builds no pydantic object in either direction when it is given bytes and asked for a raw stream (performance.md
9.4). Even so it costs more than all the rest of a request: the head that it wrote for the first call of a kind goes out
again with the next ones, and only answers that are none are handed to it, for its error classes (performance.md 9.9).
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp

from ..errors import GatewayError, Scope, UpstreamRefused, timed_out, unreachable
from .base import Timeouts
from .heads import Heads
from .loading import load
from .transport import AiohttpUpstream, answered_with, longest_silence, no_connection, redirected, send

if TYPE_CHECKING:
    import httpx2

# Asked for raw, an SDK hands over the response unread. Streams are asked for unpacked, so that no proxy on the way
# gathers tokens into blocks worth packing.
_WHOLE = {"X-Stainless-Raw-Response": "stream"}
_STREAM = {**_WHOLE, "Accept-Encoding": "identity"}


class SDKCalls:
    """The calls of one client. `sdk` is the SDK's module, `client` its asynchronous client over `session`. `provider`
    is the configured name, for the words of failures. `clock` in seconds."""

    def __init__(
        self,
        provider: str,
        sdk: Any,
        client: Any,
        session: aiohttp.ClientSession,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._sdk = sdk
        self._client = client
        self._session = session
        self._heads = Heads(clock)

    async def send(self, path: str, body: bytes | None, timeouts: Timeouts, stream: bool) -> AiohttpUpstream:
        """POSTs `body`, or GETs when there is none. Raises as `providers.base.Provider.open`."""
        silence = longest_silence(timeouts, stream)
        # Beside what the client was built from, a head depends on these: the SDK names its read time-out in it.
        kind = (path, stream, silence)
        head = self._heads.get(kind)
        if head is None:
            response = await self._ask(path, body, timeouts, stream, silence)
            self._heads.keep(kind, response.extensions["head"])
            return AiohttpUpstream(response.extensions["raw"], self._provider, silence)
        upstream = await send(
            self._session, self._provider, head.method, head.url,
            headers=head.for_body(body), body=body, timeouts=timeouts, stream=stream,
        )  # fmt: skip
        if upstream.status >= 300:
            try:
                with answered_with(upstream):
                    await self._ask(path, body, timeouts, stream, silence)
            except BaseException:
                upstream.close()
                raise
        return upstream

    async def close(self) -> None:
        self._heads.forget()
        await self._client.close()

    async def _ask(
        self, path: str, body: bytes | None, timeouts: Timeouts, stream: bool, silence: float | None
    ) -> httpx2.Response:
        """Through the SDK. Raises for a redirect too."""
        import httpx2

        options: Mapping[str, Any] = {
            "headers": _STREAM if stream else _WHOLE,
            "timeout": httpx2.Timeout(silence, connect=timeouts.connect or None),
        }
        response: httpx2.Response
        try:
            if body is None:
                response = await self._client.get(path, cast_to=httpx2.Response, options=options)
            else:
                response = await self._client.post(path, cast_to=httpx2.Response, content=body, options=options)
        except self._sdk.APIStatusError as error:
            if error.status_code < 400:
                raise redirected(self._provider, error.status_code) from None
            if error.status_code in (401, 403):
                self._heads.forget()  # should the SDK know of another credential, it shall get to send it
            headers = dict(error.response.headers.items())
            raise UpstreamRefused(error.status_code, headers, error.response.content) from None
        except self._sdk.APITimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise no_connection(self._provider, timeouts) from None
            raise timed_out(self._provider, "answer", silence or 0) from None
        except self._sdk.APIConnectionError as error:
            raise unreachable(self._provider, str(error.__cause__)) from None
        return response


class SDKAccount(ABC):
    """What providers behind such an SDK share: it is imported and its client built with the first call, once, in a
    thread, for importing takes half a second and more, which other streams shall not feel. `sdk`: the name under which
    it is imported and installed."""

    sdk: str
    name: str
    off: str | None

    def __init__(self) -> None:
        self._calls: SDKCalls | None = None
        self._building = asyncio.Lock()

    @abstractmethod
    def _new_calls(self) -> SDKCalls:
        """Imports the SDK and builds its client. Raises ImportError."""

    async def ready(self) -> None:
        if self.off is None and self._calls is None:
            await self._build()

    async def close(self) -> None:
        calls, self._calls = self._calls, None
        if calls is not None:
            await calls.close()

    async def _send(self, path: str, body: bytes | None, timeouts: Timeouts, stream: bool) -> AiohttpUpstream:
        """POSTs `body`, or GETs when there is none."""
        if self.off is not None:
            raise GatewayError(self.off, status=500, scope=Scope.NO_KEY, provider=self.name)
        calls = self._calls or await self._build()
        return await calls.send(path, body, timeouts, stream)

    async def _build(self) -> SDKCalls:
        async with self._building:
            if self._calls is None:
                try:
                    self._calls = await load(self._new_calls)
                except ImportError:
                    raise GatewayError(
                        f"provider '{self.name}' needs the {self.sdk} SDK: pip install {self.sdk}",
                        status=500, scope=Scope.NO_KEY, provider=self.name,
                    ) from None  # fmt: skip
            return self._calls
