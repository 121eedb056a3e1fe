"""What is known of each service before anyone configures it: one row each, and nothing but rows.

Knows: addresses, key variables and the wire quirks that hold for a whole service (providers.md 2.6, 4 and 8). Must not
know: models (policy/families refines a profile by model name), the environment (config reads it), sockets.

A row's profile is a starting point: a refusal that names a parameter corrects it for that model (policy/repair).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..dialects.base import Profile


@dataclass(frozen=True, slots=True)
class Preset:
    """`keys`: variables that may hold the key, the one to name in messages first. `needs_key`: without one the service
    is off. `by_name`: it is there only when the file or a target names it. `base_url` "" has to be given. `local`:
    requests do not leave our machines, as long as the address is a private one. `label` and `note` are for people."""

    name: str
    kind: str
    base_url: str
    keys: tuple[str, ...] = ()
    needs_key: bool = True
    by_name: bool = False
    local: bool = False
    profile: Profile = field(default_factory=Profile)
    label: str = ""
    note: str = ""


# Sampling that llama.cpp's server takes beyond OpenAI's, in Ollama's own spelling.
_LLAMA = frozenset(
    {"top_k", "min_p", "repeat_penalty", "repeat_last_n", "typical_p", "mirostat", "mirostat_tau", "mirostat_eta"}
)
# What services of open models take; they spell the repeat penalty "repetition_penalty".
_HOSTED = frozenset({"top_k", "min_p", "repeat_penalty", "repetition_penalty"})
_PENALTIES = frozenset({"presence_penalty", "frequency_penalty"})

# Thoughts of its models come by the Responses API alone; the models that need it otherwise are in policy/families.
_OPENAI = Profile(max_tokens_field="max_completion_tokens", responses=frozenset({"think"}))
_OLLAMA = Profile(
    accepts=_LLAMA | {"num_ctx"}, max_stops=1024, image_urls=False, efforts=("low", "medium", "high", "max")
)

HUGGING_FACE_ROUTER = "router.huggingface.co"
HUGGING_FACE_HUB = "https://huggingface.co"

_ROWS = (
    Preset(
        "openai", "openai", "https://api.openai.com/v1", ("OPENAI_API_KEY",),
        label="OpenAI", profile=_OPENAI,
    ),
    Preset(
        "azure", "openai", "", ("AZURE_OPENAI_API_KEY",),
        label="Azure OpenAI",
        note="base_url: https://RESOURCE.openai.azure.com/openai/v1; models are deployments. For the API before that "
        "one, base_url without its path, and an api_version",
        profile=_OPENAI,
    ),
    Preset(
        "anthropic", "anthropic", "https://api.anthropic.com", ("ANTHROPIC_API_KEY",),
        label="Anthropic", note="no embeddings",
        # Sampling is refused by the API version of 2026-10-21; a header `anthropic-version` with an older one lifts it.
        profile=Profile(
            rejects=_PENALTIES | {"temperature", "top_p", "top_k", "seed", "logprobs"}, accepts=frozenset({"top_k"}),
            max_stops=1024, reasoning="adaptive", keeps=True, cache_from=16_384,
        ),
    ),
    Preset(
        "google", "google", "https://generativelanguage.googleapis.com/v1beta", ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        label="Google Gemini", note="an address may end with another version of the API",
        profile=Profile(
            accepts=frozenset({"top_k"}), rejects=frozenset({"parallel_tool_calls"}), max_stops=5, image_urls=False,
            reasoning="thinking_level", keeps=True, max_inputs=100,
        ),
    ),
    Preset(
        "groq", "openai", "https://api.groq.com/openai/v1", ("GROQ_API_KEY",),
        label="Groq", note="no embeddings",
        # Some families write their thoughts as tags unless a reasoning_format is asked for, which others refuse.
        profile=Profile(
            max_tokens_field="max_completion_tokens", rejects=frozenset({"logprobs"}), think_tags=True
        ),
    ),
    Preset(
        "openrouter", "openai", "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",),
        label="OpenRouter",
        profile=Profile(accepts=_HOSTED, reasoning="openrouter", thinking_in_history="reasoning"),
    ),
    Preset(
        "deepseek", "openai", "https://api.deepseek.com", ("DEEPSEEK_API_KEY",),
        label="DeepSeek", note="no embeddings",
        # Turns with tool calls must bring their thoughts back; a schema is refused on this API.
        profile=Profile(
            reasoning="deepseek", efforts=("low", "high", "max"), reasons_by_default=True,
            drop_while_reasoning=_PENALTIES | {"temperature", "top_p", "tool_choice"},
            keeps=True, thinking_in_history="reasoning_content", formats=frozenset({"json"}),
            fills_by="fim", fills_at="/beta/completions",
        ),
    ),
    Preset(
        "mistral", "openai", "https://api.mistral.ai/v1", ("MISTRAL_API_KEY",),
        label="Mistral",
        # Unknown keys are a 422; usage comes unasked.
        profile=Profile(
            rejects=frozenset({"logprobs"}), seed_field="random_seed", tool_ids="nine", stream_usage=False,
            fills_by="fim", fills_at="/v1/fim/completions",
        ),
    ),
    Preset(
        "xai", "openai", "https://api.x.ai/v1", ("XAI_API_KEY",),
        label="xAI",
        profile=Profile(max_tokens_field="max_completion_tokens", drop_while_reasoning=_PENALTIES | {"stop"}),
    ),
    Preset(
        "together", "openai", "https://api.together.xyz/v1", ("TOGETHER_API_KEY",),
        label="Together AI", profile=Profile(accepts=_HOSTED, think_tags=True),
    ),
    Preset(
        "fireworks", "openai", "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",),
        label="Fireworks AI", note="models are named accounts/fireworks/models/…",
        profile=Profile(
            accepts=frozenset({"top_k", "min_p"}), efforts=("low", "medium", "high"), think_tags=True
        ),
    ),
    Preset(
        "cerebras", "openai", "https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",),
        label="Cerebras", profile=Profile(max_tokens_field="max_completion_tokens"),
    ),
    Preset(
        "perplexity", "openai", "https://api.perplexity.ai", ("PERPLEXITY_API_KEY",),
        label="Perplexity", note="no tools, no embeddings",
        profile=Profile(
            rejects=frozenset({"stop", "seed", "tool_choice", "parallel_tool_calls"}), reasoning="none", think_tags=True
        ),
    ),
    Preset(
        "sambanova", "openai", "https://api.sambanova.ai/v1", ("SAMBANOVA_API_KEY",),
        label="SambaNova",
        # sambanova-python, types/chat/completion_create_params.py: the four refused are "not yet supported by our
        # models", pictures come as data alone, and the assistant's `reasoning` is taken back.
        profile=Profile(
            accepts=frozenset({"top_k"}), rejects=frozenset({"logprobs", "logit_bias", "n", "seed"}),
            efforts=("low", "medium", "high"), thinking_in_history="reasoning", think_tags=True, image_urls=False
        ),
    ),
    Preset(
        "huggingface", "huggingface", f"https://{HUGGING_FACE_ROUTER}/v1", ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        label="Hugging Face",
        note="models are named org/model, org/model:provider or org/model:fastest; a dedicated endpoint has its "
        "base_url; headers: {X-HF-Bill-To: organization}",
        # What a request may say depends on whom the router asks; the pipelines have the embeddings.
        profile=Profile(think_tags=True, embeds_by="feature-extraction"),
    ),
    Preset(
        "vllm", "openai", "http://localhost:8000/v1", ("VLLM_API_KEY",), needs_key=False, local=True,
        label="vLLM", note="its default port is this gateway's too: move one of them",
        profile=Profile(
            accepts=_HOSTED, reasoning="template", thinking_in_history="reasoning", image_urls=False
        ),
    ),
    Preset(
        "llamacpp", "openai", "http://localhost:8080/v1", ("LLAMA_API_KEY",), needs_key=False, local=True,
        label="llama.cpp server",
        profile=Profile(
            accepts=_LLAMA, reasoning="template", image_urls=False, fills_by="infill", fills_at="/infill"
        ),
    ),
    Preset(
        "lmstudio", "openai", "http://localhost:1234/v1", ("LM_API_TOKEN",), needs_key=False, local=True,
        label="LM Studio", note="loads a model on its first call: the first answer takes long",
        profile=Profile(accepts=frozenset({"top_k", "repeat_penalty"}), image_urls=False),
    ),
    Preset(
        "ollama", "ollama", "http://localhost:11434", ("OLLAMA_API_KEY",), needs_key=False, local=True,
        label="Ollama", note="OLLAMA_BASE_URL names another host", profile=_OLLAMA,
    ),
    Preset(
        "ollama-cloud", "ollama", "https://ollama.com", ("OLLAMA_API_KEY",), by_name=True,
        label="Ollama's cloud", note="the key may be meant for a guarded host, so it is used here only when named",
        profile=_OLLAMA,
    ),
    Preset(
        "ollamafreeapi", "ollamafree", "", needs_key=False, by_name=True,
        label="OllamaFreeAPI", note="strangers' servers from a public list: they read what they are asked",
        profile=_OLLAMA,
    ),
    Preset(
        "echo", "echo", "", needs_key=False, local=True,
        label="Echo", note="built in: gives back what it is told, without a network",
        profile=Profile(accepts=_LLAMA, max_stops=1024, image_urls=False),
    ),
)  # fmt: skip

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ROWS}
