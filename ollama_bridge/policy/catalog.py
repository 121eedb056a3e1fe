"""The model map: public name -> targets, with what is known of each model and where it was learnt.

Knows: aliases of the config, what providers list, how names are looked up. Must not know: how a list is fetched, whose
word about a model counts more (policy/facts does), any wire, any SDK.

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
from datetime import date
from typing import Any

from ..dialects.base import ModelView
from ..errors import INVALID_MODEL_NAME, GatewayError, Scope, model_not_found
from ..framing import dumps
from ..names import BothSources, parse_name, split_source
from ..providers.base import Known, ListedModel, Price, Provider, Timeouts
from .facts import CONFIG, PROVIDER, merge, retires_soon, told_by, values
from .sources import OWN_MODELS, Sources

LISTED_AT_MOST = 60  # a provider with more models lists only those its `list:` patterns name (product.md 2)
UNLISTED_AT_MOST = 1000  # models of which more is kept than their names; clients can ask for any number
LONGEST = 350  # characters of a provider's own name of a model; as long as a part of a name may be in Ollama's grammar


@dataclass(frozen=True, slots=True)
class Target:
    """One provider's model. `timeouts` where it has its own, else its provider's hold. `remote`: answering leaves the
    machine even if the provider is local, as with a real Ollama's cloud models; None: nobody has told yet. `api`: which
    of OpenAI's APIs carries chats, "auto", "chat" or "responses" (policy/carrier).
    `weight`: its share, where an alias is weighted. `known`: what is known of it as the target of an alias; None: what
    is known of its model."""

    provider: str
    model: str
    timeouts: Timeouts | None = field(default=None, compare=False)
    remote: bool | None = field(default=False, compare=False)
    api: str = field(default="auto", compare=False)
    weight: float = field(default=1.0, compare=False)
    known: Known | None = field(default=None, compare=False)

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
    """A public model. `name` without the tag `latest`; `shown` always carries a tag. Of the facts (meanings and units:
    policy/facts.Known) None is unknown; `sources` says who told each. `modified` is unix seconds. `origin`: "alias",
    "ollama" or "provider". `raw`: the entry of a real Ollama's list. `strategy`: how the first of several targets is
    chosen (policy/router). `strict`: requests to it never leave our machines. `then`: further models, asked when this
    one does not answer; only a table of tasks has them. `asked`: as which each of several targets is."""

    name: str
    targets: tuple[Target, ...]
    capabilities: frozenset[str]
    origin: str = "alias"
    context_length: int | None = None
    embedding_length: int | None = None
    max_output: int | None = None
    price: Price | None = None
    retires: date | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    defaults: Defaults = Defaults()
    drop_tools: bool = False
    strict_parameters: bool | None = None
    resume: bool = False
    modified: float = 0.0
    raw: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = "ordered"
    strict: bool = False
    then: tuple[Model, ...] = ()
    asked: tuple[Model, ...] = field(default=(), compare=False, repr=False)

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


def as_asked(model: Model, target: Target) -> Model:
    """The model with what is known of one of its targets: another window, another price than its neighbour's."""
    told = {name: value for name, value in values(target.known).items() if value is not None} if target.known else {}
    return replace(model, targets=(target,), **told)


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
        presets: Mapping[str, str] | None = None,
        configured: Mapping[str, Mapping[str, Known]] | None = None,
    ) -> None:
        """`providers` in the order in which they are looked through. Facts that an alias does not say are those of its
        first target. `patterns`: globs by provider, for what is listed of a long catalogue. `drop_tools`: providers
        whose models have tools left out instead of refused. `presets`: the row that a provider was made from, by its
        name. `configured`: what the configuration says of a provider's own models, by provider and model."""
        self._providers = providers
        self._general = general
        self._patterns = patterns
        self._drop_tools = drop_tools
        self._sources = Sources(providers, presets, configured)
        self._configured = [replace(model, defaults=model.defaults.over(general)) for model in aliases]
        self._lists: dict[str, list[tuple[ListedModel, float]]] = {}  # as it came, each with its date
        self._listed: dict[str, dict[str, Model]] = {name: {} for name in providers}  # provider -> key -> model
        self._aliases: dict[str, Model] = {}
        self._unlisted: dict[str, Model] = {}  # provider/model as asked for -> what has been made of it
        self._fill_aliases()

    # -- what providers list ---------------------------------------------------------------------------------------
    def learn(self, provider: Provider, listed: Iterable[ListedModel], now: float) -> None:
        """Takes over a provider's own catalogue; `now` (unix seconds) dates models without a date of their own."""
        before = {item.id: date for item, date in self._lists.get(provider.name, ())}
        keeps = provider.kind == "ollama"  # its own words are shown; those of a service are long, and read
        new = [
            (item if keeps else replace(item, raw={}), float(item.created or before.get(item.id) or now))
            for item in listed
        ]
        if new != self._lists.get(provider.name):
            self._lists[provider.name] = new
            self._fill(provider.name)
            self._fill_aliases()

    def learn_packaged(self, provider: str, told: Mapping[str, Known]) -> None:
        """Takes over what the price package tells of a provider's models."""
        if not told.items() <= self._sources.packaged(provider).items():
            self._sources.learn(provider, told)
            self._fill(provider)
            self._fill_aliases()

    def take_over(self, before: Catalog) -> None:
        """What an earlier catalog has learnt of providers that this one shares with it."""
        for name, provider in self._providers.items():
            if before._providers.get(name) is provider and name in before._lists:
                self._lists[name] = before._lists[name]
                self._sources.learn(name, before._sources.packaged(name))
                self._fill(name)
        self._fill_aliases()

    def knows_list(self, provider: str) -> bool:
        return provider in self._lists

    def told_of(self, provider: str) -> tuple[list[ListedModel], dict[str, Known]]:
        """What a provider has listed, each model with its date, and what the price package told of it."""
        listed = [replace(item, created=int(modified)) for item, modified in self._lists.get(provider, ())]
        return listed, self._sources.packaged(provider)

    def ending(self, provider: str, today: date) -> list[tuple[str, date]]:
        """A provider's models, listed or led to by an alias, that are gone soon or are gone already."""
        ends = [(model, self.facts(Target(provider, model))[0].retires) for model in self._of(provider)]
        return [(model, day) for model, day in ends if day is not None and retires_soon(day, today)]

    def _of(self, provider: str) -> list[str]:
        """The models of a provider, listed or led to by an alias, by its own names."""
        models = [item.id for item, _ in self._lists.get(provider, ())]
        models += [t.model for model in self._configured for t in model.targets if t.provider == provider]
        return list(dict.fromkeys(models))

    def unpriced(self, provider: str) -> list[str]:
        """Models of a provider whose price or window neither the configuration nor the provider itself tells."""
        return [model for model in self._of(provider) if self._needs_more(Target(provider, model))]

    def _needs_more(self, target: Target) -> bool:
        _, sources = self.facts(target)
        return not {sources.get("price"), sources.get("context_length")} <= {CONFIG, PROVIDER}

    def _fill(self, provider: str) -> None:
        """Makes the models of a provider's list."""
        owner = self._providers[provider]
        models: dict[str, Model] = {}
        for item, modified in self._lists.get(provider, ()):
            target = Target(provider, item.id, remote=_is_remote(owner, item))
            name = self._public_name(owner, item.id)
            models[key(name)] = self._model(name, target, item, modified)
        self._listed[provider] = models

    def _model(self, name: str, target: Target, item: ListedModel | None, modified: float = 0.0) -> Model:
        provider = self._providers[target.provider]
        known, sources = self._sources.of(target.provider, target.model, item)
        return Model(
            name=name,
            targets=(target,),
            **{**values(known), "capabilities": known.capabilities or frozenset()},
            origin="ollama" if provider.kind == "ollama" else "provider",
            sources=sources,
            defaults=self._general,
            drop_tools=provider.name in self._drop_tools,
            modified=modified,
            raw=item.raw if item else {},
        )

    def _public_name(self, provider: Provider, model: str) -> str:
        """A real Ollama's models (and the echo) are called as they are, those of a service with its name before."""
        name = model if provider.kind in OWN_MODELS else f"{provider.name}/{model}"
        return name.removesuffix(":latest")

    def _fill_aliases(self) -> None:
        """After each change of what is known."""
        self._unlisted = {}
        self._aliases = {key(model.name): self._filled(model) for model in self._configured}

    def _filled(self, alias: Model) -> Model:
        """With what is told of its targets, where the file does not say it."""
        own = replace(told_by(alias), capabilities=alias.capabilities or None)
        targets = tuple(
            replace(
                target,
                remote=self._remote(target),
                known=merge([(CONFIG, own), (PROVIDER, self.facts(target)[0])])[0],
            )
            for target in alias.targets
        )
        first, theirs = self.facts(targets[0])
        known, sources = merge([(CONFIG, own), (PROVIDER, first)])
        filled = replace(
            alias,
            targets=targets,
            **{**values(known), "capabilities": known.capabilities or frozenset()},
            sources={name: CONFIG if source == CONFIG else theirs[name] for name, source in sources.items()},
        )
        return filled if len(targets) == 1 else replace(filled, asked=tuple(as_asked(filled, each) for each in targets))

    def _told(self, target: Target) -> Model | None:
        """The entry of a provider's own list."""
        return self._listed[target.provider].get(key(self._public_name(self._providers[target.provider], target.model)))

    def facts(self, target: Target) -> tuple[Known, Mapping[str, str]]:
        """What is known of a target, listed or not, and who told each fact."""
        told = self._told(target)
        return self._sources.of(target.provider, target.model, None) if told is None else (told_by(told), told.sources)

    def price(self, target: Target) -> Price | None:
        """US dollars per million tokens; None: nobody told."""
        return (target.known or self.facts(target)[0]).price

    def window(self, target: Target) -> int | None:
        """Tokens of prompt and answer together; None: nobody told."""
        return (target.known or self.facts(target)[0]).context_length

    def _remote(self, target: Target) -> bool | None:
        told = self._told(target)
        if told is not None:
            return told.targets[0].remote
        provider = self._providers[target.provider]
        if provider.kind == "ollama":
            return _in_cloud(target.model) or None
        return provider.local and _in_cloud(target.model)

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
        """Raises GatewayError: the name is ungrammatical (400) or unknown (404, without the names that are `near`)."""
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
            raise model_not_found(name)
        return model

    def _find_listed(self, wanted: str) -> Model | None:
        for own in self._listed.values():
            if wanted in own:
                return own[wanted]
        return None

    def _split(self, name: str) -> Model | None:
        """`provider/model` or `provider:model`, listed or not."""
        if name in self._unlisted:
            return self._unlisted[name]
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
        if provider.kind in OWN_MODELS and self._listed[prefix] and not target.remote:
            return None  # these list all they have but the cloud models nobody pulled
        model = self._model(f"{prefix}/{rest}", target, None)
        if len(self._unlisted) < UNLISTED_AT_MOST:
            self._unlisted[name] = model
        return model

    def near(self, name: str) -> tuple[str, ...]:
        """Names that look like an unknown one. Over many it takes milliseconds."""
        names = {key(m.name): m.name for m in [*self._aliases.values(), *self.listed()]}
        return tuple(names[k] for k in difflib.get_close_matches(key(name.strip()), names, n=3, cutoff=0.6))


_SPLIT = re.compile(r"([^/:]+)[/:](.+)", re.S)
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f]|\.\./|//")  # no provider has such a model; it must not reach a URL or a log
_LISTED_WORDS = frozenset({"completion", "embedding"})


def _is_remote(provider: Provider, item: ListedModel) -> bool:
    """A cloud model in the list of a real Ollama (ollama-protocol.md 5), which may be asked by another wire: it answers
    at /v1 as well."""
    told = bool(item.raw.get("remote_host")) or bool(item.raw.get("remote_model"))
    return provider.local and (told or _in_cloud(item.id))


def _in_cloud(model: str) -> bool:
    """Whether a real Ollama takes the name for one of its cloud's."""
    try:
        return split_source(model)[1] == "cloud"
    except BothSources:
        return True  # it will be refused there; until then the name says cloud
