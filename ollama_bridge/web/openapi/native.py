"""Ollama's API, described.

Knows: what ollama-protocol.md 2 says of requests and answers, as types. Must not know: how a body is read or written.

Request members are as Ollama takes them: a member that is null counts as absent, others than these are not looked at.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Struct

from .describe import EMPTY, NDJSON, TEXT, Content, Maybe, Name, Operation, Reply, failures, said, whole

_UNITS = r"^[+-]?(0|([0-9]+(\.[0-9]*)?(ns|us|ms|s|m|h))+)$"
Duration = Annotated[
    Annotated[str, said("A Go duration.", pattern=_UNITS)] | float,
    said('"5m", or seconds; negative is for ever, 0 unloads.'),
]
Think = Annotated[bool | Literal["low", "medium", "high", "max"], said("Whether to think, or how hard.")]
Schema = Annotated[dict[str, Any], said("A JSON schema.")]
Format = Annotated[Literal["json", ""] | dict[str, Any], said('"json" for any JSON, or a JSON schema.')]
Image = Annotated[
    str, said("Base64 of a picture or a sound.", pattern="^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")
]
Nanoseconds = Annotated[int, said("Nanoseconds.", ge=0)]
Count = Annotated[int, said("Tokens.", ge=0)]
Time = Annotated[str, said("RFC 3339.")]


class OllamaError(Struct):
    error: Annotated[str, said("What is wrong, in words.", min_length=1)]


# -- requests ----------------------------------------------------------------------------------------------------------


class Options(Struct, kw_only=True):
    """Sampling and the like. Names beside these go to engines that know them; to others they are a loss."""

    temperature: Maybe[float] = UNSET
    top_p: Maybe[float] = UNSET
    top_k: Maybe[int] = UNSET
    min_p: Maybe[float] = UNSET
    seed: Maybe[int] = UNSET
    num_ctx: Maybe[int] = UNSET
    num_predict: Maybe[Annotated[int, said("The most tokens of an answer; negative: no limit.")]] = UNSET
    stop: Maybe[list[str]] = UNSET
    repeat_penalty: Maybe[float] = UNSET
    presence_penalty: Maybe[float] = UNSET
    frequency_penalty: Maybe[float] = UNSET


class Bridged(Struct, kw_only=True):
    """What this gateway adds to every request for a model."""

    privacy_mode: Maybe[
        Annotated[Literal["strict", "flexible"], said("strict: only what stays on our machines may answer.")]
    ] = UNSET
    task: Maybe[
        Annotated[
            Literal["chat", "vision", "ocr", "embedding"],
            said("What the request is about; without it a picture means vision."),
        ]
    ] = UNSET
    provider: Maybe[Annotated[str, said("The name of a configured provider: only its targets are asked.")]] = UNSET


class CalledFunction(Struct, kw_only=True):
    name: str
    arguments: Annotated[dict[str, Any], said("As the tool's schema has them.")]
    index: Maybe[Annotated[int, said("Which call of the answer this is, from 0.")]] = UNSET


class ToolCall(Struct, kw_only=True):
    id: Maybe[str] = UNSET
    function: CalledFunction


class ChatMessage(Struct, kw_only=True):
    role: Annotated[str, said("system, user, assistant or tool.")]
    content: Maybe[str] = UNSET
    thinking: Maybe[str] = UNSET
    images: Maybe[list[Image]] = UNSET
    tool_calls: Maybe[list[ToolCall]] = UNSET
    tool_name: Maybe[Annotated[str, said("Of role tool: whose result this is.")]] = UNSET
    tool_call_id: Maybe[Annotated[str, said("Of role tool: which call's result this is.")]] = UNSET


class ToolFunction(Struct, kw_only=True):
    name: str
    description: Maybe[str] = UNSET
    parameters: Maybe[Schema] = UNSET


class Tool(Struct, kw_only=True):
    type: Literal["function"]
    function: ToolFunction


class ChatRequest(Bridged, kw_only=True):
    """Without messages the model is loaded, or with `keep_alive` 0 unloaded."""

    model: str
    messages: Maybe[list[ChatMessage]] = UNSET
    tools: Maybe[list[Tool]] = UNSET
    stream: Maybe[Annotated[bool, said("A stream of lines; true when absent.")]] = UNSET
    format: Maybe[Format] = UNSET
    options: Maybe[Options] = UNSET
    think: Maybe[Think] = UNSET
    keep_alive: Maybe[Duration] = UNSET
    truncate: Maybe[Annotated[bool, said("The oldest turns may be dropped to fit; true when absent.")]] = UNSET
    logprobs: Maybe[bool] = UNSET
    top_logprobs: Maybe[Annotated[int, said("Alternatives to each token.", ge=0, le=20)]] = UNSET


class GenerateRequest(Bridged, kw_only=True):
    """Without a prompt the model is loaded, or with `keep_alive` 0 unloaded."""

    model: str
    prompt: Maybe[str] = UNSET
    suffix: Maybe[Annotated[str, said("What follows the gap that is to be filled.")]] = UNSET
    system: Maybe[str] = UNSET
    template: Maybe[str] = UNSET
    context: Maybe[Annotated[list[int], said("Of an earlier answer: the conversation goes on.")]] = UNSET
    images: Maybe[list[Image]] = UNSET
    raw: Maybe[bool] = UNSET
    stream: Maybe[Annotated[bool, said("A stream of lines; true when absent.")]] = UNSET
    format: Maybe[Format] = UNSET
    options: Maybe[Options] = UNSET
    think: Maybe[Think] = UNSET
    keep_alive: Maybe[Duration] = UNSET
    truncate: Maybe[bool] = UNSET
    logprobs: Maybe[bool] = UNSET
    top_logprobs: Maybe[Annotated[int, said("Alternatives to each token.", ge=0, le=20)]] = UNSET


class EmbedRequest(Bridged, kw_only=True):
    model: str
    input: Maybe[str | list[str]] = UNSET
    truncate: Maybe[Annotated[bool, said("Texts may be cut to fit; true when absent.")]] = UNSET
    dimensions: Maybe[int] = UNSET
    options: Maybe[Options] = UNSET
    keep_alive: Maybe[Duration] = UNSET


class EmbeddingsRequest(Bridged, kw_only=True):
    model: str
    prompt: Maybe[str] = UNSET
    options: Maybe[Options] = UNSET
    keep_alive: Maybe[Duration] = UNSET


class ShowRequest(Struct, kw_only=True):
    model: str
    system: Maybe[str] = UNSET
    options: Maybe[Options] = UNSET
    verbose: Maybe[bool] = UNSET


# -- answers -----------------------------------------------------------------------------------------------------------


class Alternative(Struct, kw_only=True):
    token: str
    logprob: float
    bytes: Maybe[Annotated[list[int], said("The token's UTF-8.")]] = UNSET


class Logprob(Alternative, kw_only=True):
    top_logprobs: Maybe[list[Alternative]] = UNSET


class Metrics(Struct, kw_only=True):
    """On the last line of a stream, and in a whole answer."""

    done: Annotated[bool, said("Whether this is the end of the answer.")]
    done_reason: Maybe[Annotated[str, said("stop, length, load or unload.")]] = UNSET
    total_duration: Maybe[Nanoseconds] = UNSET
    load_duration: Maybe[Nanoseconds] = UNSET
    prompt_eval_count: Maybe[Count] = UNSET
    prompt_eval_duration: Maybe[Nanoseconds] = UNSET
    eval_count: Maybe[Count] = UNSET
    eval_duration: Maybe[Nanoseconds] = UNSET
    logprobs: Maybe[list[Logprob]] = UNSET


class AnswerMessage(Struct, kw_only=True):
    role: str
    content: str
    thinking: Maybe[str] = UNSET
    tool_calls: Maybe[list[ToolCall]] = UNSET


class ChatAnswer(Metrics, kw_only=True):
    """A line of a stream, or a whole answer."""

    model: Annotated[str, said("As it was asked for.")]
    created_at: Time
    message: AnswerMessage


class GenerateAnswer(Metrics, kw_only=True):
    """A line of a stream, or a whole answer."""

    model: Annotated[str, said("As it was asked for.")]
    created_at: Time
    response: str
    thinking: Maybe[str] = UNSET
    context: Maybe[Annotated[list[int], said("To be sent with the next prompt.")]] = UNSET
    tool_calls: Maybe[list[ToolCall]] = UNSET


class EmbedAnswer(Struct, kw_only=True):
    model: str
    embeddings: Annotated[list[list[float]], said("A vector of length one for each text, in their order.")]
    total_duration: Maybe[Nanoseconds] = UNSET
    load_duration: Maybe[Nanoseconds] = UNSET
    prompt_eval_count: Maybe[Count] = UNSET


class EmbeddingsAnswer(Struct):
    embedding: list[float]


class Details(Struct, kw_only=True):
    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str
    context_length: Maybe[Count] = UNSET
    embedding_length: Maybe[int] = UNSET


class ListedModel(Struct, kw_only=True):
    name: str
    model: str
    modified_at: Time
    size: Annotated[int, said("Bytes; 0 where nothing is stored.")]
    digest: str
    details: Details
    capabilities: Maybe[list[str]] = UNSET
    remote_model: Maybe[str] = UNSET
    remote_host: Maybe[str] = UNSET


class ListedModels(Struct):
    models: list[ListedModel]


class LoadedModel(Struct, kw_only=True):
    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: Time
    size_vram: int
    context_length: Count


class LoadedModels(Struct):
    models: list[LoadedModel]


class Tensor(Struct):
    name: str
    type: str
    shape: list[int]


class ShownModel(Struct, kw_only=True):
    license: Maybe[str] = UNSET
    modelfile: Maybe[str] = UNSET
    parameters: Maybe[str] = UNSET
    template: Maybe[str] = UNSET
    system: Maybe[str] = UNSET
    details: Details
    messages: Maybe[list[ChatMessage]] = UNSET
    remote_model: Maybe[str] = UNSET
    remote_host: Maybe[str] = UNSET
    model_info: Annotated[
        dict[str, str | float | bool | list[str | float | bool] | None],
        said("What is known of it, `general.architecture` and `ARCHITECTURE.context_length` among it."),
    ]
    projector_info: Maybe[dict[str, str | float | bool | list[str | float | bool] | None]] = UNSET
    tensors: Maybe[list[Tensor]] = UNSET
    capabilities: Maybe[list[str]] = UNSET
    modified_at: Time


class Version(Struct):
    version: Annotated[str, said("The version of Ollama whose API is spoken.")]


# -- operations --------------------------------------------------------------------------------------------------------

_HELLO = [{"role": "user", "content": "Hello"}]
_ASKS = failures(OllamaError, body=True, model=True, asks=True)
_ALIVE = Reply("The gateway is there.", (Content(TEXT, (Literal["Ollama is running"],)),))


def _answers(one: Any) -> dict[int, Reply]:
    reply = Reply(
        "One object; or, as a stream, one a line, of which the last is `done` or tells of an error. With "
        "`task: embedding` what `/api/embed` answers.",
        (*whole(one, EmbedAnswer).contents, Content(NDJSON, (one, OllamaError))),
    )
    return {200: reply, **_ASKS}


OPERATIONS: dict[Name, Operation] = {
    ("HEAD", "/"): Operation("Is it there?", {200: EMPTY, **failures(OllamaError)}),
    ("GET", "/"): Operation("Is it there?", {200: _ALIVE, **failures(OllamaError)}),
    ("HEAD", "/api/version"): Operation("The version, headers alone", {200: EMPTY, **failures(OllamaError)}),
    ("GET", "/api/version"): Operation("The version", {200: whole(Version), **failures(OllamaError)}),
    ("HEAD", "/api/tags"): Operation("All listed models, headers alone", {200: EMPTY, **failures(OllamaError)}),
    ("GET", "/api/tags"): Operation("All listed models", {200: whole(ListedModels), **failures(OllamaError)}),
    ("GET", "/api/ps"): Operation(
        "Models in use",
        {200: whole(LoadedModels), **failures(OllamaError)},
        "What was used within its `keep_alive`, and what real Ollamas have loaded.",
    ),
    ("POST", "/api/show"): Operation(
        "What is known of a model",
        {200: whole(ShownModel), **failures(OllamaError, body=True, model=True, asks=True)},
        body=ShowRequest,
        example={"model": "echo"},
    ),
    ("POST", "/api/chat"): Operation(
        "A conversation",
        _answers(ChatAnswer),
        body=ChatRequest,
        example={"model": "echo", "messages": _HELLO, "stream": False},
        asks=True,
    ),
    ("POST", "/api/generate"): Operation(
        "One prompt",
        _answers(GenerateAnswer),
        body=GenerateRequest,
        example={"model": "echo", "prompt": "Hello", "stream": False},
        asks=True,
    ),
    ("POST", "/api/embed"): Operation(
        "Vectors for a text or a list",
        {200: whole(EmbedAnswer), **_ASKS},
        body=EmbedRequest,
        example={"model": "echo", "input": ["Hello", "World"]},
        asks=True,
    ),
    ("POST", "/api/embeddings"): Operation(
        "One vector, the old form",
        {200: whole(EmbeddingsAnswer), **_ASKS},
        body=EmbeddingsRequest,
        example={"model": "echo", "prompt": "Hello"},
        asks=True,
    ),
}
