"""A fake Gemini API: generateContent, streamGenerateContent, batchEmbedContents, models.

Knows: what the real service sends and what it refuses (providers.md 2.5, 10; the texts of its refusals are its own).
Must not know: the gateway. Any path prefix and API version will do. Models named gemini-1, gemini-2 or gemma are of
the time before signatures; every other one demands them.

    data: {"candidates": [{"content": {"parts": [{"text": "Hi"}],"role": "model"},"index": 0}],"usageMetadata": {…},…}
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from fakes.script import Frame, Refusal, Script, Seen, Upstream, vector

KEY = "AIza-fake-marker-key"  # tests look for it where it must not be

MOST_EMBEDDED = 100
PLACEHOLDER = base64.b64encode(b"skip_thought_signature_validator").decode()

BODY = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings"})
CONFIG = frozenset(
    {"temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "seed", "presencePenalty", "frequencyPenalty"}
    | {"responseMimeType", "responseJsonSchema", "responseSchema", "responseLogprobs", "logprobs", "thinkingConfig"}
    | {"candidateCount", "mediaResolution", "responseModalities"}
)
PART = frozenset({"text", "inlineData", "fileData", "functionCall", "functionResponse", "thought", "thoughtSignature"})
CONTENT = PART - {"thought", "thoughtSignature"}
LEVELS = ("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH")
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


class FakeGemini(Upstream):
    """`models`: what its list names, `page` of them at a time at most. A model without a script is answered 404.
    `signatures`: those it has handed out; any other is corrupt."""

    whole_error_status = 500

    def __init__(self, models: tuple[str, ...] = (), page: int = 1000) -> None:
        super().__init__()
        self.models = models
        self.page = page
        self.listing: Any = None  # a recorded answer to be given instead
        self.signatures = {PLACEHOLDER}

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/{prefix:.*}models/{model:.+}:generateContent", self.generate)
        app.router.add_post("/{prefix:.*}models/{model:.+}:streamGenerateContent", self.generate)
        app.router.add_post("/{prefix:.*}models/{model:.+}:batchEmbedContents", self.embed)
        app.router.add_get("/{prefix:.*}models", self.list_models)

    def about(self, model: str) -> list[Seen]:
        return [seen for seen in self.seen if f"/models/{model}:" in seen.path]

    def error_body(self, refusal: Refusal) -> Any:
        error: dict[str, Any] = {
            "code": refusal.status,
            "message": refusal.message,
            "status": STATUSES.get(refusal.status, "UNKNOWN"),
        }
        if refusal.code is not None:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": refusal.code}
            error["details"] = [{**info, "domain": "googleapis.com"}]
        return {"error": error}

    def error_frame(self, error: Any) -> bytes:
        error["error"] |= {"code": 500, "status": "INTERNAL"}
        return event(error)

    def malformed_frame(self) -> bytes:
        return b'data: {"candidates": [{"content": {"parts": [{"text": "ha\r\n\r\n'

    # -- handlers ----------------------------------------------------------------------------------------------------
    async def generate(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        model = request.match_info["model"]
        stream = request.path.endswith(":streamGenerateContent")
        try:
            body = judged(seen)
            if stream and request.query.get("alt") != "sse":
                raise Refusal("this fake streams server-sent events only")
            check_body(body, self.signatures if demands_signatures(model) else None)
            script = self._script(model, body)
        except Refusal as refusal:
            return self.refused(refusal)
        chunks = list(self.chunks(script, model, body))
        frames = [Frame(event(chunk), content) for chunk, content in chunks] if stream else None
        content_type = "text/event-stream" if stream else "application/json; charset=UTF-8"
        return await self.perform(request, seen, script, frames, dumps(joined([c for c, _ in chunks])), content_type)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        model = request.match_info["model"]
        try:
            requests = judged(seen).get("requests")
            if not isinstance(requests, list) or not requests:
                raise Refusal("* BatchEmbedContentsRequest.requests: requests is not specified")
            if len(requests) > MOST_EMBEDDED:
                raise Refusal(
                    f"* BatchEmbedContentsRequest.requests: at most {MOST_EMBEDDED} requests can be in one batch"
                )
            vectors = [self._embedded(each, model) for each in requests]
            script = self._script(model, {})
        except Refusal as refusal:
            return self.refused(refusal)
        answer = {"embeddings": [{"values": values} for values in vectors]}
        return await self.perform(request, seen, script, None, dumps(answer), "application/json; charset=UTF-8")

    def _embedded(self, request: dict[str, Any], model: str) -> list[float]:
        only_known(request, {"model", "content", "outputDimensionality", "taskType", "title"}, "requests[0]")
        if request.get("model") != f"models/{model}":
            raise Refusal("* BatchEmbedContentsRequest.requests[0].model: model must match the one in the path")
        text = "".join(part["text"] for part in request["content"]["parts"])
        if not text:
            raise Refusal("* EmbedContentRequest.content: content is empty")
        return vector(text, request.get("outputDimensionality") or 4)

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        try:
            judged_key(seen)
        except Refusal as refusal:
            return self.refused(refusal)
        if self.listing is not None:
            return web.json_response(self.listing)
        size = min(int(request.query.get("pageSize", "50")), self.page)
        begin = int(request.query.get("pageToken", "0"))
        page: dict[str, Any] = {"models": [model_item(name) for name in self.models[begin : begin + size]]}
        if begin + size < len(self.models):
            page["nextPageToken"] = str(begin + size)
        return web.json_response(page)

    def _script(self, model: str, body: dict[str, Any]) -> Script:
        script = self.script_for(model)
        if script is None:
            raise Refusal(
                f"models/{model} is not found for API version v1beta, or is not supported for generateContent. "
                "Call ListModels to see the list of available models and their supported methods.",
                status=404,
            )
        for name in sorted(script.rejects & {*body.get("generationConfig", {}), *body}):
            raise unknown_name(name, "generation_config")
        return script

    # -- what the real service sends ---------------------------------------------------------------------------------
    def chunks(self, script: Script, model: str, body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
        """-> (chunk, whether a client could show it)."""
        config = body.get("generationConfig", {})
        usage = usage_of(script)

        def chunk(parts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
            candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, **more, "index": 0}
            head = {"candidates": [candidate], **({} if usage is None else {"usageMetadata": usage})}
            return {**head, "modelVersion": model, "responseId": "resp-1"}

        if config.get("thinkingConfig", {}).get("includeThoughts"):
            for piece in script.thinking:
                yield chunk([{"text": piece, "thought": True}]), True
        for at, piece in enumerate(script.text):
            more = {}
            if script.logprobs and config.get("responseLogprobs"):
                more["logprobsResult"] = logprobs_result(script.logprobs[at])
            yield chunk([{"text": piece}], **more), True
        for at, call in enumerate(script.calls):
            part: dict[str, Any] = {"functionCall": {"name": call.name, "args": call.arguments}}
            if call.id is not None:
                part["functionCall"]["id"] = call.id
            if at == 0 and demands_signatures(model):
                part["thoughtSignature"] = self._signature()
            yield chunk([part]), True
        if script.refusal:
            message = "".join(script.refusal)
            yield chunk([], finishReason="SAFETY", finishMessage=message), False
        elif script.done:
            finish = REASONS.get(script.reason, script.reason)
            yield chunk([{"text": ""}], finishReason=finish), False

    def _signature(self) -> str:
        signature = base64.b64encode(f"signature {len(self.signatures)}".encode()).decode()
        self.signatures.add(signature)
        return signature


def demands_signatures(model: str) -> bool:
    return re.match(r"gemini-[12]|gemma", model) is None


def dumps(value: Any) -> bytes:
    """JSON as the service writes it: raw non-ASCII, a blank after colons."""
    return json.dumps(value, separators=(",", ": "), ensure_ascii=False).encode()


def event(value: Any) -> bytes:
    return b"data: " + dumps(value) + b"\r\n\r\n"


def joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream's chunks as the one answer of :generateContent."""
    candidate: dict[str, Any] = {"content": {"parts": [], "role": "model"}}
    parts = candidate["content"]["parts"]
    for chunk in chunks:
        (piece,) = chunk["candidates"]
        for part in piece["content"]["parts"]:
            last = parts[-1] if parts else {}
            if "text" in part and "text" in last and part.get("thought") == last.get("thought"):
                last["text"] += part["text"]
            elif part != {"text": ""}:
                parts.append(dict(part))
        if "logprobsResult" in piece:
            result = candidate.setdefault("logprobsResult", {"chosenCandidates": [], "topCandidates": []})
            for name, items in piece["logprobsResult"].items():
                result[name] += items
        candidate |= {name: piece[name] for name in ("finishReason", "finishMessage") if name in piece}
    return {**(chunks[-1] if chunks else {}), "candidates": [{**candidate, "index": 0}]}


