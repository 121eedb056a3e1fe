"""The real `ollama` program: as a client of the gateway, and as a server behind it.

As a client it meets echo models under the names of the golden recordings (tests/data/golden/cli): what it asks of the
gateway must be what it asked of a real Ollama then. As a server it is asked everything twice, directly and through the
gateway: a person must not be able to tell which was which.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ollama
import programs
import pytest
from golden import FOLDER
from programs import PATIENCE, Gateway
from scenarios import DOT
from tee import Exchange, Tee, teed
from terminal import Terminal, terminal
from transcript import Transcript, plain

TITLE = "The gateway and the real ollama program"
EVIDENCE = "real-ollama.md"

PROMPT, HINT = ">>> ", "Send a message (/? for help)"
# As those behind the golden recordings.
MODELFILES = {
    "gemma-fim": """FROM WEIGHTS
TEMPLATE {{ if .Suffix }}PRE {{ .Prompt }} SUF {{ .Suffix }} MID{{ else }}{{ .Prompt }}{{ end }}
PARAMETER num_predict 16
PARAMETER temperature 0
""",
    "gemma-think": '''FROM gemma-fim
TEMPLATE """{{- range .Messages }}
{{- if or (eq .Role "user") (eq .Role "system") }}
User: {{ .Content }}
{{- else if eq .Role "assistant" }}
Assistant: {{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{- end }}
{{- end }}
Assistant:{{ if and $.IsThinkSet (not $.Think) }} <think></think>{{ end }}"""
PARAMETER num_predict 60
PARAMETER stop "
User:"
PARAMETER temperature 0
''',
}


@dataclass(frozen=True, repr=False)
class Ran:
    """`out` and `err` as a person reads them; `exchanges`: what the program asked meanwhile, and was told."""

    arguments: tuple[str, ...]
    exit: int
    out: str
    err: str
    exchanges: list[Exchange]

    def __repr__(self) -> str:
        asked = "".join(
            f"    {one.method} {one.path} {one.body.decode()}".rstrip() + f" -> {one.answer()[0]}\n"
            for one in self.exchanges
        )
        status = f"    exit status {self.exit}\n" if self.exit else ""
        return f"$ ollama {' '.join(map(shell, self.arguments))}\n{self.out}{self.err}{status}{asked}"


def shell(word: str) -> str:
    return f'"{word}"' if re.search(r"[^\w/.:=-]", word) else word


class Program:
    """The `ollama` program, which asks `tee`."""

    def __init__(self, path: str, tee: Tee, home: Path) -> None:
        self._path = path
        self._tee = tee
        self._env = programs.environment(home, OLLAMA_HOST=tee.url)

    def run(self, *arguments: str, given: str = "") -> Ran:
        """`given` is what it reads from a pipe; without it there is none."""
        self._tee.exchanges.clear()
        done = subprocess.run(
            [self._path, *arguments], env=self._env, capture_output=True, text=True, timeout=PATIENCE, check=False,
            **({"input": given} if given else {"stdin": subprocess.DEVNULL}),
        )  # fmt: skip
        return Ran(arguments, done.returncode, plain(done.stdout), plain(done.stderr), list(self._tee.exchanges))

    @contextmanager
    def session(self, model: str) -> Iterator[Terminal]:
        """An interactive one."""
        with terminal([self._path, "run", model], self._env, PROMPT, HINT, PATIENCE) as opened:
            yield opened


# -- (a) the program as a client ---------------------------------------------------------------------------------------


def echoing(*capabilities: str, **more: Any) -> dict[str, Any]:
    return {"provider": "echo", "model": "echo", "capabilities": list(capabilities), **more}


@pytest.fixture(scope="module")
def gateway(llama_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = {
        "providers": {"llamacpp": {"base_url": f"{llama_server}/v1"}},
        "models": {
            "gemma-fim": echoing("completion", "insert", options={"num_predict": 16, "temperature": 0}),
            "gemma-tools": echoing(
                "completion", "tools", options={"temperature": 0, "num_predict": 60, "stop": ["\nUser:", "\nTool:"]}
            ),
            "gemma-think": echoing("completion", "thinking"),
            "gemma-embed": echoing("embedding"),
            "gemma": {"provider": "llamacpp", "model": "gemma", "temperature": 0, "max_tokens": 12},
        },
    }
    with programs.gateway(tmp_path_factory.mktemp("gateway"), config) as running:
        yield running


@pytest.fixture(scope="module")
def program(
    ollama_program: str, gateway: Gateway, document: Transcript, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    with teed(gateway.url) as tee:
        found = Program(ollama_program, tee, tmp_path_factory.mktemp("home"))
        version = found.run("-v").out.splitlines()[-1].rpartition(" ")[2]
        document.about.append(f"the ollama program, version {version}")
        document.hide(tee.url, "http://gateway")
        yield found


def recorded(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / "cli" / f"{name}.json").read_text(encoding="utf-8"))


def questions(ran: Ran) -> list[tuple[str, str, Any]]:
    return [(one.method, one.path, one.json) for one in ran.exchanges]


def recorded_questions(case: dict[str, Any]) -> list[tuple[str, str, Any]]:
    asked = [exchange["request"] for exchange in case["exchanges"]]
    return [(one["method"], one["path"], json.loads(one["body"]) if one["body"] else None) for one in asked]


RUN = ("run", "gemma-fim")
THINK = ("run", "gemma-think", "What is 5+5?")
# The recording, the command, what stands in the pipe, what the echo makes the program print (None: its own test).
COMMANDS: list[tuple[str, tuple[str, ...], str, str | None]] = [
    ("list", ("list",), "", None),
    ("ls", ("ls",), "", None),
    ("list-filter", ("list", "gemma-t"), "", None),
    ("show", ("show", "gemma-tools"), "", None),
    ("show-verbose", ("show", "gemma-fim", "--verbose"), "", None),
    ("show-modelfile", ("show", "gemma-fim", "--modelfile"), "", None),
    ("show-parameters", ("show", "gemma-tools", "--parameters"), "", None),
    ("show-license", ("show", "gemma-fim", "--license"), "", None),
    ("show-embed", ("show", "gemma-embed"), "", None),
    ("show-unknown", ("show", "nope"), "", ""),
    ("run-prompt", (*RUN, "one two three"), "", "one two three\n\n"),
    ("run-stdin", RUN, "one two three", "one two three\n\n"),
    ("run-both", (*RUN, "Summarise:"), "one two", "one two Summarise:\n\n"),
    ("run-format", (*RUN, "--format", "json", "{"), "", '{"echo": "{"}\n\n'),
    ("run-verbose", (*RUN, "--verbose", "one two"), "", "one two\n\n"),
    ("run-keepalive", (*RUN, "--keepalive", "1m", "one"), "", "one\n\n"),
    ("run-nowordwrap", (*RUN, "--nowordwrap", "one"), "", "one\n\n"),
    ("run-think", (*THINK, "--think"), "",
     "Thinking...\nThe user said: What is 5+5?\n...done thinking.\n\nWhat is 5+5?\n\n"),
    ("run-think-high", (*THINK, "--think=high"), "",
     "Thinking...\nThe user said: What is 5+5?\n...done thinking.\n\nWhat is 5+5?\n\n"),
    ("run-think-false", (*THINK, "--think=false"), "", "What is 5+5?\n\n"),
    ("run-hidethinking", (*THINK, "--think", "--hidethinking"), "", "What is 5+5?\n\n"),
    ("run-think-unsupported", (*RUN, "--think", "x"), "", ""),
    ("run-embedding", ("run", "gemma-embed", "hello"), "", None),
    ("run-embedding-dimensions", ("run", "gemma-embed", "--dimensions", "8", "hello"), "", None),
    ("stop", ("stop", "gemma-fim"), "", ""),
    ("stop-unknown", ("stop", "nope"), "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("case", "command", "given", "printed"), COMMANDS, ids=[case for case, *_ in COMMANDS])
def test_the_program_asks_what_it_asked_of_a_real_ollama(
    program: Program, transcript: Transcript, case: str, command: tuple[str, ...], given: str, printed: str | None
) -> None:
    ran = program.run(*command, given=given)
    transcript.block(str(ran))
    then = recorded(case)
    assert questions(ran) == recorded_questions(then)
    assert ran.exit == then["exit"]
    if printed is not None:
        assert ran.out == printed
    if then["exit"]:
        assert (ran.out, ran.err) == (then["stdout"], then["stderr"])


def rows(table: str) -> dict[str, list[str]]:
    """A table of the program: first column -> all columns."""
    lines = [re.split(r" {2,}", line.strip()) for line in table.splitlines()]
    return {columns[0]: columns for columns in lines}


def test_list_and_ps(program: Program, gateway: Gateway, transcript: Transcript) -> None:
    while "llamacpp/gemma:latest" not in rows((listed := program.run("list")).out):
        assert listed.exit == 0, listed
    shown = rows(listed.out)
    assert shown["NAME"] == ["NAME", "ID", "SIZE", "MODIFIED"]
    for name in ("echo", "gemma", "gemma-fim", "gemma-tools", "gemma-think", "gemma-embed", "llamacpp/gemma"):
        assert len(shown[f"{name}:latest"]) == 4
        assert re.fullmatch(r"[0-9a-f]{12}", shown[f"{name}:latest"][1])
    with ollama.Client(gateway.url) as client:
        client.generate("echo", keep_alive=0)
        client.generate("gemma-fim", keep_alive=0)
        assert "echo:latest" not in rows(program.run("ps").out)
        client.generate("echo", keep_alive="30m")
    loaded = program.run("ps")
    assert rows(loaded.out)["NAME"] == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert rows(loaded.out)["echo:latest"][-1] in ("29 minutes from now", "30 minutes from now")
    assert program.run("stop", "echo").exit == 0
    assert "echo:latest" not in rows(program.run("ps").out)
    transcript.block(f"{listed}\n{loaded}")


def section(shown: str, title: str) -> list[str]:
    """The lines below a title of `show`."""
    return [line.strip() for line in shown.partition(f"  {title}\n")[2].partition("\n\n")[0].splitlines()]


def calmed(text: str) -> str:
    """Its lines in one order: a real Ollama lists parameters in any."""
    return "\n".join(sorted(text.splitlines()))


def test_show_says_what_it_is(program: Program, transcript: Transcript) -> None:
    echo, gemma = program.run("show", "echo"), program.run("show", "gemma")
    transcript.block(f"{echo}\n{gemma}")
    assert re.findall(r"^  (\w+)$", echo.out, re.MULTILINE) == ["Model", "Capabilities", "License"]
    assert section(echo.out, "Capabilities") == ["completion", "vision", "tools", "thinking"]
    assert "This is the echo model of the gateway" in echo.out
    assert re.search(r"^    context length +2048 +$", gemma.out, re.MULTILINE)  # the server's own window
    then, now = recorded("show")["stdout"], program.run("show", "gemma-tools").out
    for part in ("Capabilities", "Parameters"):
        assert sorted(section(now, part)) == sorted(section(then, part))
    parameters = program.run("show", "gemma-tools", "--parameters").out
    assert calmed(parameters) == calmed(recorded("show-parameters")["stdout"])


def test_version(program: Program, transcript: Transcript) -> None:
    ran = program.run("-v")
    transcript.block(str(ran))
    assert ran.out.splitlines()[0] == "ollama version is 0.33.0"
    assert questions(ran) == recorded_questions(recorded("version"))


def test_verbose_prints_real_counts(program: Program, transcript: Transcript) -> None:
    ran = program.run("run", "gemma", "--verbose", "one two three")
    transcript.block(str(ran))
    counts = dict(re.findall(r"^(\w[\w ]+): +(\S+)", ran.err, re.MULTILINE))
    assert list(counts) == [
        "total duration", "load duration", "prompt eval count", "prompt eval duration", "prompt eval rate",
        "eval count", "eval duration", "eval rate",
    ]  # fmt: skip
    assert counts["eval count"] == "12" and int(counts["prompt eval count"]) > 3
    assert ran.out.strip()


def test_a_picture_in_the_prompt(program: Program, transcript: Transcript, tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(base64.b64decode(DOT))
    ran = program.run("run", "echo", "--think=false", f"What is this? {picture}")
    transcript.hide(str(tmp_path), "/pictures")
    transcript.block(str(ran))
    (_, _, sent) = questions(ran)[-1]
    assert sent["images"] == [DOT]
    assert ran.out.strip().endswith(f"What is this? [1 image: png, {picture.stat().st_size} bytes]")


def test_a_model_that_does_not_exist(program: Program, transcript: Transcript) -> None:
    """The program tries to pull it, as it does with a real Ollama."""
    ran = program.run("run", "nope", "hi")
    transcript.block(str(ran))
    assert questions(ran)[-1][:2] == ("POST", "/api/pull")
    assert ran.exit == 1 and ran.err.strip().startswith("Error: ")


def test_with_a_key_in_the_address(ollama_program: str, transcript: Transcript, tmp_path: Path) -> None:
    config = {"server": {"api_key": "secret-key-1"}, "providers": {}}
    with programs.gateway(tmp_path, config) as guarded, teed(guarded.url) as tee:
        env = programs.environment(tmp_path, OLLAMA_HOST=f"{tee.url}/k/secret-key-1")
        done = subprocess.run(
            [ollama_program, "run", "echo", "--think=false", "hello"], env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        paths = [one.path for one in tee.exchanges]
    transcript.block(f"$ OLLAMA_HOST=http://gateway/k/KEY ollama run echo --think=false hello\n{done.stdout}")
    assert (done.returncode, plain(done.stdout)) == (0, "hello\n\n")
    assert paths[1:] == ["/k/secret-key-1/api/show", "/k/secret-key-1/api/generate"]


def test_an_interactive_session(program: Program, transcript: Transcript) -> None:
    with program.session("echo") as session:
        assert session.type("hello you") == (
            "Thinking...\nThe user said: hello you\n...done thinking.\n\nhello you"
        )  # fmt: skip
        assert session.type("/set nothink") == "Set 'nothink' mode."
        assert session.type("hello again") == "hello again"
        assert session.type("/set system Be brief.") == "Set system message."
        assert session.type("/set parameter temperature 0.5") == "Set parameter 'temperature' to '0.5'"
        shown = session.type("/show info")
        assert re.findall(r"^  (\w+)$", shown, re.MULTILINE) == ["Model", "Capabilities", "System", "License"]
        assert "SYSTEM Be brief.\nPARAMETER temperature 0.5" in session.type("/show modelfile")
        assert "temperature                    0.5" in session.type("/show parameters")
        assert session.type("/show system") == "Be brief."
        assert session.type("/set format json") == "Set format to 'json' mode."
        assert session.type("in json") == '{"echo": "in json"}'
        assert session.type("/set noformat") == "Disabled format."
        assert session.type("/set verbose") == "Set 'verbose' mode."
        assert re.search(r"^eval count: +\d+ token\(s\)$", session.type("count"), re.MULTILINE)
        assert session.type("/load gemma") == "Loading model 'gemma'"
        assert "eval count:           12 token(s)" in session.type("one two three")
        assert session.type("/load nope") == "Loading model 'nope'\nCouldn't find model 'nope'"
        assert session.type("/clear") == "Cleared session context"
        assert session.leave("/bye") == 0
        transcript.block(session.text)


# -- (b) the program as a server ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Both:
    """A real Ollama (`address`), the gateway before it, and the program that asks the one or the other."""

    address: str
    gateway: Gateway
    direct: Program
    through: Program

    def run(self, *arguments: str) -> tuple[Ran, Ran]:
        return self.direct.run(*arguments), self.through.run(*arguments)


def create(program: str, address: str, folder: Path, name: str, weights: Path) -> None:
    modelfile = folder / f"Modelfile.{name}"
    modelfile.write_text(MODELFILES[name].replace("WEIGHTS", str(weights)), encoding="utf-8")
    made = subprocess.run(
        [program, "create", name, "-f", str(modelfile)], env=programs.environment(folder, OLLAMA_HOST=address),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert made.returncode == 0, plain(made.stderr)


@pytest.fixture(scope="module")
def both(
    ollama_program: str, weights: Path, document: Transcript, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("ollama")
    config = {
        "models": {
            "mine": "ollama/gemma-fim",
            "short": {"provider": "ollama", "model": "gemma-fim", "options": {"num_predict": 2}, "system": "Count."},
        },
    }
    with programs.ollama_server(ollama_program, folder) as address, teed(address) as straight:
        direct = Program(ollama_program, straight, folder)
        for name in MODELFILES:
            create(ollama_program, address, folder, name, weights)
        document.hide(str(folder / "models"), "$OLLAMA_MODELS")
        document.hide(straight.url, "http://ollama")
        document.hide(address, "http://ollama")
        gateway_folder = tmp_path_factory.mktemp("gateway")
        with (
            programs.gateway(gateway_folder, {"providers": {"ollama": {"base_url": address}}, **config}) as gateway,
            teed(gateway.url) as turned,
        ):
            yield Both(address, gateway, direct, Program(ollama_program, turned, folder))


def same(text: str) -> str:
    """Without what differs from one second to the next, and without how wide that makes a column."""
    text = re.sub(r"(\d+|About an?|Less than a) (second|minute|hour)s? (ago|from now)", "TIME", text)
    text = re.sub(r"\b[\d.]+ ?(µs|ms|s|tokens/s)(?=\n|$)|\b\d+m[\d.]+s", "N", text)
    return re.sub(r" +", " ", text)


TWICE = [
    ("show", "gemma-fim"),
    ("show", "gemma-think"),
    ("show", "gemma-fim", "--verbose"),
    ("show", "gemma-fim", "--template"),
    ("show", "gemma-fim", "--system"),
    ("show", "gemma-fim", "--license"),
    ("show", "gemma-fim:latest"),
    ("show", "nope"),
    ("run", "gemma-fim", "one two three"),
    ("run", "gemma-fim", "--verbose", "one two three"),
    ("run", "gemma-think", "--think", "What is 5+5?"),
    ("run", "gemma-think", "--think", "--hidethinking", "What is 5+5?"),
    ("run", "gemma-think", "--think=false", "What is 5+5?"),
    ("run", "gemma-fim", "--think", "x"),
    ("run", "gemma-fim", "--keepalive", "10m", "one two three"),
    ("ps",),
    ("stop", "gemma-fim"),
    ("stop", "gemma-think"),
    ("stop", "nope"),
    ("ps",),
]


@pytest.mark.parametrize("command", TWICE, ids=[f"{at}: {' '.join(command)}" for at, command in enumerate(TWICE, 1)])
def test_the_gateway_is_not_to_be_seen(both: Both, transcript: Transcript, command: tuple[str, ...]) -> None:
    direct, through = both.run(*command)
    transcript.block(f"directly:\n{direct}")
    transcript.block(f"through the gateway:\n{through}")
    assert (through.exit, same(through.out), same(through.err)) == (direct.exit, same(direct.out), same(direct.err))
    assert questions(through) == questions(direct)


def test_parameters_and_modelfile_but_for_the_order(both: Both, transcript: Transcript) -> None:
    for what in ("--parameters", "--modelfile"):
        direct, through = both.run("show", "gemma-fim", what)
        transcript.block(str(through))
        assert calmed(through.out) == calmed(direct.out)


def test_the_real_ollamas_models_stand_beside_the_gateways(both: Both, transcript: Transcript) -> None:
    direct, through = both.run("list")
    transcript.block(f"directly:\n{direct}")
    transcript.block(f"through the gateway:\n{through}")
    theirs, ours = rows(direct.out), rows(through.out)
    assert {name: columns[:3] for name, columns in ours.items() if name in theirs} == {
        name: columns[:3] for name, columns in theirs.items()
    }
    assert set(ours) - set(theirs) == {"echo:latest", "mine:latest", "short:latest"}


def test_an_interactive_session_with_either(both: Both, transcript: Transcript) -> None:
    lines = (
        "one two three", "/show info", "/show parameters", "/set system You are brief.", "/show system",
        "/set parameter top_k 5", "/show modelfile", "/load gemma-think", "What is 5+5?", "/set nothink",
        "/set think", "/load nope", "/clear", "/?",
    )  # fmt: skip
    heard: list[list[str]] = []
    for asked in (both.direct, both.through):
        with asked.session("gemma-fim") as session:
            heard.append([session.type(line) for line in lines])
            assert session.leave("/bye") == 0
            last = session.text
    transcript.block(last)
    assert [calmed(text) for text in heard[1]] == [calmed(text) for text in heard[0]]


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def post(address: str, path: str, body: Any) -> tuple[int, str, bytes]:
    """Status, content type and the very bytes of an answer."""
    split = urlsplit(address)
    connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=PATIENCE)
    try:
        connection.request("POST", path, compact(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


CHAT = {"messages": [{"role": "user", "content": "one two three"}], "unknown_field": {"kept": [1, 2.5]}}
ASKED = {"/api/chat": CHAT, "/api/generate": {"prompt": "one two three", "logprobs": True, "top_logprobs": 1}}
NAMES = ("gemma-fim", "gemma-fim:latest", "GEMMA-FIM", "ollama/gemma-fim", "ollama:gemma-fim:latest", "mine")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", ASKED)
def test_bytes_pass_as_they_are(both: Both, transcript: Transcript, path: str, stream: bool) -> None:
    for name in NAMES:
        both.gateway.passed()
        body = {"model": name, "stream": stream, "options": {"num_predict": 3}, **ASKED[path]}
        status, content_type, answer = post(both.gateway.url, path, body)
        (passed,) = both.gateway.passed()
        assert status == 200
        assert content_type == ("application/x-ndjson" if stream else "application/json; charset=utf-8")
        target = json.loads(passed.sent)["model"]
        assert target in ("gemma-fim", "gemma-fim:latest")
        ours, theirs = (f'"model":"{model}"'.encode() for model in (name, target))
        assert passed.sent == compact(body).replace(ours, theirs)
        assert answer == passed.received.replace(theirs, ours)
        assert json.loads(answer.splitlines()[-1])["model"] == name
    transcript.block(f"POST {path}\n{passed.asked.decode()}")
    transcript.block(f"to the real Ollama:\n{passed.sent.decode()}")
    transcript.block(f"from the real Ollama:\n{passed.received.decode()}")
    transcript.block(f"to the client:\n{answer.decode()}")


def test_an_aliass_defaults_reach_it(both: Both) -> None:
    both.gateway.passed()
    with ollama.Client(both.gateway.url, timeout=PATIENCE) as client:
        answer = client.chat("short", [{"role": "user", "content": "one two three"}])
    assert (answer.model, answer.eval_count, answer.done_reason) == ("short", 2, "length")
    (passed,) = both.gateway.passed()
    sent = json.loads(passed.sent)
    assert sent["options"] == {"num_predict": 2}
    assert sent["messages"][0] == {"role": "system", "content": "Count."}


def loaded(both: Both) -> dict[str, str]:
    """What the real Ollama itself says it has loaded: name -> until when."""
    with ollama.Client(both.address, timeout=PATIENCE) as client:
        return {str(model.model): str(model.expires_at) for model in client.ps().models}


def test_loading_and_unloading_are_real(both: Both, transcript: Transcript) -> None:
    with ollama.Client(both.gateway.url, timeout=PATIENCE) as client:
        for name in ("gemma-fim", "gemma-think"):
            client.generate(name, keep_alive=0)
        assert loaded(both) == {}
        assert client.generate("mine", keep_alive="20m").done_reason == "load"
        assert set(loaded(both)) == {"gemma-fim:latest"}
        (shown,) = client.ps().models
        assert str(shown.expires_at) == loaded(both)["gemma-fim:latest"]
        assert shown.size and shown.context_length == 2048
        assert client.chat("gemma-fim", [], keep_alive=0).done_reason == "unload"
        assert loaded(both) == {}
    ran = both.through.run("run", "mine", "one two three")
    assert set(loaded(both)) == {"gemma-fim:latest"}
    stopped = both.through.run("stop", "mine")
    assert (stopped.exit, loaded(both)) == (0, {})
    transcript.block(f"{ran}\n{stopped}\n{both.through.run('ps')}")


TOOL = {"type": "function", "function": {"name": "x", "parameters": {"type": "object", "properties": {}}}}
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("/api/chat", {"model": "nope", **HI}),
    ("/api/generate", {"model": "nope", "prompt": "hi"}),
    ("/api/embed", {"model": "nope", "input": "hi"}),
    ("/api/show", {"model": "nope"}),
    ("/api/chat", {"model": "gemma-fim", "think": True, **HI}),
    ("/api/chat", {"model": "gemma-fim", "tools": [TOOL], **HI}),
    ("/api/generate", {"model": "gemma-think", "prompt": "a", "suffix": "b"}),
    ("/api/chat", {"model": "gemma-fim", "format": "xml", **HI}),
    ("/api/chat", {"model": "gemma-fim", "options": {"temperature": "hot"}, **HI}),
    ("/api/generate", {"model": "gemma-fim", "prompt": "a", "logprobs": True, "top_logprobs": 21}),
    ("/api/generate", {"model": "gemma-fim", "keep_alive": "soon"}),
    ("/api/embed", {"model": "gemma-fim", "input": "hi"}),
    ("/api/embeddings", {"model": "gemma-fim", "prompt": "hi"}),
]


@pytest.mark.parametrize(("path", "body"), MISTAKES, ids=[f"{at}: {path}" for at, (path, _) in enumerate(MISTAKES, 1)])
def test_mistakes_are_told_in_its_words(both: Both, transcript: Transcript, path: str, body: dict[str, Any]) -> None:
    """Where it calls a client's mistake a failure of its own (5xx), the gateway says 400."""
    status, content_type, answer = post(both.address, path, body)
    ours = post(both.gateway.url, path, body)
    transcript.block(f"POST {path} {json.dumps(body)}\ndirectly: {status} {answer.decode()}")
    transcript.block(f"through the gateway: {ours[0]} {ours[2].decode()}")
    assert ours == (400 if status >= 500 else status, content_type, answer)


def test_its_engines_error_without_the_wrapping(both: Both, transcript: Transcript) -> None:
    body = {"model": "gemma-fim", "format": {"type": "nonsense"}, **HI}
    _, _, answer = post(both.address, "/api/chat", body)
    status, _, ours = post(both.gateway.url, "/api/chat", body)
    transcript.block(f"directly: {answer.decode()}\nthrough the gateway: {ours.decode()}")
    inner = json.loads(json.loads(answer)["error"])["error"]["message"]
    assert (status, json.loads(ours)) == (400, {"error": inner})


def test_it_may_come_and_go(
    ollama_program: str, weights: Path, document: Transcript, transcript: Transcript, tmp_path: Path
) -> None:
    """One that is started after the gateway is soon listed, and one that has ended is not."""
    port = programs.free_port()
    document.hide(str(port), "PORT")
    config = {"providers": {"ollama": {"base_url": f"http://127.0.0.1:{port}"}}}
    with programs.gateway(tmp_path, config) as gateway, ollama.Client(gateway.url, timeout=PATIENCE) as client:

        def names() -> set[str]:
            return {str(model.model) for model in client.list().models}

        def refused() -> ollama.ResponseError:
            with pytest.raises(ollama.ResponseError) as caught:
                client.chat("ollama/gemma-fim", HI["messages"])
            return caught.value

        before = refused()
        assert (before.status_code, names()) == (502, {"echo:latest"})
        with programs.ollama_server(ollama_program, tmp_path, port) as address:
            create(ollama_program, address, tmp_path, "gemma-fim", weights)
            wait_until(lambda: "gemma-fim:latest" in names())
            assert client.generate("gemma-fim", "one two three").response.startswith(" four five")
        wait_until(lambda: names() == {"echo:latest"})
        transcript.block(f"before: {before.error}\nafterwards: {refused().error}")


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < until
