"""Names that the Gemini wire and a Profile have for the same thing.

Knows: both spellings. Must not know: requests, what a profile says of which model.
"""

from __future__ import annotations

# Words of Profile.reasoning that this wire has a spelling for.
LEVEL = "thinking_level"
BUDGET = "thinking_budget"

# Words of Profile.rejects beside names of parameters.
UNSIGNED_CALLS = "unsigned_calls"  # a call of an earlier turn without its signature
FORMAT_WITH_TOOLS = "format_with_tools"  # a form for the answer beside tools
THINK_OFF = "think_off"  # thinking can be turned down, not off

# Sampling of a request -> fields of generationConfig, sent as they are.
SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}

# Fields of generationConfig -> words of Profile.rejects.
WORDS = {
    **{field: word for word, field in SAMPLING.items()},
    "seed": "seed",
    "maxOutputTokens": "max_tokens",
    "responseLogprobs": "logprobs",
    "logprobs": "logprobs",
    "thinkingConfig": "think",
    "thinkingLevel": "think",
    "thinkingBudget": "think",
    "includeThoughts": "think",
    "toolConfig": "tool_choice",
}
