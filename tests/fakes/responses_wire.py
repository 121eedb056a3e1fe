"""A fake service that speaks OpenAI's Responses API beside its older wire: POST /responses.

Knows: what the real service sends and what it refuses (providers.md 2.1, 2.3, 10; the texts of its refusals are its
own). Must not know: the gateway.

    event: response.output_text.delta
    data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,…,"delta":"Hi"}

    event: response.completed
    data: {"type":"response.completed","sequence_number":9,"response":{"id":"resp_1","status":"completed",…}}
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from fakes.openai_wire import CREATED, FakeOpenAI, check_numbers
from fakes.script import Frame, Refusal, Script, dumps

# Every name the Responses API knows (providers.md 2.3); another one is refused.
PARAMETERS = frozenset(
    {"model", "input", "instructions", "stream", "store", "tools", "tool_choice", "parallel_tool_calls", "text"}
    | {"reasoning", "include", "max_output_tokens", "temperature", "top_p", "top_logprobs", "truncation", "user"}
    | {"metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "background"}
    | {"previous_response_id", "conversation", "max_tool_calls", "prompt", "stream_options"}
)
EFFORTS = (None, "none", "minimal", "low", "medium", "high", "xhigh", "max")
INCLUDES = ("reasoning.encrypted_content", "message.output_text.logprobs")


class FakeResponses(FakeOpenAI):
    """`only_here`: models that the older wire refuses, sending their caller here. `demanding`: models that take
    no call but those they made, with the reasoning before it, as it was. `absent`: there is no such API, as with most
    compatible services."""

    def __init__(self, models: tuple[str, ...] = ()) -> None:
        super().__init__(models)
        self.only_here: set[str] = set()
        self.demanding: set[str] = set()
        self.absent = False
        self._reasoned: dict[str, dict[str, Any]] = {}  # call_id -> the reasoning item before it
        self._count = 0

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/{prefix:.*}responses", self.responses)
        super().routes(app)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("model") in self.only_here:
            await self.note(request)
            words = "This model is only supported in v1/responses and not in v1/chat/completions."
            return self.refused(Refusal(words, status=404, param="model"))
        return await super().chat(request)

    async def responses(self, request: web.Request) -> web.StreamResponse:
        seen = await self.note(request)
        if self.absent:
            return web.json_response({"detail": "Not Found"}, status=404)
        try:
            body = self._judged(seen)
            script = self._script(body)
            check_responses(body)
            if body["model"] in self.demanding:
                self._check_reasoning(body)
        except Refusal as refusal:
            return self.refused(refusal)
        response = self.response(script, body)
        frames = event_frames(script, body, response) if body.get("stream") else None
        kind = "text/event-stream; charset=utf-8" if body.get("stream") else "application/json"
        return await self.perform(request, seen, script, frames, dumps(response), kind)

    def error_frame(self, error: Any) -> bytes:
        inner = error["error"]
        if "message" in inner and "type" in inner:
            told = {"type": "error", "sequence_number": 3, **{k: inner.get(k) for k in ("code", "message", "param")}}
            return frame(told) if self._streams_here else super().error_frame(error)
        return super().error_frame(error)

    def malformed_frame(self) -> bytes:
        if not self._streams_here:
            return super().malformed_frame()
        return b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"ha\n\n'

    @property
    def _streams_here(self) -> bool:
        return self.seen[-1].path.endswith("/responses")

    # -- answers -----------------------------------------------------------------------------------------------------
    def response(self, script: Script, body: dict[str, Any]) -> dict[str, Any]:
        """The finished response object."""
        self._count += 1
        output: list[dict[str, Any]] = []
        reasoning = reasoning_item(script, body, self._count)
        if reasoning is not None:
            output.append(reasoning)
        if script.text or script.refusal:
            output.append(message_item(script, body))
        for index, call in enumerate(script.calls):
            call_id = call.id or f"call_{self._count}_{index}"
            item = {"type": "function_call", "id": f"fc_{self._count}_{index}", "status": "completed"}
            output.append({**item, "call_id": call_id, "name": call.name, "arguments": "".join(call.pieces)})
            if reasoning is not None:
                self._reasoned[call_id] = reasoning
        cut = script.reason in ("length", "content_filter")
        why = "max_output_tokens" if script.reason == "length" else "content_filter"
        answer: dict[str, Any] = {
            "id": f"resp_{self._count}",
            "object": "response",
            "created_at": CREATED,
            "model": body["model"],
            "status": "incomplete" if cut else "completed",
            "error": None,
            "incomplete_details": {"reason": why} if cut else None,
            "output": output,
            "usage": None,
        }
        if script.usage is not None:
            answer["usage"] = {
                "input_tokens": script.usage.prompt,
                "input_tokens_details": {"cached_tokens": script.usage.cached or 0, "cache_write_tokens": 0},
                "output_tokens": script.usage.completion,
                "output_tokens_details": {"reasoning_tokens": script.usage.reasoning or 0},
                "total_tokens": script.usage.prompt + script.usage.completion,
            }
        return answer

    def _check_reasoning(self, body: dict[str, Any]) -> None:
        before: dict[str, Any] | None = None
        for item in body["input"]:
            kind = item.get("type")
            if kind == "reasoning":
                before = item
            elif kind == "function_call":
                own = self._reasoned.get(item["call_id"])
                if own is None or before is None or before.get("encrypted_content") != own["encrypted_content"]:
                    wanted = "" if own is None else f": '{own['id']}'"
                    raise Refusal(
                        f"Item '{item['call_id']}' of type 'function_call' was provided without its required "
                        f"'reasoning' item{wanted}.",
                        param="input",
                    )
            elif kind in (None, "message", "function_call_output"):
                before = None


def reasoning_item(script: Script, body: dict[str, Any], number: int) -> dict[str, Any] | None:
    """Reasons whenever it has thoughts; tells a summary only if one was asked for, the encrypted form likewise."""
    if not script.thinking:
        return None
    wanted = (body.get("reasoning") or {}).get("summary")
    item: dict[str, Any] = {"type": "reasoning", "id": f"rs_{number}", "summary": []}
    if wanted:
        item["summary"] = [{"type": "summary_text", "text": "".join(script.thinking)}]
    if "reasoning.encrypted_content" in (body.get("include") or []):
        item["encrypted_content"] = f"sealed-{body['model']}-{number}"
    return item


def message_item(script: Script, body: dict[str, Any]) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if script.text:
        told = "message.output_text.logprobs" in (body.get("include") or [])
        logprobs = list(script.logprobs) if told else []
        text = "".join(script.text)
        content.append({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
    if script.refusal:
        content.append({"type": "refusal", "refusal": "".join(script.refusal)})
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


def frame(event: dict[str, Any]) -> bytes:
    return b"event: " + event["type"].encode() + b"\ndata: " + dumps(event) + b"\n\n"


def event_frames(script: Script, body: dict[str, Any], response: dict[str, Any]) -> list[Frame]:
    """All events of the stream in the service's order."""
    frames: list[Frame] = []
    number = 0

    def tell(kind: str, content: bool = False, **fields: Any) -> None:
        nonlocal number
        event = {"type": kind, "sequence_number": number, **fields}
        frames.append(Frame(frame(event), content))
        number += 1

    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    tell("response.created", response=begun)
    tell("response.in_progress", response=begun)
    calls = iter(script.calls)
    for place, item in enumerate(response["output"]):
        at = {"item_id": item["id"], "output_index": place}
        if item["type"] == "reasoning":
            tell("response.output_item.added", output_index=place, item={**item, "summary": []})
            if item["summary"]:
                part = {**at, "summary_index": 0}
                tell("response.reasoning_summary_part.added", **part, part={"type": "summary_text", "text": ""})
                for piece in script.thinking:
                    tell("response.reasoning_summary_text.delta", True, **part, delta=piece)
                tell("response.reasoning_summary_text.done", **part, text="".join(script.thinking))
                tell("response.reasoning_summary_part.done", **part, part=item["summary"][0])
        elif item["type"] == "message":
            tell("response.output_item.added", output_index=place, item={**item, "content": []})
            for index, part in enumerate(item["content"]):
                here = {**at, "content_index": index}
                tell("response.content_part.added", **here, part={**part, part["type"].removeprefix("output_"): ""})
                if part["type"] == "refusal":
                    for piece in script.refusal:
                        tell("response.refusal.delta", True, **here, delta=piece)
                else:
                    for spot, piece in enumerate(script.text):
                        logprobs = [bare(part["logprobs"][spot])] if part["logprobs"] else []
                        tell("response.output_text.delta", True, **here, delta=piece, logprobs=logprobs)
                tell("response.content_part.done", **here, part=part)
        else:
            tell("response.output_item.added", output_index=place, item={**item, "arguments": ""})
            for piece in next(calls).pieces:
                tell("response.function_call_arguments.delta", True, **at, delta=piece)
            tell("response.function_call_arguments.done", **at, arguments=item["arguments"])
        tell("response.output_item.done", output_index=place, item=item)
    if script.done:
        tell(f"response.{response['status']}", response=response)
    return frames


