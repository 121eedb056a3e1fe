"""A fake Hugging Face: the router of Inference Providers, and the Hub's answer about a model.

Knows: the router's paths and catalogue, the pipeline's bodies, the Hub's mapping of names (providers.md 5.1, 9). Must
not know: the gateway.

    POST /v1/chat/completions                                          OpenAI's wire
    POST /hf-inference/models/ORG/NAME/pipeline/feature-extraction     {"inputs":[…]} -> [[…],…]
    POST /together/v1/embeddings                                       OpenAI's wire, under the provider's own name
    GET  /api/models/ORG/NAME?expand=inferenceProviderMapping          who has the model, and under which name
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from fakes.openai_wire import CREATED, KEY, FakeOpenAI
from fakes.script import Refusal, Script, dumps, vector


class FakeHuggingFace(FakeOpenAI):
    """`offers`: model -> {provider: its name of the model}, what the Hub tells. `windows`: of listed models, tokens for
    each provider behind the router. `token_level`: models whose pipeline gives one vector a token."""

    def __init__(self, models: tuple[str, ...] = ()) -> None:
        super().__init__(models)
        self.offers: dict[str, dict[str, str]] = {}
        self.windows: dict[str, dict[str, int]] = {}
        self.token_level: set[str] = set()

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/hf-inference/models/{model:.+}/pipeline/feature-extraction", self.pipeline)
        app.router.add_get("/api/models/{model:.+}", self.hub)
        app.router.add_get("/api/agent-harnesses", self.hub)
        super().routes(app)

    async def pipeline(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        if seen.headers.get("authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "Invalid username or password."}, status=401)
        model = request.match_info["model"]
        script = self.script_for(model)
        if script is None and model not in self.models:
            return web.json_response({"error": f"Model {model} does not exist"}, status=404)
        inputs = seen.json.get("inputs")
        if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
            return web.json_response({"error": "inputs must be a list of texts"}, status=422)
        found: list[Any] = [vector(text) for text in inputs]
        answer = [[each, each] for each in found] if model in self.token_level else found
        return await self.perform(request, seen, script or Script(), None, dumps(answer), "application/json")

    async def hub(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        model = request.match_info.get("model", "")
        if model not in self.offers:
            return web.json_response({"error": "Repository not found"}, status=404)
        mapping = {
            name: {"status": "live", "providerId": own, "task": "feature-extraction"}
            for name, own in self.offers[model].items()
        }
        return web.json_response({"id": model, "inferenceProviderMapping": mapping})

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        await self.note(request)
        return web.json_response(self.listing or {"object": "list", "data": [self.item(name) for name in self.models]})

    def item(self, name: str) -> dict[str, Any]:
        behind = self.windows.get(name, {"novita": 32768})
        return {
            "id": name,
            "object": "model",
            "created": CREATED,
            "owned_by": name.partition("/")[0],
            "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "providers": [
                {"provider": provider, "status": "live", "context_length": window, "supports_tools": True}
                for provider, window in behind.items()
            ],
        }

    def error_body(self, refusal: Refusal) -> Any:
        """The router's own errors are bare texts."""
        return {"error": refusal.message}
