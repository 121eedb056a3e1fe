"""What the file says, the presets and the environment -> one Config.

Knows: which provider is configured, where its key comes from, the bind rule (product.md 4). Must not know: what names
lead to (config/aliases), YAML, pydantic's errors, the network: nothing is asked or resolved here.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import SecretStr

from ..dialects.base import Profile
from ..providers.addresses import is_public, stays_here
from ..providers.base import Timeouts
from ..providers.presets import HUGGING_FACE_HUB, HUGGING_FACE_ROUTER, PRESETS, Preset
from ..providers.sdks import missing
from .aliases import Names, named_providers, over
from .facts import known
from .fields import clean_key, clean_url, is_origin
from .limits import limits_of
from .problems import Marks, Place, Problem, nearest
from .schema import File, ProviderEntry, Quirks, Server
from .settings import Config, ProviderConfig
from .source import Environment
from .units import Address, parse_address

_PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")

_ECHO_TAKES = frozenset({"kind", "drop_tools"})
PATIENT = Timeouts(first_byte=180.0, first_token=600.0, idle=300.0, total=1800.0)  # of models that think
_FREE_TAKES = _ECHO_TAKES | {"timeouts", "patterns"}
_NOT_OLLAMAS = frozenset({"quirks", "patterns"})  # it has its own dialect, and all of its models are listed


@dataclass(slots=True)
class Assembly:
    """One go at it. `folder` is what relative paths of the file start from."""

    file: File
    marks: Marks
    environment: Environment
    folder: Path
    problems: list[Problem] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def config(self, source: Path | None, listen: str | None, capture: Path | None) -> Config:
        """The whole of it. What is wrong is in `problems` afterwards; the result is then not to be used."""
        said = self.file.timeouts
        timeouts = over(Timeouts(thinking=PATIENT), said)
        timeouts = dataclasses.replace(timeouts, thinking=over(timeouts.thinking or PATIENT, said.thinking))
        server = self._server(listen)
        providers = self._providers(timeouts, server.listen)
        names = Names(self.file, providers, self.marks)
        models = names.models()
        routing = names.routing(models)
        limits, wrong = limits_of(self.file.limits, providers, models, self.marks)
        self.problems += [*names.problems, *wrong]
        if capture is None and self.file.debug.capture is not None:
            capture = self._path(self.file.debug.capture)
        state_dir = self.file.state_dir
        return Config(
            server=server,
            defaults=self.file.defaults,
            providers=providers,
            models=models,
            timeouts=timeouts,
            routing=routing,
            backoff=self.file.backoff,
            limits=limits,
            redis=self.file.redis,
            state_dir=self._path(state_dir) if state_dir else user_data_path("ollama-bridge", appauthor=False),
            capture=capture,
            strict_parameters=self.file.strict_parameters,
            source=source,
            warnings=tuple(self.warnings),
        )

    def _wrong(self, place: Place, message: str) -> None:
        self.problems.append(self.marks.problem(place, message))

    def _path(self, path: Path) -> Path:
        return self.folder / path.expanduser()

    def _variable(self, name: str) -> str | None:
        try:
            return self.environment.get(name) or None
        except ValueError as error:
            self.problems.append(Problem("", str(error)))
            return None

    # -- server ---------------------------------------------------------------------------------------------------
    def _server(self, listen: str | None) -> Server:
        server = self.file.server
        origins = dict.fromkeys(server.origins)
        for word in (self._variable("OLLAMA_ORIGINS") or "").split(","):
            if word.strip() and not is_origin(word.strip()):
                self.problems.append(Problem("OLLAMA_ORIGINS", "expected origins such as https://chat.example.com"))
            elif word.strip():
                origins[word.strip()] = None
        address = server.listen
        if listen is not None:
            try:
                address = parse_address(listen)
            except ValueError as error:
                self.problems.append(Problem("HOST:PORT", f"{error}, not '{listen}'"))
        self._bind(server, address, asked=listen is not None)
        return server.model_copy(update={"listen": address, "origins": tuple(origins)})

    def _bind(self, server: Server, address: Address, *, asked: bool) -> None:
        """The bind rule (product.md 4). `asked`: the address was given on the command line."""
        if address.loopback or server.api_key is not None or server.open:
            return
        if not asked:
            self._wrong(
                ("server", "listen"),
                f"{address} can be reached from other machines and there is no key: "
                "set server.api_key, or server.open: true to let everybody in",
            )
            return
        self.warnings.append(
            f"{address} can be reached from other machines and there is no key: whoever reaches it uses your providers "
            "at your cost. A key is asked for with this line in .env or the environment:\n"
            "    API_KEY=<a long random text>\n"
            "and this one in config.yaml under server: (the shipped file has it)\n"
            "    api_key: ${API_KEY:-}"
        )

    # -- providers ------------------------------------------------------------------------------------------------
    def _providers(self, timeouts: Timeouts, listen: Address) -> dict[str, ProviderConfig]:
        """In the order of the file, then the presets that have a key or could have one. A preset that needs none (a
        server on this machine) is there only when the file or a target names it; `ollama` and `echo` always are."""
        entries = dict(self.file.providers)
        named = named_providers(self.file)
        for name, preset in PRESETS.items():
            unasked = preset.needs_key or name in ("ollama", "echo") or any(map(self._variable, preset.keys))
            if name not in entries and (name in named or (unasked and not preset.by_name)):
                entries[name] = ProviderEntry()
        providers = {}
        for name, entry in entries.items():
            provider = self._provider(name, entry, timeouts, listen)
            if provider is not None:
                providers[name] = provider
        return providers

    def _provider(self, name: str, entry: ProviderEntry, timeouts: Timeouts, listen: Address) -> ProviderConfig | None:
        place = ("providers", name)
        preset = PRESETS.get(name)
        if not _PROVIDER_NAME.fullmatch(name):
            self._wrong(place, "a provider's name is made of small letters, digits and . _ -")
            return None
        if preset is None and entry.kind is None:
            self._wrong(place, f"is no preset: say its kind and base_url{nearest(name, PRESETS)}")
            return None
        kind = entry.kind or (preset.kind if preset else "")
        if preset is not None and preset.kind != kind:
            preset = None  # only the name is the same
        self._refuse_unused(place, kind, entry)
        if kind == "echo":
            return ProviderConfig(name, kind, "", local=True, drop_tools=entry.drop_tools)
        if kind == "ollamafree":
            return self._free(name, entry, timeouts)
        base_url = self._base_url(place, kind, entry, preset)
        hub_url = entry.hub_url or _hub_of(kind, base_url)
        row = preset or (PRESETS["huggingface"] if hub_url else _row_of(kind, base_url))
        key, key_source = self._key(place, entry, preset)
        off, remedy = self._off(name, kind, preset, base_url, key, listen)
        return ProviderConfig(
            name=name,
            kind=kind,
            base_url=base_url,
            api_key=key,
            further_keys=entry.api_keys[1:],
            key_source=key_source,
            local=self._local(place, entry, preset, base_url),
            off=off,
            remedy=remedy,
            headers=entry.headers,
            api_version=entry.api_version,
            hub_url=hub_url,
            timeouts=over(timeouts, entry.timeouts),
            preset=row.name if row else "",
            profile=_profile(row.profile if row else Profile(), entry.quirks),
            queue=entry.queue,
            patterns=entry.patterns,
            drop_tools=entry.drop_tools,
            models=known(entry.models),
        )

    def _free(self, name: str, entry: ProviderEntry, timeouts: Timeouts) -> ProviderConfig:
        """Servers of strangers: never local, and never without a word."""
        self.warnings.append(
            f"provider '{name}' passes what it is asked on to servers of strangers, who can read it and who answer for "
            "nothing"
        )
        row = PRESETS["ollamafreeapi"]
        return ProviderConfig(
            name, "ollamafree", "", timeouts=over(timeouts, entry.timeouts), preset=row.name, profile=row.profile,
            patterns=entry.patterns, drop_tools=entry.drop_tools,
        )  # fmt: skip

    def _refuse_unused(self, place: Place, kind: str, entry: ProviderEntry) -> None:
        """A key that has no meaning for this kind is an error: nothing in the file is ignored."""
        for name in sorted(entry.model_fields_set):
            if (
                (kind == "echo" and name not in _ECHO_TAKES)
                or (kind == "ollamafree" and name not in _FREE_TAKES)
                or (kind == "ollama" and name in _NOT_OLLAMAS)
                or (kind != "openai" and name == "api_version")
                or (kind != "huggingface" and name == "hub_url")
            ):
                key = ProviderEntry.model_fields[name].alias or name
                self._wrong((*place, key), f"a provider of kind {kind} takes no '{key}'; remove it")

    def _base_url(self, place: Place, kind: str, entry: ProviderEntry, preset: Preset | None) -> str:
        if entry.base_url is not None:
            return entry.base_url
        if place == ("providers", "ollama") and (given := self._variable("OLLAMA_BASE_URL")):
            try:
                return clean_url(given)
            except ValueError as error:
                self.problems.append(Problem("OLLAMA_BASE_URL", str(error)))
                return ""
        if preset is None:
            self._wrong((*place, "base_url"), f"is missing: a provider of kind {kind} needs one")
            return ""
        return preset.base_url.rstrip("/")

    def _key(self, place: Place, entry: ProviderEntry, preset: Preset | None) -> tuple[SecretStr | None, str | None]:
        """The file's (first) key, else the first of the preset's variables that is set -> (key, where it came from)."""
        if entry.api_key is not None and entry.api_keys:
            self._wrong((*place, "api_keys"), "either api_key or api_keys, not both")
        if entry.api_key is not None:
            return entry.api_key, "the file"
        if entry.api_keys:
            return entry.api_keys[0], "the file"
        for name in preset.keys if preset else ():
            value = self._variable(name)
            try:
                key = clean_key(value or "")
            except ValueError as error:
                self.problems.append(Problem(name, str(error)))
                continue
            if key is not None:
                return key, name
        return None, None

    def _off(
        self, name: str, kind: str, preset: Preset | None, base_url: str, key: SecretStr | None, listen: Address
    ) -> tuple[str | None, str | None]:
        """-> (why the provider cannot be used, what would turn it on), None twice when it is on."""
        if not base_url:
            why, remedy = "has no address", f"set providers.{name}.base_url in config.yaml"
        elif preset is not None and preset.needs_key and key is None:
            why, remedy = "has no key", f"set {preset.keys[0]}"
        elif _is_self(base_url, listen):
            variable = "OLLAMA_BASE_URL" if name == "ollama" else f"providers.{name}.base_url in config.yaml"
            why, remedy = "points at this gateway itself", f"set {variable}"
        elif (sdk := missing(kind)) is not None:
            why, remedy = f"needs the {sdk.package} SDK", f"pip install {sdk.package}"
        else:
            return None, None
        return f"provider '{name}' {why}: {remedy}", remedy

    def _local(self, place: Place, entry: ProviderEntry, preset: Preset | None, base_url: str) -> bool:
        """Whether what is sent there stays on our machines. Saying so of a public address is an error; what a preset
        says of itself holds only for a private address."""
        if entry.local and _leaves(base_url):
            self._wrong((*place, "local"), "the address is public: what is sent there leaves your machines")
        if entry.local and entry.hub_url and not stays_here(entry.hub_url):
            self._wrong((*place, "hub_url"), "is no private address: a provider that is local asks nobody outside")
        if entry.local is not None:
            return entry.local
        return preset is not None and preset.local and stays_here(base_url)


def _row_of(kind: str, base_url: str) -> Preset | None:
    """The preset row that tells of a server with a name of its own: another host of Ollama, or a second account of one
    service."""
    if kind in ("ollama", "google"):
        return PRESETS[kind]
    return next((row for row in PRESETS.values() if row.kind == kind and row.base_url == base_url), None)


def _hub_of(kind: str, base_url: str) -> str | None:
    """Hugging Face's router has its Hub, wherever else the address leads there is none."""
    at_the_router = kind == "huggingface" and urlsplit(base_url).hostname == HUGGING_FACE_ROUTER
    return HUGGING_FACE_HUB if at_the_router else None


def _profile(profile: Profile, quirks: Quirks) -> Profile:
    changes = {name: getattr(quirks, name) for name in quirks.model_fields_set}
    if changes.get("thinking_in_history") == "none":
        changes["thinking_in_history"] = None
    return profile.with_(**changes)


def _host(base_url: str) -> str:
    return (urlsplit(base_url).hostname or "").rstrip(".")


def _is_self(base_url: str, listen: Address) -> bool:
    """Whether a provider's address is the one the gateway listens on: it would ask itself for ever."""
    if urlsplit(base_url).port != listen.port:
        return False
    ours = listen.loopback or listen.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    return (ours and Address(_host(base_url)).loopback) or _host(base_url) == listen.host


def _leaves(base_url: str) -> bool:
    """Whether the address is certainly beyond our machines: a public IP, or the host of a cloud preset. What any other
    name resolves to is judged when a request is to go there."""
    cloud = {_host(preset.base_url) for preset in PRESETS.values() if preset.base_url and not preset.local}
    return is_public(_host(base_url)) or _host(base_url) in cloud