def bare(logprob: dict[str, Any]) -> dict[str, Any]:
    """As deltas have it: without bytes."""
    found = {name: value for name, value in logprob.items() if name != "bytes"}
    if "top_logprobs" in found:
        found["top_logprobs"] = [bare(each) for each in found["top_logprobs"]]
    return found


# -- what the real service refuses -----------------------------------------------------------------------------------
def check_responses(body: dict[str, Any]) -> None:
    """Raises Refusal as the Responses API would."""
    for name in body:
        if name not in PARAMETERS:
            raise Refusal(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    check_numbers(body)
    limit = body.get("max_output_tokens")
    if limit is not None and limit < 16:
        raise Refusal(
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {limit} "
            "instead.",
            code="integer_below_min_value",
            param="max_output_tokens",
        )
    if body.get("store") is not False:
        raise Refusal("This test keeps nothing: send store: false.", param="store")
    effort = (body.get("reasoning") or {}).get("effort")
    if effort not in EFFORTS:
        raise Refusal(f"Invalid value: '{effort}'.", code="invalid_value", param="reasoning.effort")
    for what in body.get("include") or []:
        if what not in INCLUDES:
            raise Refusal(f"Invalid value: '{what}'.", code="invalid_value", param="include")
    check_flat_tools(body)
    items = body.get("input")
    if not isinstance(items, list) or not items:
        raise Refusal("Missing required parameter: 'input'.", param="input")
    check_items(items)
    check_text_format(body)


def check_flat_tools(body: dict[str, Any]) -> None:
    for at, tool in enumerate(body.get("tools") or []):
        if tool.get("type") != "function" or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.get("name") or ""):
            raise Refusal(f"Missing required parameter: 'tools[{at}].name'.", param=f"tools[{at}].name")
        if not isinstance(tool.get("strict"), bool) or not isinstance(tool.get("parameters"), dict):
            raise Refusal(f"Missing required parameter: 'tools[{at}].strict'.", param=f"tools[{at}].strict")


