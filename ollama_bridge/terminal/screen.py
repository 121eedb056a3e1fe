"""What an operator reads on the terminal: the start-up screen, the tables of `check` and `models`, errors.

Knows: a Config and how to lay it out. Must not know: how a configuration is read, HTTP, any secret (of a key only
where it came from is shown).

Colours appear on a terminal only. Elsewhere (a file, a pipe, a container's log) lines are plain and never folded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, TextIO
from urllib.parse import urlsplit

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import __version__
from ..config import Config, ConfigError, ModelConfig, ProviderConfig

if TYPE_CHECKING:
    from .explain import Explained

_UNFOLDED = 400  # columns where nobody's terminal sets a width: wide enough for any line of ours


def startup(config: Config, address: str, console: Console | None = None) -> None:
    """The start-up screen, on stderr unless told otherwise. `address`: where the gateway answers, as HOST:PORT or as a
    URL."""
    out = console or _stderr()
    address = address if "://" in address else f"http://{address}"
    source = config.source.name if config.source else "no config.yaml, packaged defaults"
    out.print(_joined(("ollama-bridge ", "bold"), (f"{__version__} ", ""), (address, "bold"), (f" ({source})", "dim")))
    _warnings(config, out)
    width = max((len(provider.name) for provider in config.providers.values()), default=0)
    for provider in _on(config):
        line = _joined(("  on   ", "green"), (provider.name.ljust(width), ""), (f"  {_reached(provider)}", "dim"))
        out.print(line)
    for provider in _off(config):
        line = _joined(("  off  ", "yellow"), (provider.name.ljust(width), ""), (f"  {provider.remedy}", "dim"))
        out.print(line)
    if config.models:
        out.print(f"  {len(config.models)} of your own models: {', '.join(config.models)}")
    if config.capture is not None:
        out.print(f"  every request is kept in {config.capture}: prompts too")
    out.print("Next, in another terminal:")
    out.print(_joined((f"  export OLLAMA_HOST={_client_url(config, address)}", "bold")))
    out.print(_joined(("  ollama run echo", "bold")))


def check(config: Config, console: Console | None = None, ends: Iterable[tuple[date, str, Sequence[str]]] = ()) -> None:
    """The tables of providers and models. `ends`: which models end soon, the first first, each with the names that lead
    to it."""
    out = console or _stdout()
    _warnings(config, out)
    table = _table("provider", "state", "kind", "address", "key", "local")
    for provider in (*_on(config), *_off(config)):
        on = provider.off is None
        table.add_row(
            provider.name,
            Text("on", "green") if on else Text("off", "yellow"),
            provider.kind,
            provider.base_url or "-",
            (provider.key_source or "-") if on else provider.remedy,
            "yes" if provider.local else "",
        )
    out.print(table)
    if config.models:
        models(config, out)
    _endings(ends, out)
    source = config.source or "packaged defaults, as there is no config.yaml"
    key = "asks for a key" if config.server.api_key else "asks for no key"
    out.print(f"{source}: valid. Listens on {config.server.listen}, {key}.")


def _endings(ends: Iterable[tuple[date, str, Sequence[str]]], out: Console) -> None:
    """A line for each model that a name of the file leads to, and one a provider for the others."""
    others: dict[str, list[str]] = {}
    for day, target, names in ends:
        if names:
            out.print(_joined(("WARNING: ", "bold red"), (f"{target} ends on {day}: {', '.join(names)}", "red")))
        else:
            provider, _, model = target.partition("/")
            others.setdefault(provider, []).append(f"{model} ({day})")
    for provider, ending in others.items():
        out.print(_joined((f"{provider} ends soon: ", "yellow"), (", ".join(ending), "")))


def models(config: Config, console: Console | None = None) -> None:
    """The models of the map, and what each leads to."""
    out = console or _stdout()
    table = _table("model", "targets", "what the file says", "note")
    for model in config.models.values():
        table.add_row(model.name, ", ".join(map(str, model.targets)), _said(model), _note(config, model))
    if "echo" not in config.models:
        table.add_row("echo", "echo/echo", "", "built in")
    out.print(table)


def plan(explained: Explained, console: Console | None = None) -> None:
    """Which targets a request would go to, why, and which it would not."""
    out = console or _stdout()
    privacy = f"{explained.privacy} ({explained.privacy_by})"
    out.print(f"privacy: {privacy}   task: {explained.task}   model: {explained.model}")
    table = _table("order", "target", "key", "local", "why")
    for number, planned in enumerate(explained.plan.targets, 1):
        keys = str(planned.account + 1) if planned.account else ""
        local = "yes" if planned.provider.local and not planned.target.remote else ""
        table.add_row(str(number), str(planned.target), keys, local, planned.reason)
    for target, why in explained.plan.left_out:
        table.add_row(Text("-", "yellow"), str(target), "", "", Text(f"left out: {why}", "yellow"))
    out.print(table)


def problems(error: ConfigError, console: Console | None = None) -> None:
    """What is wrong with a configuration, a line each, on stderr unless told otherwise."""
    out = console or _stderr()
    for line in error.lines():
        out.print(_joined(("error: ", "bold red"), (line, "")))


def failure(message: str, console: Console | None = None) -> None:
    """Why the gateway cannot start."""
    (console or _stderr()).print(_joined(("error: ", "bold red"), (message, "")))


def _stdout() -> Console:
    return _console(sys.stdout)


def _stderr() -> Console:
    return _console(sys.stderr)


def _console(file: TextIO) -> Console:
    width = None if file.isatty() else _UNFOLDED
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _joined(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts)


def _warnings(config: Config, out: Console) -> None:
    for warning in config.warnings:
        out.print(_joined(("WARNING: ", "bold red"), (warning, "red")))


def _on(config: Config) -> list[ProviderConfig]:
    return [provider for provider in config.providers.values() if provider.off is None]


def _off(config: Config) -> list[ProviderConfig]:
    return [provider for provider in config.providers.values() if provider.off is not None]


def _reached(provider: ProviderConfig) -> str:
    if provider.kind == "echo":
        return "built in, needs nothing"
    notes = [provider.base_url]
    if provider.key_source:
        notes.append(f"key from {provider.key_source}")
    if provider.local:
        notes.append("local")
    return ", ".join(notes)


def _client_url(config: Config, address: str) -> str:
    """What a client on this machine can use. The `ollama` program sends no header, so a key goes into the path; the
    key itself is never printed."""
    url = urlsplit(address)
    if url.hostname in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        address = f"{url.scheme}://localhost:{url.port}"
    return f"{address}/k/YOUR_KEY" if config.server.api_key is not None else address


def _said(model: ModelConfig) -> str:
    said: list[str] = sorted(model.capabilities or ())
    said += [f"context {model.context_length}"] if model.context_length else []
    said += ["system text"] if model.system else []
    said += [f"{name}={value}" for name, value in model.options.items()]
    return ", ".join(said)


def _note(config: Config, model: ModelConfig) -> str:
    return ", ".join(_once(off for target in model.targets if (off := config.providers[target.provider].off)))


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
