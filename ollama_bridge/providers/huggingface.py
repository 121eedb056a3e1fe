"""Hugging Face: its router of Inference Providers, and dedicated endpoints.

Knows: the router's paths and catalogue, and the huggingface_hub SDK (no other module imports it) for the one thing that
only it can say: what a provider behind the router calls a model (providers.md 9). Must not know: what a body says, but
for the name of the model in it.

Chats, completions and catalogues are OpenAI's wire and go through the openai SDK (providers.md 0.3): huggingface_hub
keeps a trace of every stream it has opened, and its first request asks the Hub something while all others wait.
Embeddings have no path of their own on the router; they are asked of its pipelines, which speak another dialect, or of
the provider that the name ends in:

    BAAI/bge-m3                 -> POST /hf-inference/models/BAAI/bge-m3/pipeline/feature-extraction
    BAAI/bge-m3:together        -> POST /together/v1/embeddings                   in OpenAI's wire
    (a dedicated endpoint)      -> POST /v1/embeddings                            in OpenAI's wire
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from ..dialects.base import EMBED, Profile
from ..errors import GatewayError, Scope, UpstreamRefused, unreachable
from ..framing import BadJSON, dumps, loads
from .base import Call, ListedModel, Timeouts
from .listings import price_of
from .openai import OpenAIProvider
from .sdks import hush
from .transport import AiohttpUpstream

PIPELINE = "feature-extraction"  # the dialect of the router's embeddings, and the Hub's word for the task
# Paths of the providers behind the router that have embeddings; hf-inference has the pipeline.
_EMBEDDINGS = {
    "together": "/together/v1/embeddings",
    "scaleway": "/scaleway/v1/embeddings",
    "deepinfra": "/deepinfra/v1/openai/embeddings",
}
_PIPELINES = "hf-inference"
_ANY = frozenset({"", _PIPELINES, "fastest", "cheapest", "preferred"})  # the router's words for "one that can"
LOOKUP_SECONDS = 10.0


class HuggingFaceProvider(OpenAIProvider):
    """One account. `base_url` is the router's or a dedicated endpoint's (both end in /v1). `hub`: where the router's
    names of models are looked up, None for a dedicated endpoint. A header `X-HF-Bill-To` among `headers` names the
    organization that pays."""

    kind = "huggingface"

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None,
        session: aiohttp.ClientSession,
        profile: Profile,
        local: bool,
        off: str | None,
        timeouts: Timeouts,
        headers: Mapping[str, str] | None = None,
        hub: str | None = None,
    ) -> None:
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self._hub = hub
        self._names: dict[tuple[str, str], str] = {}  # (model, provider behind the router) -> its name there
        self._looking = asyncio.Lock()
        super().__init__(
            name,
            base_url=base_url,
            api_key=api_key,
            session=session,
            profile=profile.with_(embeds_by="") if hub is None else profile,
            local=local,
            off=off,
            timeouts=timeouts,
            headers=headers,
        )

    async def open(self, call: Call) -> AiohttpUpstream:
        if call.kind != EMBED or self._hub is None:
            return await super().open(call)
        model, _, behind = call.model.partition(":")
        if behind in _EMBEDDINGS:
            path, body = _EMBEDDINGS[behind], await self._renamed(self._hub, call.body, model, behind)
        elif behind in _ANY:
            path = f"/{_PIPELINES}/models/{quote(model)}/pipeline/{PIPELINE}"
            body = call.body if isinstance(call.body, bytes) else dumps(call.body)
        else:
            raise _absent(f"model '{model}' not found at '{behind}', which has no embeddings")
        return await self._send(self._root + path, body, call.timeouts, call.stream)

    async def models(self) -> list[ListedModel]:
        """GET /models: of the router each model with what the providers behind it can do. Raises as `open` does."""
        return [_described(model) for model in await super().models()]

    # -- names of models at the providers behind the router ------------------------------------------------------------
    async def _renamed(self, hub: str, body: dict[str, Any] | bytes, model: str, behind: str) -> bytes:
        """The body with the name that `behind` has for the model."""
        value = body
        if isinstance(value, bytes):
            try:
                value = loads(value)
            except BadJSON:
                value = {}
        name = self._names.get((model, behind))
        if name is None:
            name = self._names[model, behind] = await self._look_up(hub, model, behind)
        return dumps({**value, "model": name})

    async def _look_up(self, hub: str, model: str, behind: str) -> str:
        """Raises UpstreamRefused in the Hub's words, or as 404 when that provider does not have the model, and
        GatewayError when the Hub cannot be asked."""
        if self.off is not None:
            raise GatewayError(self.off, status=500, scope=Scope.NO_KEY, provider=self.name)
        try:
            async with self._looking:
                names = await asyncio.to_thread(names_of, hub, model, self._api_key)
        except ImportError:
            raise GatewayError(
                f"provider '{self.name}' needs the huggingface_hub SDK: pip install huggingface-hub",
                status=500, scope=Scope.NO_KEY, provider=self.name,
            ) from None  # fmt: skip
        except HubUnreadable:
            raise unreachable(self.name, "the Hub does not say who has the model") from None
        if behind not in names:
            raise _absent(f"model '{model}' not found at '{behind}': the Hub lists no embeddings of it there")
        return names[behind]


def _absent(words: str) -> UpstreamRefused:
    """In the words of the wire, as the provider itself would have refused."""
    return UpstreamRefused(404, {}, dumps({"error": {"message": words, "code": "model_not_found"}}))


class HubUnreadable(Exception):
    """Nothing usable came back."""


def names_of(hub: str, model: str, key: str | None) -> dict[str, str]:
    """Provider -> its name of the model, for those that have its embeddings. Blocks: for a thread. Raises ImportError,
    UpstreamRefused and HubUnreadable."""
    import httpx2
    import huggingface_hub
    from huggingface_hub import constants, errors

    hush()
    # Read anew with each request. Unset, the SDK asks the Hub which program it runs in before the first one.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    huggingface_hub.set_client_factory(lambda: httpx2.Client(trust_env=False, follow_redirects=True))
    try:
        found = huggingface_hub.HfApi(endpoint=hub, token=key or False).model_info(
            model, expand=["inferenceProviderMapping"], timeout=LOOKUP_SECONDS
        )
    except errors.HfHubHTTPError as error:
        response = error.response
        raise UpstreamRefused(response.status_code, dict(response.headers.items()), response.content) from None
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise HubUnreadable(type(error).__name__) from None
    finally:
        huggingface_hub.close_session()  # questions are rare: no connection waits for the next
    offers = found.inference_provider_mapping or []
    return {offer.provider: offer.provider_id for offer in offers if offer.task == PIPELINE}


# -- the router's catalogue --------------------------------------------------------------------------------------------


def _described(model: ListedModel) -> ListedModel:
    """What the providers behind the router can do, together: it sends a request to one that can. The window is the
    smallest and the price the highest, since nobody knows which one is asked (providers.md 5.1)."""
    offers = model.raw.get("providers")
    offers = [offer for offer in offers if isinstance(offer, dict)] if isinstance(offers, list) else []
    live = [offer for offer in offers if offer.get("status") in (None, "live")]
    if not live:
        return model
    windows = [n for offer in live if isinstance(n := offer.get("context_length"), int) and n > 0]
    words = set(model.capabilities or ())
    if "embedding" not in words:
        words.add("completion")
    if any(offer.get("supports_tools") is True for offer in live):
        words.add("tools")
    model.context_length = model.context_length or min(windows, default=None)
    model.capabilities = frozenset(words)
    prices = [price for offer in live if (price := price_of(offer)) is not None]
    model.price = max(prices, key=lambda price: (price.output, price.input), default=None)
    return model
