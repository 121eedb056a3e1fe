"""The model map: public name -> targets, with what is known of each model and where it was learnt.

Knows: aliases of the config, what providers list, how names are looked up. Must not know: how a list is fetched, any
wire, any SDK.

A name is looked up whole first (alias, a real Ollama's model, a provider's catalogue), and only then split at a known
provider's prefix (`provider/model`, `provider:model`), so `ollama:qwen2.5:7b` works although Ollama's own grammar would
cut it elsewhere.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ..dialects.base import ModelView
from ..errors import INVALID_MODEL_NAME, GatewayError, Scope, model_not_found
from ..framing import dumps
from ..names import BothSources, parse_name, split_source
from ..providers.base import ListedModel, Provider, Timeouts

LISTED_AT_MOST = 60  # a provider with more models lists only those its `list:` patterns name (product.md 2)
LONGEST = 350  # characters of a provider's own name of a model; as long as a part of a name may be in Ollama's grammar


@dataclass(frozen=True, slots=True)
class Target:
    """One provider's model. `timeouts` where it has its own, else its provider's hold. `remote`: answering leaves the
    machine even if the provider is local, as with a real Ollama's cloud models; None: nobody has told yet. `api`: which
    of OpenAI's APIs carries chats, "auto", "chat" or "responses" (policy/carrier)."""

    provider: str
    model: str
    timeouts: Timeouts | None = field(default=None, compare=False)
    remote: bool | None = field(default=False, compare=False)
    api: str = field(default="auto", compare=False)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is sent when the request does not say: the request wins over the model, the model over the global one.
    `options` are further sampling names as in Ollama's options."""

    temperature: float | None = None
    max_tokens: int | None = None
    system: str | None = None
    think: bool | str | None = None
    keep_alive: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def over(self, general: Defaults) -> Defaults:
        """These, and what they leave open from `general`."""
        return Defaults(
            temperature=self.temperature if self.temperature is not None else general.temperature,
            max_tokens=self.max_tokens if self.max_tokens is not None else general.max_tokens,
            system=self.system if self.system is not None else general.system,
            think=self.think if self.think is not None else general.think,
            keep_alive=self.keep_alive if self.keep_alive is not None else general.keep_alive,
            options={**general.options, **self.options},
        )


@dataclass(frozen=True, slots=True)
class Model:
    """A public model. `name` without the tag `latest`; `shown` always carries a tag. Lengths are tokens (or vector
    dimensions for embedding_length), None unknown. `modified` is unix seconds. `origin`: "alias", "ollama" or
    "provider". `raw`: the entry of a real Ollama's list, or a provider's own words."""

    name: str
    targets: tuple[Target, ...]
    capabilities: frozenset[str]
    origin: str = "alias"
    context_length: int | None = None
    embedding_length: int | None = None
    max_output: int | None = None
    defaults: Defaults = Defaults()
    drop_tools: bool = False
    strict_parameters: bool | None = None
    modified: float = 0.0
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        return shown(self.name)

    @property
    def view(self) -> ModelView:
        return ModelView(self.shown, self.capabilities, self.drop_tools)

    @property
    def digest(self) -> str:
        """64 hex digits, one per model, stable, changed when its capabilities change (clients.md 0.10)."""
        facts = [self.name, [str(t) for t in self.targets], sorted(self.capabilities), self.context_length]
        return hashlib.sha256(dumps(facts)).hexdigest()


