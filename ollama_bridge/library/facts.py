"""How a model looks in tags, ps and show: Ollama's fields, filled with what is known of it (clients.md 4.2, 4.7).

Knows: Ollama's field names and order, the catalog's models. Must not know: HTTP, where facts came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..policy.catalog import Model

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CAPABILITY_ORDER = ("completion", "vision", "audio", "tools", "insert", "thinking", "embedding")
ECHO_NOTE = (
    "This is the echo model of the gateway: it gives back your last message and has no model behind it. "
    "It is here so that a client can be tried without a key."
)
UNKNOWN_CONTEXT = 8192  # tokens; what /api/ps shows when nobody told (providers.md 5.1)


def time_text(seconds: float) -> str:
    """RFC 3339 in UTC, as Go prints it. Times past year 9999 are held there."""
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        moment = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment.microsecond:06d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def upstream_name(model: Model) -> str:
    return model.targets[0].model


def family(model: Model) -> str:
    """One lower-case word: the vendor's line of models, e.g. gpt, claude, llama. Never a word that makes a client
    hide the model or switch images on (bert, clip, mllama: clients.md 4.7)."""
    base = upstream_name(model).rpartition("/")[2].casefold()
    found = re.match(r"[a-z]+", base)
    word = found[0] if found else "model"
    return "model" if word in ("bert", "clip", "mllama") else word


def parameter_size(model: Model) -> str:
    """ "70B" from a name that says so, else "" (always a string: Roo Code and Zed require one)."""
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", upstream_name(model), re.I)
    return f"{found[1]}{found[2].upper()}" if found else ""


def details(model: Model, lengths: bool) -> dict[str, Any]:
    """All six keys, always; `lengths` adds context_length and embedding_length where known (tags only)."""
    word = family(model)
    found: dict[str, Any] = {
        "parent_model": "",
        "format": "",
        "family": word,
        "families": [word],
        "parameter_size": parameter_size(model),
        "quantization_level": "",
    }
    if lengths:
        if model.context_length:
            found["context_length"] = model.context_length
        if model.embedding_length:
            found["embedding_length"] = model.embedding_length
    return found


def capabilities(model: Model) -> list[str]:
    known = [word for word in CAPABILITY_ORDER if word in model.capabilities]
    return known + sorted(model.capabilities.difference(CAPABILITY_ORDER))


def tags_entry(model: Model) -> dict[str, Any]:
    if model.origin == "ollama" and model.raw:
        return dict(model.raw)  # a real Ollama's own words
    entry: dict[str, Any] = {
        "name": model.shown,
        "model": model.shown,
        "modified_at": time_text(model.modified),
        "size": 0,
        "digest": model.digest,
        "details": details(model, lengths=True),
    }
    words = capabilities(model)
    if words:
        entry["capabilities"] = words
    return entry


def ps_entry(model: Model, expires: float, num_ctx: int | None) -> dict[str, Any]:
    return {
        "name": model.shown,
        "model": model.shown,
        "size": 0,
        "digest": model.digest,
        "details": details(model, lengths=False),
        "expires_at": time_text(expires),
        "size_vram": 0,
        "context_length": num_ctx or model.context_length or UNKNOWN_CONTEXT,
    }


def show_answer(
    model: Model, display: str | None, system: str | None, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """`system` and `options` are the request's: they go before the model's own in the texts (ollama-protocol.md
    2.11). `display`: the name to be shown for it (general.basename), None for the provider's own."""
    word = family(model)
    own = _own_parameters(model)
    said = system if system is not None else (model.defaults.system or "")
    template = _template(model)
    answer: dict[str, Any] = {}
    terms = _terms(model)
    if terms:
        answer["license"] = terms
    answer["modelfile"] = _modelfile(model, template, said, {**own, **(options or {})})
    if own:
        answer["parameters"] = "\n".join(_parameter_lines(own))
    answer["template"] = template
    if said:
        answer["system"] = said
    answer["details"] = details(model, lengths=False)
    answer["model_info"] = _model_info(model, word, display or upstream_name(model).rpartition("/")[2])
    answer["capabilities"] = capabilities(model)
    answer["modified_at"] = time_text(model.modified)
    return answer