def check_items(items: list[dict[str, Any]]) -> None:
    """Roles, contents, and that calls and results belong together."""
    calls: set[str] = set()
    answered: set[str] = set()
    for at, item in enumerate(items):
        kind = item.get("type", "message")
        where = f"input[{at}]"
        if kind == "message":
            if item.get("role") not in ("user", "assistant", "system", "developer"):
                raise Refusal(f"Invalid value: '{item.get('role')}'.", code="invalid_value", param=f"{where}.role")
            check_input_content(item, where)
        elif kind == "function_call":
            if not all(isinstance(item.get(name), str) and item[name] for name in ("call_id", "name", "arguments")):
                raise Refusal(f"Missing required parameter: '{where}.call_id'.", param=where)
            calls.add(item["call_id"])
        elif kind == "function_call_output":
            if item.get("call_id") not in calls:
                words = f"No tool call found for function call output with call_id {item.get('call_id')}."
                raise Refusal(words, param="input")
            answered.add(item["call_id"])
        elif kind == "reasoning":
            after = items[at + 1] if at + 1 < len(items) else {}
            if after.get("type") not in ("function_call", "reasoning") and after.get("role") != "assistant":
                words = f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
                raise Refusal(words, param="input")
            if not isinstance(item.get("summary"), list):
                raise Refusal(f"Missing required parameter: '{where}.summary'.", param=f"{where}.summary")
            if "encrypted_content" not in item:
                words = f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false."
                raise Refusal(words, status=404, param="input")
        else:
            raise Refusal(f"Invalid value: '{kind}'.", code="invalid_value", param=f"{where}.type")
    for call_id in sorted(calls - answered):
        raise Refusal(f"No tool output found for function call {call_id}.", param="input")


def check_input_content(item: dict[str, Any], where: str) -> None:
    content = item.get("content")
    if isinstance(content, str):
        return
    allowed = ("output_text", "refusal") if item["role"] == "assistant" else ("input_text", "input_image")
    for part in content if isinstance(content, list) else [{}]:
        if part.get("type") not in allowed:
            raise Refusal(
                f"Invalid value: '{part.get('type')}'. Supported values are: {', '.join(map(repr, allowed))}.",
                code="invalid_value",
                param=f"{where}.content",
            )
        if part["type"] == "input_image" and not re.match(r"https?://|data:image/[a-z]+;base64,", part["image_url"]):
            raise Refusal("Invalid 'image_url'.", param=f"{where}.content")


def check_text_format(body: dict[str, Any]) -> None:
    wanted = (body.get("text") or {}).get("format")
    if wanted is None:
        return
    kind = wanted.get("type")
    if kind == "json_schema":
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", wanted.get("name") or "") or not isinstance(
            wanted.get("schema"), dict
        ):
            raise Refusal("Missing required parameter: 'text.format.name'.", param="text.format.name")
    elif kind == "json_object":
        if "json" not in dumps(body["input"]).decode().lower():
            raise Refusal(
                "Response input messages must contain the word 'json' in some form to use 'text.format' of type "
                "'json_object'.",
                param="input",
            )
    elif kind != "text":
        raise Refusal(f"Invalid value: '{kind}'.", param="text.format.type")