def shown(name: str) -> str:
    """The name with a tag: Ollama's lists always carry one."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def key(name: str) -> str:
    """What two spellings of one name have in common: case does not matter, `latest` is the default tag."""
    return name.casefold().removesuffix(":latest")


class Catalog:
    """All models that can be named. Rebuilt entries replace old ones whole; reading never waits."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        aliases: Iterable[Model],
        general: Defaults,
        patterns: Mapping[str, list[str]],
        drop_tools: Collection[str] = (),
    ) -> None:
        """`providers` in the order in which they are looked through. An alias without capabilities or lengths has those
        of its first target. `patterns`: globs by provider, for what is listed of a long catalogue. `drop_tools`:
        providers whose models have tools left out instead of refused."""
        self._providers = providers
        self._general = general
        self._patterns = patterns
        self._drop_tools = drop_tools
        self._configured = [replace(model, defaults=model.defaults.over(general)) for model in aliases]
        self._listed: dict[str, dict[str, Model]] = {name: {} for name in providers}  # provider -> key -> model
        self._aliases: dict[str, Model] = {}
        self._fill_aliases()

    # -- what providers list ---------------------------------------------------------------------------------------
    def learn(self, provider: Provider, listed: Iterable[ListedModel], now: float) -> None:
        """Takes over a provider's own catalogue; `now` (unix seconds) dates models without a date of their own."""
        known = self._listed[provider.name]
        models: dict[str, Model] = {}
        for item in listed:
            name = self._public_name(provider, item.id)
            before = known.get(key(name))
            models[key(name)] = Model(
                name=name,
                targets=(Target(provider.name, item.id, remote=_is_remote(provider, item)),),
                capabilities=guess_capabilities(item.id) if item.capabilities is None else item.capabilities,
                origin="ollama" if provider.kind == "ollama" else "provider",
                context_length=item.context_length,
                embedding_length=item.embedding_length,
                max_output=item.max_output,
                defaults=self._general,
                drop_tools=provider.name in self._drop_tools,
                modified=item.created or (before.modified if before else now),
                raw=item.raw,
            )
        self._listed[provider.name] = models
        self._fill_aliases()

    def _public_name(self, provider: Provider, model: str) -> str:
        """A real Ollama's models (and the echo) are called as they are, those of a service with its name before."""
        name = model if provider.kind in _OWN_NAMES else f"{provider.name}/{model}"
        return name.removesuffix(":latest")

    def _fill_aliases(self) -> None:
        self._aliases = {key(model.name): self._filled(model) for model in self._configured}

    def _filled(self, alias: Model) -> Model:
        """With what is told of its targets, where the file does not say it."""
        targets = tuple(replace(target, remote=self._remote(target)) for target in alias.targets)
        told = self._told(targets[0])
        capabilities = told.capabilities if told else guess_capabilities(targets[0].model)
        return replace(
            alias,
            targets=targets,
            capabilities=alias.capabilities or capabilities,
            context_length=alias.context_length or (told.context_length if told else None),
            embedding_length=alias.embedding_length or (told.embedding_length if told else None),
            max_output=alias.max_output or (told.max_output if told else None),
        )

    def _told(self, target: Target) -> Model | None:
        """The entry of a provider's own list."""
        return self._listed[target.provider].get(key(self._public_name(self._providers[target.provider], target.model)))

    def _remote(self, target: Target) -> bool | None:
        told = self._told(target)
        if told is not None:
            return told.targets[0].remote
        if self._providers[target.provider].kind != "ollama":
            return False
        return _in_cloud(target.model) or None

    def listed(self) -> list[Model]:
        """What tags and /v1/models show, newest first; aliases before what they shadow."""
        models = dict(self._aliases)
        for provider in self._listed:
            for model in self._chosen(provider):
                models.setdefault(key(model.name), model)
        return sorted(models.values(), key=lambda m: (-int(m.modified), m.name))

    def _chosen(self, provider: str) -> list[Model]:
        """All that a real Ollama has; of a service what chats or embeds, and of a long catalogue what is wanted."""
        own = list(self._listed[provider].values())
        if self._providers[provider].kind == "ollama":
            return own
        own = [model for model in own if model.capabilities & _LISTED_WORDS]
        if len(own) <= LISTED_AT_MOST:
            return own
        patterns = self._patterns.get(provider, [])
        return [m for m in own if any(fnmatch.fnmatch(m.targets[0].model, pattern) for pattern in patterns)]

    # -- lookup ----------------------------------------------------------------------------------------------------
    def find(self, name: str) -> Model:
        """Raises GatewayError: the name is ungrammatical (400) or unknown (404)."""
        name = name.strip()
        wanted = key(name)
        model = self._aliases.get(wanted) or self._find_listed(wanted)
        if model is None:
            model = self._split(name)
        if model is None:
            if parse_name(name) is None:
                raise GatewayError(
                    "invalid model name",
                    status=400,
                    scope=Scope.CALLER,
                    code=INVALID_MODEL_NAME,
                    model=name,
                    early=True,
                )
            raise model_not_found(name, self._near(wanted))
        return model

    def _find_listed(self, wanted: str) -> Model | None:
        for own in self._listed.values():
            if wanted in own:
                return own[wanted]
        return None

    def _split(self, name: str) -> Model | None:
        """`provider/model` or `provider:model`, listed or not."""
        found = _SPLIT.match(name)
        if found is None:
            return None
        prefix, rest = found[1].casefold(), found[2]
        provider = self._providers.get(prefix)
        if provider is None or len(rest) > LONGEST or _UNFIT.search(rest):
            return None
        target = Target(prefix, rest)
        model = self._told(target)
        if model is not None:
            return model
        target = replace(target, remote=self._remote(target))
        if provider.kind in _OWN_NAMES and self._listed[prefix] and not target.remote:
            return None  # these list all they have but the cloud models nobody pulled
        return Model(
            name=f"{prefix}/{rest}",
            targets=(target,),
            capabilities=guess_capabilities(rest),
            origin="ollama" if provider.kind == "ollama" else "provider",
            defaults=self._general,
            drop_tools=prefix in self._drop_tools,
        )

    def _near(self, wanted: str) -> tuple[str, ...]:
        names = {key(m.name): m.name for m in [*self._aliases.values(), *self.listed()]}
        return tuple(names[k] for k in difflib.get_close_matches(wanted, names, n=3, cutoff=0.6))


