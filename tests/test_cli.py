"""The command line and what it prints: commands, exit codes, the start-up screen, failures to start, colours."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from ollama_bridge import __version__
from ollama_bridge.cli import cli, door
from ollama_bridge.config import Config, load
from ollama_bridge.terminal import screen

ROOT = Path(__file__).parent.parent
ESCAPE = "\x1b"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder to work in, and an environment that holds nothing of the developer's."""
    for name in list(os.environ):
        if name not in ("PATH", "HOME", "LANG", "LC_ALL", "PYTEST_CURRENT_TEST"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def start(*arguments: str) -> Result:
    return CliRunner().invoke(door, arguments)


class Served(Exception):
    """The server was asked to run."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Config]]:
    """The configurations `serve` was called with; the application itself does not run."""
    calls: list[Config] = []
    module = types.ModuleType("ollama_bridge.app")
    module.serve = lambda config, read, workers: calls.append(config)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ollama_bridge.app", module)
    yield calls


# ---- commands and their arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_lists_what_there_is(arguments: list[str]) -> None:
    out = run(*arguments).output
    for word in ("serve", "check", "models", "explain", "--version", "OLLAMA_HOST", "OPENAI_API_KEY"):
        assert word in out
    for word in ("keys  ", "doctor", "completion"):
        assert word not in out


@pytest.mark.parametrize("command", ["serve", "check", "models"])
def test_help_of_a_command_says_more_than_its_name(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--config" in result.output and len(result.output.split()) > 40


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"ollama-bridge {__version__}\n")


@pytest.mark.parametrize("arguments", [["explain", "a", "b"], ["serve", "a", "b"], ["check", "--nope"]])
def test_wrong_arguments_exit_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_serve_passes_on_what_the_command_line_says(served: list[Config], tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("models: {fast: groq/x}")
    assert start("127.0.0.1:9000", "--config", str(other), "--capture", "kept").exit_code == 0
    assert run("serve", "127.0.0.1:9000", "--config", str(other), "--capture", "kept").exit_code == 0
    config, same = served
    assert config == same
    assert str(config.server.listen) == "127.0.0.1:9000"
    assert (config.source, config.capture, list(config.models)) == (other, Path("kept"), ["fast"])


def test_config_yaml_of_the_folder_is_taken_when_there_is_one(served: list[Config], tmp_path: Path) -> None:
    assert start().exit_code == 0
    (tmp_path / "config.yaml").write_text("server: {listen: 9001}")
    assert start().exit_code == 0
    assert [config.server.listen.port for config in served] == [8000, 9001]
    assert served[0].source is None and served[1].source == tmp_path / "config.yaml"


# ---- check and models ------------------------------------------------------------------------------------------------


def test_check_shows_providers_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-secret")
    (tmp_path / "config.yaml").write_text(
        "models:\n  fast: groq/llama\n  mine: {targets: [openai/a, groq/b], context_length: 9, capabilities: [tools]}\n"
    )
    result = run("check")
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert rows["groq"] == ["groq", "on", "openai", "https://api.groq.com/openai/v1", "GROQ_API_KEY"]
    assert rows["openai"][1:3] == ["off", "openai"] and rows["openai"][-2:] == ["set", "OPENAI_API_KEY"]
    assert rows["ollama"] == ["ollama", "on", "ollama", "http://localhost:11434", "-", "yes"]
    assert rows["fast"] == ["fast", "groq/llama"]
    assert "openai/a, groq/b" in result.stdout and "tools, context 9" in result.stdout
    assert "provider 'openai' has no key: set OPENAI_API_KEY" in result.stdout
    assert result.stdout.rstrip().endswith("config.yaml: valid. Listens on localhost:8000, asks for no key.")
    assert "gsk-secret" not in result.output


@pytest.mark.parametrize("arguments", [["check"], ["models"], ["serve"]])
def test_a_wrong_configuration_ends_every_command_with_1(
    arguments: list[str], served: list[Config], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("server:\n  hearbeat: 1s\nmodels: 5\n")
    result = run(*arguments)
    assert (result.exit_code, result.stdout, served) == (1, "", [])
    assert [line.replace(f"{tmp_path}/", "") for line in result.stderr.splitlines()] == [
        "error: config.yaml:2: server.hearbeat: unknown key; did you mean 'heartbeat'?",
        "error: config.yaml:3: models: expected a mapping (key: value)",
    ]


def test_models_lists_aliases_and_targets(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("models:\n  fast: ollama/llama\n  x/y: echo/echo\n")
    rows = [line.split() for line in run("models").stdout.splitlines() if "/" in line]
    assert rows == [["fast", "ollama/llama"], ["x/y", "echo/echo"], ["echo", "echo/echo", "built", "in"]]


# ---- the start-up screen ---------------------------------------------------------------------------------------------


def shown(config: Config, address: str, **more: bool) -> str:
    file = io.StringIO()
    screen.startup(config, address, Console(file=file, width=200, **more))
    return file.getvalue()


def test_the_start_up_screen_says_what_is_on_what_is_off_and_what_next(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("models: {fast: groq/x}\ndebug: {capture: kept}")
    text = shown(load(path, env={"GROQ_API_KEY": "gsk-secret"}), "localhost:8000")
    lines = text.splitlines()
    assert lines[0] == f"ollama-bridge {__version__} http://localhost:8000 (my.yaml)"
    rows = {line.split()[1]: line for line in lines if line.startswith(("  on ", "  off "))}
    assert re.fullmatch(r"  on   groq +https://api.groq.com/openai/v1, key from GROQ_API_KEY", rows["groq"])
    assert re.fullmatch(r"  on   ollama +http://localhost:11434, local", rows["ollama"])
    assert re.fullmatch(r"  on   echo +built in, needs nothing", rows["echo"])
    assert re.fullmatch(r"  off  openai +set OPENAI_API_KEY", rows["openai"])
    assert "  1 of your own models: fast" in lines
    assert any("kept: prompts too" in line for line in lines)
    assert lines[-2:] == ["  export OLLAMA_HOST=http://localhost:8000", "  ollama run echo"]
    assert "gsk-secret" not in text and ESCAPE not in text


@pytest.mark.parametrize(
    ("listen", "address", "host"),
    [
        ("0.0.0.0:9000", "0.0.0.0:9000", "http://localhost:9000"),
        ("[::]:9000", "http://[::]:9000", "http://localhost:9000"),
        ("[::1]:9000", "[::1]:9000", "http://[::1]:9000"),
        ("10.0.0.1:9000", "http://10.0.0.1:9000", "http://10.0.0.1:9000"),
    ],
)
def test_the_address_that_clients_are_told(listen: str, address: str, host: str) -> None:
    text = shown(load(None, env={"API_KEY": "secret-key"}, listen=listen), address)
    assert f"export OLLAMA_HOST={host}/k/YOUR_KEY" in text
    assert "secret-key" not in text and "WARNING" not in text


def test_an_open_door_is_announced_loudly() -> None:
    text = shown(load(None, env={}, listen="0.0.0.0:9000"), "0.0.0.0:9000")
    assert "WARNING: 0.0.0.0:9000 can be reached from other machines and there is no key" in text
    assert "\n    api_key: ${API_KEY:-}\n" in text


def test_colours_only_where_they_can_be_seen() -> None:
    assert ESCAPE in shown(load(None, env={}), "localhost:8000", force_terminal=True)
    process = subprocess.run(
        [sys.executable, ROOT / "start_gateway.py", "--config", "absent.yaml"], capture_output=True, text=True
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == "error: absent.yaml: cannot be read: No such file or directory\n"


def test_colours_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.run(
        [sys.executable, ROOT / "start_gateway.py", "--config", "absent.yaml"],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    text = os.read(ours, 10_000).decode()
    os.close(ours)
    assert process.returncode == 1
    assert ESCAPE in text and "absent.yaml" in text


# ---- failures to start -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EADDRINUSE, "in use"), "port 8000 is in use, perhaps by another gateway or an Ollama"),
        (PermissionError(errno.EACCES, "denied"), "not allowed to listen on localhost:8000"),
        (OSError(errno.EADDRNOTAVAIL, "no"), "localhost is no address of this machine"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "the host name localhost is not known"),
        (PermissionError(errno.EACCES, "denied", "/state"), "cannot start: denied: /state"),
        (OSError("odd"), "cannot start: odd"),
    ],
)
def test_why_it_cannot_start(error: OSError, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Config, read: object, workers: int) -> None:
        raise error

    module = types.ModuleType("ollama_bridge.app")
    module.serve = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ollama_bridge.app", module)
    result = start()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {words}")
    assert len(result.stderr.splitlines()) == 1


def test_a_port_in_use_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = subprocess.run(
            [sys.executable, ROOT / "start_gateway.py", f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=60
        )
    assert process.returncode == 1
    assert f"error: port {port} is in use" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    "command", [[str(ROOT / "start_gateway.py")], ["-m", "ollama_bridge", "serve"]], ids=["door", "module"]
)
def test_the_real_thing_starts_answers_and_ends(command: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *command, "127.0.0.1:0"], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stderr is not None
        heard = ""
        for line in process.stderr:
            heard += line
            if "ollama run echo" in line:
                break
        told = re.search(r"export OLLAMA_HOST=(http://127\.0\.0\.1:\d+)$", heard, re.MULTILINE)
        assert told, heard
        with urlopen(f"{told[1]}/api/version", timeout=10) as answer:
            assert json.load(answer) == {"version": "0.33.0"}
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
    assert ESCAPE not in heard


# ---- explain ---------------------------------------------------------------------------------------------------------

PLANS = """
providers:
  ollama: {base_url: "http://127.0.0.1:9"}
  near: {kind: openai, base_url: "http://127.0.0.1:9/v1", local: true}
  groq: {api_key: gsk-secret-secret}
models:
  both-ways: {targets: [groq/llama, near/qwen3-vl]}
routing:
  strict: {chat: near/qwen3-vl}
  flexible: {chat: [both-ways, near/other]}
"""


@pytest.fixture
def plans(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(PLANS)


EXPLAINED = {
    "order": (["both-ways"], ["1 groq/llama", "2 near/qwen3-vl yes"]),
    "abilities": (["both-ways", "--images"], ["1 near/qwen3-vl yes", "- groq/llama left out: sees no pictures"]),
    "strict": (
        ["both-ways", "--privacy", "strict"],
        ["1 near/qwen3-vl yes", "- groq/llama left out: is answered by a provider that is not local"],
    ),
    "provider": (["both-ways", "--provider", "near"], ["1 near/qwen3-vl yes the only one"]),
    "table": ([], ["1 groq/llama", "2 near/qwen3-vl yes", "3 near/other yes"]),
    "auto": (["auto"], ["privacy: flexible (the model 'auto')", "1 groq/llama"]),
    "private": (["private"], ["privacy: strict (the model 'private')", "1 near/qwen3-vl yes"]),
}


@pytest.mark.usefixtures("plans")
@pytest.mark.parametrize(("arguments", "lines"), EXPLAINED.values(), ids=EXPLAINED)
def test_explain_shows_the_plan(arguments: list[str], lines: list[str]) -> None:
    result = run("explain", *arguments)
    assert result.exit_code == 0, result.output
    shown = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in lines:
        assert any(found.startswith(line) for found in shown), (line, shown)
    assert "gsk-secret" not in result.output


REFUSED = {
    "strict": (
        ["groq/llama", "--privacy", "strict"],
        "error: 403 privacy_mode is strict, and model 'groq/llama' is answered by a provider that is not local; local "
        "models that could serve it: auto, private, both-ways, echo",
    ),
    "unknown model": (["nope"], "error: 404 model 'nope' not found"),
    "unknown word": (["auto", "--task", "code"], "error: 400 unknown task 'code': use chat, vision, ocr or embedding"),
    "no cell": (
        ["--task", "embedding"],
        "error: 400 model is required: the table names none for the task 'embedding' (routing.flexible.embedding)",
    ),
}


@pytest.mark.usefixtures("plans")
@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_explain_says_why_a_request_would_be_refused(arguments: list[str], words: str) -> None:
    result = run("explain", *arguments)
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (1, "", words)