def usage_of(script: Script) -> dict[str, Any] | None:
    """Counts of 0 are left out; thoughts are counted apart."""
    tokens = script.usage
    if tokens is None:
        return None
    counts = {
        "promptTokenCount": tokens.prompt,
        "candidatesTokenCount": tokens.completion - (tokens.reasoning or 0),
        "totalTokenCount": tokens.prompt + tokens.completion,
        "cachedContentTokenCount": tokens.cached,
        "thoughtsTokenCount": tokens.reasoning,
    }
    return {name: count for name, count in counts.items() if count}


def logprobs_result(item: dict[str, Any]) -> dict[str, Any]:
    def candidate(token: dict[str, Any]) -> dict[str, Any]:
        return {"token": token["token"], "tokenId": 7, "logProbability": token["logprob"]}

    tops = [candidate(token) for token in item.get("top_logprobs", [])]
    return {"chosenCandidates": [candidate(item)], "topCandidates": [{"candidates": tops}]}


def model_item(name: str) -> dict[str, Any]:
    actions = ["embedContent", "batchEmbedContents"] if "embedding" in name else ["generateContent", "countTokens"]
    return {
        "name": f"models/{name}",
        "version": "1",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": actions,
        "thinking": "embedding" not in name,
    }


# -- what the real service refuses -----------------------------------------------------------------------------------
def unknown_name(name: str, where: str) -> Refusal:
    return Refusal(f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field.")


def only_known(value: dict[str, Any], names: frozenset[str] | set[str], where: str) -> None:
    for name in value:
        if name not in names:
            raise unknown_name(name, where)


def judged_key(seen: Seen) -> None:
    if seen.headers.get("x-goog-api-key") != KEY:
        raise Refusal("API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")


def judged(seen: Seen) -> dict[str, Any]:
    judged_key(seen)
    try:
        body = seen.json
    except ValueError:
        raise Refusal("Invalid JSON payload received. Unexpected token.") from None
    if not isinstance(body, dict):
        raise Refusal("Invalid JSON payload received. Root element must be a message.")
    return body


def check_body(body: dict[str, Any], signatures: set[str] | None) -> None:
    """Raises Refusal as generateContent would. `signatures` None: the model knows none."""
    only_known(body, BODY, "")
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise Refusal("* GenerateContentRequest.contents: contents is not specified")
    for content in contents:
        check_content(content)
    if "systemInstruction" in body:
        for part in body["systemInstruction"]["parts"]:
            check_part(part)
    check_turns(contents)
    if signatures is not None:
        check_signatures(contents, signatures)
    check_tools(body)
    check_config(body.get("generationConfig", {}))


def check_content(content: dict[str, Any]) -> None:
    only_known(content, {"role", "parts"}, "contents[0]")
    if content.get("role") not in ("user", "model"):
        raise Refusal("Please use a valid role: user, model.")
    if not content.get("parts"):
        raise Refusal("* GenerateContentRequest.contents.parts: contents.parts must not be empty.")
    for part in content["parts"]:
        check_part(part)


def check_part(part: dict[str, Any]) -> None:
    only_known(part, PART, "contents[0].parts[0]")
    held = CONTENT & part.keys()
    if len(held) != 1:
        raise Refusal("* GenerateContentRequest.contents.parts.data: required oneof field 'data' must have one field")
    (kind,) = held
    value = part[kind]
    if kind == "inlineData":
        only_known(value, {"mimeType", "data"}, "contents[0].parts[0].inline_data")
        try:
            base64.b64decode(value["data"], validate=True)
        except (binascii.Error, KeyError):
            raise Refusal("Invalid value at 'contents[0].parts[0].inline_data.data': Base64 decoding failed") from None
        if not re.fullmatch(r"(image|audio|video|application|text)/[\w.+-]+", value.get("mimeType", "")):
            raise Refusal("Unable to submit request because it has a mimeType parameter with an unsupported value")
    elif kind == "functionCall":
        only_known(value, {"name", "args", "id"}, "contents[0].parts[0].function_call")
        if not value.get("name") or not isinstance(value.get("args"), dict):
            raise Refusal("* GenerateContentRequest.contents.parts.function_call.name: Name cannot be empty.")
    elif kind == "functionResponse":
        only_known(value, {"name", "response", "id"}, "contents[0].parts[0].function_response")
        if not value.get("name") or not isinstance(value.get("response"), dict):
            raise Refusal("* GenerateContentRequest.contents.parts.function_response.name: Name cannot be empty.")


def parts_of(content: dict[str, Any], kind: str) -> list[Any]:
    return [part[kind] for part in content["parts"] if kind in part]


def check_turns(contents: list[dict[str, Any]]) -> None:
    """Roles take turns, and each call is answered, by its name, in the turn after it."""
    before: dict[str, Any] | None = None
    for content in contents:
        if before is not None and before["role"] == content["role"]:
            raise Refusal("Please ensure that multiturn requests alternate between user and model.")
        calls = parts_of(before, "functionCall") if before is not None else []
        responses = parts_of(content, "functionResponse")
        if len(calls) != len(responses):
            raise Refusal(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        for call in calls:
            fits = [each for each in responses if each["name"] == call["name"] and each.get("id") == call.get("id")]
            if not fits:
                raise Refusal("Please ensure that function response turn comes immediately after a function call turn.")
        before = content
    if before is not None and parts_of(before, "functionCall"):
        raise Refusal("Please ensure that function call turn is followed by a function response turn.")


def check_signatures(contents: list[dict[str, Any]], signatures: set[str]) -> None:
    """In the current turn, which began with the user's last words, the first call of each step bears one."""
    begun = max((at for at, c in enumerate(contents) if c["role"] == "user" and parts_of(c, "text")), default=0)
    for at, content in enumerate(contents):
        for part in content["parts"]:
            if "thoughtSignature" in part and part["thoughtSignature"] not in signatures:
                raise Refusal("Corrupted thought signature.")
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if at > begun and first is not None and "thoughtSignature" not in first:
            raise Refusal(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{first['functionCall']['name']}`, position {at + 1}."
            )


def check_tools(body: dict[str, Any]) -> None:
    names = set()
    for tool in body.get("tools", []):
        only_known(tool, {"functionDeclarations"}, "tools[0]")
        for declaration in tool["functionDeclarations"]:
            known = {"name", "description", "parameters", "parametersJsonSchema"}
            only_known(declaration, known, "tools[0].function_declarations[0]")
            if not re.fullmatch(r"[a-zA-Z_][\w.:-]{0,127}", declaration.get("name") or ""):
                raise Refusal("* GenerateContentRequest.tools[0].function_declarations[0].name: Invalid function name.")
            if not isinstance(declaration.get("parametersJsonSchema", {}), dict):
                raise Refusal("* GenerateContentRequest.tools[0].function_declarations[0].parameters: not an object")
            names.add(declaration["name"])
    choice = body.get("toolConfig", {}).get("functionCallingConfig", {})
    if choice.get("mode", "AUTO") not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        raise Refusal("Invalid value at 'tool_config.function_calling_config.mode'")
    if not set(choice.get("allowedFunctionNames", [])) <= names:
        raise Refusal("* GenerateContentRequest.tool_config.function_calling_config.allowed_function_names: not found")


def check_config(config: dict[str, Any]) -> None:
    only_known(config, CONFIG, "generation_config")
    for name, low, high in (
        ("temperature", 0, 2),
        ("topP", 0, 1),
        ("maxOutputTokens", 1, None),
        ("presencePenalty", -2, 2),
        ("frequencyPenalty", -2, 2),
        ("logprobs", 0, 20),
    ):
        value = config.get(name)
        if value is not None and (value < low or (high is not None and value > high)):
            raise Refusal(f"* GenerateContentRequest.generation_config.{name}: {name} is out of range.")
    if len(config.get("stopSequences", [])) > 5:
        raise Refusal("* GenerateContentRequest.generation_config.stop_sequences: at most 5")
    if "logprobs" in config and not config.get("responseLogprobs"):
        raise Refusal("* GenerateContentRequest.generation_config.logprobs: needs response_logprobs")
    if "responseJsonSchema" in config and config.get("responseMimeType") != "application/json":
        raise Refusal("* GenerateContentRequest.generation_config.response_json_schema: needs a mime type of JSON")
    thinking = config.get("thinkingConfig", {})
    only_known(thinking, {"includeThoughts", "thinkingLevel", "thinkingBudget"}, "generation_config.thinking_config")
    if {"thinkingLevel", "thinkingBudget"} <= thinking.keys():
        raise Refusal("You can only set one of thinking budget and thinking level.")
    if thinking.get("thinkingLevel", "LOW") not in LEVELS:
        raise Refusal("Invalid value at 'generation_config.thinking_config.thinking_level'")
