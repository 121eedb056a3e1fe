"""The command line: `serve`, `check`, `models`, `explain`, and the door of start_gateway.py.

Knows: arguments, exit codes, which start-up failure deserves which sentence. Must not know: how anything is done; the
server is imported only when it is to run.

Exit codes: 0 done, 1 the configuration is wrong or the gateway cannot start, 2 wrong arguments.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from . import __version__, collector
from .config import Config, ConfigError, find, load
from .errors import GatewayError
from .lists.shelf import Shelf
from .terminal import screen
from .terminal.endings import endings

_ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The configuration. Without it: config.yaml here, if there is one."),
]
_Listen = Annotated[
    str | None,
    typer.Argument(
        metavar="HOST:PORT",
        show_default=False,
        help="Where to listen: localhost:8000 unless said here or in the file. 11434 alone is Ollama's own port.",
    ),
]
_Capture = Annotated[
    Path | None,
    typer.Option(
        "--capture",
        metavar="DIR",
        help="Keep what comes in, goes upstream and comes back, request by request: prompts too, keys not.",
    ),
]
_Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Processes that answer on the one port, for more than one core can do. Linux only.",
    ),
]

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="A gateway that speaks Ollama's HTTP API in front of every provider.\n\n"
    "Keys come from the environment or .env (OPENAI_API_KEY, GROQ_API_KEY and so on); without any, the model `echo` "
    "works. Then, for any Ollama client: `export OLLAMA_HOST=http://localhost:8000`",
)
door = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ollama-bridge {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    pass


@door.command()
@cli.command()
def serve(listen: _Listen = None, config: _ConfigFile = None, capture: _Capture = None, workers: _Workers = 1) -> None:
    """Start the gateway.

    Without a config.yaml and without any key it starts too: the model `echo` gives back what it is told, so that a
    client can be tried. An address other machines can reach wants a key: server.api_key in the file.
    """
    with collector.paused():
        settings = _load(config, listen, capture)
        from .app import serve as run

        try:
            run(settings, lambda: load(config or find(Path.cwd()), listen=listen, capture=capture), workers)
        except OSError as error:
            screen.failure(_start_failure(error, settings))
            raise typer.Exit(1) from None


@cli.command()
def check(config: _ConfigFile = None) -> None:
    """Validate the configuration and show providers and models.

    Nothing is asked over the network. Exits with 1 and one line for each mistake (file, line, path) when it is wrong.
    """
    settings = _load(config)
    ends = endings(settings, Shelf(settings.state_dir / "models"), datetime.now(UTC).date())
    screen.check(settings, ends=[(ending.day, ending.target, ending.names) for ending in ends])


@cli.command()
def models(config: _ConfigFile = None) -> None:
    """List the models of the configuration and their targets.

    What providers list themselves is known only to a running gateway: ask it with `ollama list`.
    """
    screen.models(_load(config))


@cli.command()
def explain(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", show_default=False, help="As a client names it; without it the table's.")
    ] = "",
    privacy: Annotated[str | None, typer.Option("--privacy", metavar="WORD", help="strict or flexible.")] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="WORD", help="chat, vision, ocr or embedding.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="The one to be asked.")] = None,
    tools: Annotated[bool, typer.Option("--tools", help="It offers tools.")] = False,
    images: Annotated[bool, typer.Option("--images", help="It shows pictures.")] = False,
    thinking: Annotated[bool, typer.Option("--thinking", help="It asks for thoughts.")] = False,
    config: _ConfigFile = None,
) -> None:
    """Show which targets a request would go to, in which order, and why others are left out.

    Only real Ollamas are asked over the network, for their lists of models: these decide what is local. Who rests after
    failures only a running gateway knows: send it the header `X-Bridge-Explain: 1`. Exits with 1 when the request would
    be refused.
    """
    settings = _load(config)
    from .terminal.explain import Asked
    from .terminal.explain import explain as plan_of

    try:
        explained = asyncio.run(plan_of(settings, Asked(model, privacy, task, provider, tools, images, thinking)))
    except GatewayError as error:
        screen.failure(f"{error.status} {error.message}")
        raise typer.Exit(1) from None
    screen.plan(explained)


def _load(path: Path | None, listen: str | None = None, capture: Path | None = None) -> Config:
    try:
        return load(path or find(Path.cwd()), listen=listen, capture=capture)
    except ConfigError as error:
        screen.problems(error)
        raise typer.Exit(1) from None


def _start_failure(error: OSError, config: Config) -> str:
    address = config.server.listen
    if error.errno == errno.EADDRINUSE:
        return f"port {address.port} is in use, perhaps by another gateway or an Ollama; give another: HOST:PORT"
    if error.errno == errno.EACCES and error.filename is None:
        return f"not allowed to listen on {address}; ports below 1024 are the administrator's"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address.host} is no address of this machine"
    if isinstance(error, socket.gaierror):
        return f"the host name {address.host} is not known"
    where = f": {error.filename}" if error.filename else ""
    return f"cannot start: {error.strerror or error}{where}"


def main() -> None:
    """The program `ollama-bridge`."""
    cli(prog_name="ollama-bridge")


def start() -> None:
    """What start_gateway.py does: `serve` without naming it."""
    door(prog_name="start_gateway.py")
