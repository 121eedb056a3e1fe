"""OpenAI's API, described.

Knows: the bodies that dialects/openai reads and the answers of both settings of `server.openai_compat`, as types. Must
not know: how a body is read or written, what a provider adds to an answer of its own.

Request members that are null count as absent. What OpenAI has beside these goes to a provider that speaks its API.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Struct

from .describe import JSON, SSE, Content, Event, Maybe, Name, Operation, Reply, failures, said, whole
from .native import Bridged, Count, OllamaError, Schema

Unix = Annotated[int, said("Unix seconds.")]


class OpenAIFailure(Struct):
    message: Annotated[str, said("What is wrong, in words.", min_length=1)]
    type: str
    param: Annotated[str | None, said("The member of the request that it is about.")]
    code: str | None


class OpenAIError(Struct):
    error: OpenAIFailure


# -- requests ----------------------------------------------------------------------------------------------------------


class TextPart(Struct, tag_field="type", tag="text", kw_only=True):
    text: str


class ImageAddress(Struct, kw_only=True):
    url: Annotated[
        str,
        said(
            "`http(s)://…`, or `data:image/png;base64,…`.", pattern="^(https?://.+|data:[^,]*;base64,[A-Za-z0-9+/]*=*)$"
        ),
    ]
    detail: Maybe[str] = UNSET


class ImagePart(Struct, tag_field="type", tag="image_url", kw_only=True):
    image_url: ImageAddress


class AudioData(Struct, kw_only=True):
    data: Annotated[str, said("Base64.")]
    format: Maybe[Annotated[str, said("wav when absent.")]] = UNSET


class AudioPart(Struct, tag_field="type", tag="input_audio", kw_only=True):
    input_audio: AudioData


class OpenAICalledFunction(Struct, kw_only=True):
    name: Annotated[str, said("As the tool has it.", min_length=1)]
    arguments: Annotated[str, said("JSON text of an object.")]


class OpenAIToolCall(Struct, kw_only=True):
    id: str
    type: Literal["function"]
    function: OpenAICalledFunction


class OpenAIMessage(Struct, kw_only=True):
    role: Annotated[str, said("system, developer, user, assistant or tool.", min_length=1)]
    content: Maybe[str | list[TextPart | ImagePart | AudioPart] | None] = UNSET
    name: Maybe[str] = UNSET
    reasoning: Maybe[Annotated[str, said("What an assistant thought.")]] = UNSET
    tool_calls: Maybe[list[OpenAIToolCall]] = UNSET
    tool_call_id: Maybe[Annotated[str, said("Of role tool: which call's result this is.")]] = UNSET


class OpenAIFunction(Struct, kw_only=True):
    name: Annotated[str, said("What the model calls it by.", min_length=1)]
    description: Maybe[str] = UNSET
    parameters: Maybe[Schema] = UNSET
    strict: Maybe[bool] = UNSET


class OpenAITool(Struct, kw_only=True):
    type: Literal["function"]
    function: OpenAIFunction


class NamedFunction(Struct):
    name: Annotated[str, said("Of one of the tools.", min_length=1)]


class ToolChoice(Struct, kw_only=True):
    type: Literal["function"]
    function: NamedFunction


class PlainText(Struct, tag_field="type", tag="text"):
    pass


class AnyJSON(Struct, tag_field="type", tag="json_object"):
    pass


class NamedSchema(Struct, kw_only=True):
    schema: Schema
    name: Maybe[str] = UNSET
    strict: Maybe[bool] = UNSET


class SchemaJSON(Struct, tag_field="type", tag="json_schema"):
    json_schema: NamedSchema


class StreamOptions(Struct):
    include_usage: Maybe[Annotated[bool, said("A last frame with the tokens.")]] = UNSET


class Sampled(Bridged, kw_only=True):
    """What chats and completions share."""

    stream: Maybe[bool] = UNSET
    stream_options: Maybe[StreamOptions] = UNSET
    temperature: Maybe[float] = UNSET
    top_p: Maybe[float] = UNSET
    n: Maybe[Annotated[int, said("Answers side by side.", ge=1)]] = UNSET
    max_tokens: Maybe[int] = UNSET
    stop: Maybe[str | list[str]] = UNSET
    seed: Maybe[int] = UNSET
    presence_penalty: Maybe[float] = UNSET
    frequency_penalty: Maybe[float] = UNSET


class ChatCompletionRequest(Sampled, kw_only=True):
    model: Maybe[Annotated[str, said("Without it `privacy_mode` and `task` choose one, where `routing` says so.")]] = (
        UNSET
    )
    messages: Annotated[list[OpenAIMessage], said("The conversation so far.", min_length=1)]
    max_completion_tokens: Maybe[int] = UNSET
    tools: Maybe[list[OpenAITool]] = UNSET
    tool_choice: Maybe[Literal["none", "auto", "required"] | ToolChoice] = UNSET
    parallel_tool_calls: Maybe[bool] = UNSET
    response_format: Maybe[PlainText | AnyJSON | SchemaJSON] = UNSET
    reasoning_effort: Maybe[Annotated[str, said("none, minimal, low, medium, high, xhigh or max.")]] = UNSET
    logprobs: Maybe[bool] = UNSET
    top_logprobs: Maybe[Annotated[int, said("Alternatives to each token.", ge=0, le=20)]] = UNSET


class CompletionRequest(Sampled, kw_only=True):
    model: str
    prompt: str | Annotated[list[str], said("One text.", min_length=1, max_length=1)]
    suffix: Maybe[str] = UNSET
    logprobs: Maybe[Annotated[int, said("Alternatives to each token.", ge=0, le=20)]] = UNSET


class EmbeddingRequest(Bridged, kw_only=True):
    model: str
    input: str | Annotated[list[str], said("Several texts.", min_length=1)]
    dimensions: Maybe[int] = UNSET
    encoding_format: Maybe[Annotated[Literal["float", "base64"], said("base64: of little-endian float32.")]] = UNSET


# -- answers -----------------------------------------------------------------------------------------------------------


class CachedTokens(Struct, kw_only=True):
    cached_tokens: Maybe[Count | None] = UNSET


class ReasoningTokens(Struct, kw_only=True):
    reasoning_tokens: Maybe[Count | None] = UNSET


class OpenAIUsage(Struct, kw_only=True):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: Maybe[CachedTokens | None] = UNSET
    completion_tokens_details: Maybe[ReasoningTokens | None] = UNSET


class OpenAIAlternative(Struct, kw_only=True):
    token: str
    logprob: float
    bytes: Maybe[list[int] | None] = UNSET


class OpenAILogprob(OpenAIAlternative, kw_only=True):
    top_logprobs: Maybe[list[OpenAIAlternative]] = UNSET


class OpenAILogprobs(Struct, kw_only=True):
    content: Maybe[list[OpenAILogprob] | None] = UNSET


class OpenAIAnswerMessage(Struct, kw_only=True):
    role: Literal["assistant"]
    content: str | None
    reasoning: Maybe[str] = UNSET
    refusal: Maybe[str | None] = UNSET
    tool_calls: Maybe[list[OpenAIToolCall]] = UNSET


class ChatChoice(Struct, kw_only=True):
    index: int
    message: OpenAIAnswerMessage
    logprobs: Maybe[OpenAILogprobs | None] = UNSET
    finish_reason: Annotated[str | None, said("stop, length, tool_calls or content_filter.")]


class ChatCompletion(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion"]
    created: Unix
    model: str
    choices: list[ChatChoice]
    usage: Maybe[OpenAIUsage | None] = UNSET


class CallPieceFunction(Struct, kw_only=True):
    name: Maybe[str] = UNSET
    arguments: Maybe[str] = UNSET


class CallPiece(Struct, kw_only=True):
    index: int
    id: Maybe[str] = UNSET
    type: Maybe[Literal["function"]] = UNSET
    function: CallPieceFunction


class ChatDelta(Struct, kw_only=True):
    role: Maybe[str] = UNSET
    content: Maybe[str | None] = UNSET
    reasoning: Maybe[str] = UNSET
    refusal: Maybe[str | None] = UNSET
    tool_calls: Maybe[list[CallPiece]] = UNSET


class ChunkChoice(Struct, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: Maybe[OpenAILogprobs | None] = UNSET
    finish_reason: str | None


class ChatCompletionChunk(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"]
    created: Unix
    model: str
    choices: Annotated[list[ChunkChoice], said("Empty in the frame that tells the usage.")]
    usage: Maybe[OpenAIUsage | None] = UNSET


class TextChoice(Struct, kw_only=True):
    index: int
    text: str
    logprobs: Maybe[OpenAILogprobs | None] = UNSET
    finish_reason: str | None


class Completion(Struct, kw_only=True):
    """A whole answer, or a frame of a stream."""

    id: str
    object: Literal["text_completion"]
    created: Unix
    model: str
    choices: list[TextChoice]
    usage: Maybe[OpenAIUsage | None] = UNSET


class Embedding(Struct, kw_only=True):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Struct, kw_only=True):
    prompt_tokens: Count
    total_tokens: Count


class Embeddings(Struct, kw_only=True):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class OpenAIModel(Struct, kw_only=True):
    id: str
    object: Literal["model"]
    created: Unix
    owned_by: str


class OpenAIModels(Struct, kw_only=True):
    object: Literal["list"]
    data: Annotated[list[OpenAIModel] | None, said("null when there are none, as Ollama has it.")]


# -- operations --------------------------------------------------------------------------------------------------------

_ASKS = {
    **failures(OpenAIError, body=True, model=True, asks=True),
    # A body that cannot be unpacked is refused in Ollama's shape, as a real Ollama does it.
    400: whole(OpenAIError, OllamaError, description="The request cannot be served; a zstd body cannot be unpacked."),
}
_MESSAGES = [{"role": "user", "content": "Hello"}]


_WORDS = (
    "One object; or a stream of frames that ends with `[DONE]`, or with an error. With `task: embedding` what "
    "`/v1/embeddings` answers."
)


def _answers(frame: Any, *ones: Any) -> dict[int, Reply]:
    events = (Event(frame), Event(OpenAIError), Event(str, only="[DONE]"))
    contents = (Content(JSON, ones), Content(SSE, events))
    return {
        200: Reply(_WORDS, contents),
        **_ASKS,
    }


OPERATIONS: dict[Name, Operation] = {
    ("POST", "/v1/chat/completions"): Operation(
        "A conversation",
        _answers(ChatCompletionChunk, ChatCompletion, Embeddings),
        body=ChatCompletionRequest,
        example={"model": "echo", "messages": _MESSAGES},
        asks=True,
    ),
    ("POST", "/v1/completions"): Operation(
        "One prompt",
        _answers(Completion, Completion, Embeddings),
        body=CompletionRequest,
        example={"model": "echo", "prompt": "Hello"},
        asks=True,
    ),
    ("POST", "/v1/embeddings"): Operation(
        "Vectors for a text or a list",
        {200: whole(Embeddings), **_ASKS},
        body=EmbeddingRequest,
        example={"model": "echo", "input": ["Hello", "World"]},
        asks=True,
    ),
    ("GET", "/v1/models"): Operation("All listed models", {200: whole(OpenAIModels), **failures(OpenAIError)}),
    ("GET", "/v1/models/{id...}"): Operation(
        "One model",
        {
            200: whole(OpenAIModel),
            400: whole(OpenAIError, description="No name of a model."),
            **failures(OpenAIError, model=True),
        },
        path={"id": ("The model's name. It may hold slashes, as they are.", ())},
    ),
}