_SPLIT = re.compile(r"([^/:]+)[/:](.+)", re.S)
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f]|\.\./|//")  # no provider has such a model; it must not reach a URL or a log
_OWN_NAMES = ("ollama", "echo")
_LISTED_WORDS = frozenset({"completion", "embedding"})


def _is_remote(provider: Provider, item: ListedModel) -> bool:
    """A cloud model in the list of a real Ollama (ollama-protocol.md 5)."""
    told = bool(item.raw.get("remote_host")) or bool(item.raw.get("remote_model"))
    return provider.kind == "ollama" and (told or _in_cloud(item.id))


def _in_cloud(model: str) -> bool:
    """Whether a real Ollama takes the name for one of its cloud's."""
    try:
        return split_source(model)[1] == "cloud"
    except BothSources:
        return True  # it will be refused there; until then the name says cloud


# Name rules are the last resort: a provider's own words and the config win over them.
_EMBEDDING = re.compile(r"embed|^bge-|^e5-|^gte-|minilm", re.I)
_VISION = re.compile(
    r"gpt-4o|gpt-4\.1|gpt-4-turbo|gpt-[5-9]|\bo[134](-|$)|vision|-vl\b|[-_]vl[-:]|llava|pixtral|gemini|gemma-?3|claude|llama-4|grok-[4-9]|echo",
    re.I,
)
_THINKING = re.compile(
    r"\bo[134](-|$)|gpt-(5|6)|gpt-oss|deepseek-(r1|reasoner|v4)|\br1\b|qwq|qwen3|magistral|reason|think|grok-(3-mini|4)|glm-[45]|kimi-k2",
    re.I,
)
_NOT_THINKING = re.compile(r"gpt-5-chat|non-reasoning|instruct", re.I)
_NO_TEXT = re.compile(
    r"whisper|transcribe|\btts\b|dall-e|gpt-image|chatgpt-image|moderation|\bsora\b|realtime|rerank", re.I
)


@lru_cache(maxsize=1024)
def guess_capabilities(model: str) -> frozenset[str]:
    """Capability words from a model's name alone (providers.md 5.1: the weakest source); none for a model that draws,
    listens or judges instead of answering."""
    base = model.rpartition("/")[2]
    if _NO_TEXT.search(base):
        return frozenset()
    if _EMBEDDING.search(base):
        return frozenset({"embedding"})
    words = {"completion", "tools"}
    if _VISION.search(base):
        words.add("vision")
    if _THINKING.search(base) and not _NOT_THINKING.search(base):
        words.add("thinking")
    return frozenset(words)