def _own_parameters(model: Model) -> dict[str, Any]:
    own = dict(model.defaults.options)
    if model.defaults.temperature is not None:
        own.setdefault("temperature", model.defaults.temperature)
    if model.defaults.max_tokens is not None:
        own.setdefault("num_predict", model.defaults.max_tokens)
    return own


def _go(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    return str(value)


def _parameter_lines(parameters: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in parameters.items():
        for item in value if isinstance(value, list) else [value]:
            lines.append(f"{name:<30} {_go(item)}")
    return lines


def _template(model: Model) -> str:
    """Not applied to cloud models; clients read from it whether tools (.Tools) and insertion (.Suffix) work."""
    template = "{{ if .System }}{{ .System }}\n{{ end }}"
    if "tools" in model.capabilities:
        template += '{{ if .Tools }}{"tools": {{ .Tools }}}\n{{ end }}'
    template += "{{ .Prompt }}"
    if "insert" in model.capabilities:
        template += "{{ if .Suffix }}{{ .Suffix }}{{ end }}"
    return template


def _modelfile(model: Model, template: str, system: str, parameters: Mapping[str, Any]) -> str:
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {model.shown}",
        "",
        f"FROM {model.targets[0]}",
        f"TEMPLATE {_quoted(template)}",
    ]
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    for name, value in parameters.items():
        for item in value if isinstance(value, list) else [value]:
            lines.append(f"PARAMETER {name} {_quoted(str(_plain(item)))}")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else _go(value)


def _quoted(text: str) -> str:
    if '"' in text:
        return f'"""{text}"""'
    if "\n" in text or text != text.strip():
        return f'"{text}"'
    return text


def _model_info(model: Model, word: str, basename: str) -> dict[str, Any]:
    """Numbers only where they are known: several clients take the first `.context_length` for the truth."""
    found: dict[str, Any] = {}
    if model.context_length:
        found[f"{word}.context_length"] = model.context_length
    if model.embedding_length:
        found[f"{word}.embedding_length"] = model.embedding_length
    size = re.fullmatch(r"([\d.]+)([BM])", parameter_size(model))
    if size:
        found["general.parameter_count"] = int(float(size[1]) * (1e9 if size[2] == "B" else 1e6))
    found["general.architecture"] = word
    found["general.basename"] = basename
    found |= _further(model)
    return dict(sorted(found.items()))


def _further(model: Model) -> dict[str, Any]:
    """What Ollama has no name for: numbers and texts, under names none of which ends as those that clients look for."""
    found: dict[str, Any] = {}
    if model.max_output:
        found["bridge.max_output"] = model.max_output
    price = model.price
    if price is not None:
        amounts = {"input": price.input, "output": price.output, "cached": price.cached, "written": price.written}
        found |= {f"bridge.price.{name}": amount for name, amount in amounts.items() if amount is not None}
    if model.retires is not None:
        found["bridge.retires"] = model.retires.isoformat()
    if model.sources:
        found["bridge.sources"] = ", ".join(f"{name}: {source}" for name, source in sorted(model.sources.items()))
    return found


def _terms(model: Model) -> str:
    """When it ends and what it costs, for people: `ollama show` prints two lines of a licence."""
    lines = [ECHO_NOTE] if model.targets[0].provider == "echo" else []
    if model.retires is not None:
        lines.append(f"Retires on {model.retires.isoformat()}")
    price = model.price
    if price is not None:
        cached = "" if price.cached is None else f", {_dollars(price.cached)} cached"
        lines.append(f"{_dollars(price.input)} in, {_dollars(price.output)} out{cached} per million tokens")
    return "\n".join(lines)


def _dollars(amount: float) -> str:
    return "$" + f"{amount:.6f}".rstrip("0").rstrip(".")
