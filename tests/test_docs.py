"""The documentation is true: what there is stands in it, what stands in it is there, and its examples work.

Every configuration key, endpoint, header, metric and log message is documented and no other; generated tables are
current; commands exist; links lead somewhere; snippets of the configuration load, programs run, and requests bring the
answers that are shown.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import io
import itertools
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import cast

import pytest
from configs import configured, schema_keys
from conftest import Start
from gateway import Gateway
from rich.console import Console
from typer.testing import CliRunner

from docs import make_tables
from ollama_bridge.cli import cli
from ollama_bridge.config import load
from ollama_bridge.config.schema import UNSUPPORTED_SECTIONS, File
from ollama_bridge.errors import Scope
from ollama_bridge.policy import tasks
from ollama_bridge.policy.metrics import Metrics
from ollama_bridge.terminal import screen
from ollama_bridge.web import routes
from ollama_bridge.web.ports import Services, WebSettings
from ollama_bridge.web.router import Found, Router, split_target

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("bench/*.md")])
SOURCES = sorted((ROOT / "ollama_bridge").rglob("*.py"))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ---- blocks of code --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block. `language` is the whole of what stands behind the fence."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def id(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def blocks(*languages: str, pages: Iterable[Path] = PAGES) -> list[Block]:
    found = []
    for page in pages:
        text = text_of(page)
        for match in re.finditer(r"^```(.*)\n((?s:.*?))^```$", text, re.MULTILINE):
            if match[1] in languages:
                found.append(Block(page, text.count("\n", 0, match.start()) + 2, match[1], match[2]))
    return found


def each(found: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", found, ids=[block.id for block in found])


def rows(text: str, heading: str) -> list[list[str]]:
    """The table rows of the section under a heading, as cells."""
    section = re.search(rf"^#+ {re.escape(heading)}\n((?s:.*?))(?=^#|\Z)", text, re.MULTILINE)
    assert section is not None, f"no heading {heading}"
    lines = [line for line in section[1].splitlines() if line.startswith("| ")]
    return [cells_of(line) for line in lines[2:]]


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# ---- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", make_tables.PAGES)
def test_the_generated_tables_are_current(name: str) -> None:
    assert text_of(DOCS / name) == make_tables.pages()[DOCS / name], "run `make docs`"


def test_every_configuration_key_is_documented_and_no_other() -> None:
    text = text_of(DOCS / "configuration.md")
    documented: set[str] = set()
    for place, table in re.findall(r"<!-- table: (\S+) -->\n((?s:.*?))<!-- end of table -->", text):
        start = "" if place == "top" else place.replace("NAME", "*") + "."
        for key, _, _, meaning in map(cells_of, table.splitlines()[2:]):
            documented.add(start + key.strip("`"))
            assert meaning, f"{place}: {key} has no comment in config.yaml"
            if start + key == "models.*.`options`":
                documented |= {f"models.*.options.{name}" for name in re.findall(r"\b[a-z_]+\b", meaning)}
    keys = schema_keys(File)
    sections = {key for key in keys if any(other.startswith((f"{key}.", f"{key}.*")) for other in keys)}
    limits = {key for key in keys if re.fullmatch(r"(models|providers)\.\*\.timeouts\.\w+", key)}  # as `timeouts`
    assert documented & keys | sections | limits == keys
    assert {key for key in documented if not key.startswith("models.*.options.")} <= keys


def test_what_the_configuration_refuses_by_name_is_documented() -> None:
    text = text_of(DOCS / "configuration.md")
    assert {quoted(cells[0])[0] for cells in rows(text, "Sections of other versions")} == set(UNSUPPORTED_SECTIONS)


CONFIGURATIONS = blocks("yaml")


@each(CONFIGURATIONS)
def test_a_configuration_shown_loads(block: Block, tmp_path: Path) -> None:
    config = configured(tmp_path, block.text)
    assert config.providers or config.models


def test_the_variables_shown_exist() -> None:
    known = set(re.findall(r"^([A-Z_]+)=$", text_of(ROOT / ".env.example"), re.MULTILINE))
    shown = {name for block in blocks("dotenv") for name in re.findall(r"^([A-Z_]+)=", block.text, re.MULTILINE)}
    assert shown and {name.removesuffix("_FILE") for name in shown} <= known


# ---- the API ---------------------------------------------------------------------------------------------------------


def route_table() -> list[routes.Route]:
    """The routes alone: nothing behind them is asked."""
    return routes.table(cast(Services, None), WebSettings(), lambda: True)


def endpoints(wanted: Callable[[routes.Route], bool]) -> set[str]:
    return {f"{method} {route.path}" for route in route_table() if wanted(route) for method in route.methods}


def is_built(route: routes.Route) -> bool:
    return route.handler.__name__ != "unavailable"


@pytest.mark.parametrize(
    "heading, wanted",
    [
        (
            "Ollama's",
            lambda route: is_built(route) and route.path.startswith(("/api/", "/")) and route.door == "ollama",
        ),
        ("OpenAI's", lambda route: is_built(route) and route.door == "openai"),
        ("Plain doors", lambda route: route.door == "plain"),
        ("Not in this version", lambda route: not is_built(route)),
    ],
    ids=["ollama", "openai", "plain", "not-built"],
)
def test_every_endpoint_is_documented_and_no_other(heading: str, wanted: Callable[[routes.Route], bool]) -> None:
    api = text_of(DOCS / "api.md")
    documented = {endpoint for cells in rows(api, heading) for endpoint in quoted(cells[0])}
    operating = {endpoint for cells in rows(api, "For whoever runs it") for endpoint in quoted(cells[0])}
    assert operating
    if heading == "Ollama's":
        documented |= operating
    assert documented == endpoints(wanted)


def test_the_endpoints_without_a_key_are_named() -> None:
    open_to_all = {route.path for route in route_table() if not route.needs_key}
    [sentence] = re.findall(r"Every endpoint but (.*?) asks\s+for the key", text_of(DOCS / "api.md"))
    assert set(quoted(sentence)) == open_to_all


def literals(pattern: str) -> set[str]:
    """What `pattern` finds in the source's string literals, docstrings and comments left out."""
    found: set[str] = set()
    for path in SOURCES:
        tree = ast.parse(text_of(path))
        docstrings = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                found |= set(re.findall(pattern, node.value))
    return found


def test_every_bridge_header_is_documented_and_no_other() -> None:
    in_code = literals(r"^X-Bridge-[A-Za-z-]+$")
    assert len(in_code) > 5
    headings = ("Request headers", "Answer headers")
    tables = [row for heading in headings for row in rows(text_of(DOCS / "api.md"), heading)]
    assert {name for cells in tables for name in quoted(cells[0]) if name.startswith("X-Bridge")} == in_code
    anywhere = {name for page in PAGES for name in re.findall(r"X-Bridge-[A-Z][A-Za-z-]*\w", text_of(page))}
    assert anywhere == in_code


def test_every_request_header_that_is_read_is_documented_and_no_other() -> None:
    read: set[str] = set()
    for path in (ROOT / "ollama_bridge" / "web").glob("*.py"):
        read |= set(re.findall(r'headers(?:\.get\(|\[)"([A-Z][\w-]*)"', text_of(path)))
    assert len(read) > 5
    read |= {tasks.PRIVACY_HEADER, tasks.TASK_HEADER, tasks.EXPLAIN_HEADER}
    table = rows(text_of(DOCS / "api.md"), "Request headers")
    assert {name for cells in table for name in quoted(cells[0])} == read


ANSWERING = {"Answer", "GatewayError", "Redirect", "Unreadable", "_text", "make", "refuse"}


def statuses() -> set[str]:
    """What the code answers with: the numbers that are given to whatever makes an answer or an error."""
    known = {status.value for status in HTTPStatus if status >= 200}
    found: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ANSWERING:
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                inside = [inner.value for each in given for inner in ast.walk(each) if isinstance(inner, ast.Constant)]
                found |= {str(value) for value in inside if type(value) is int and value in known}
    return found


def test_every_status_is_documented_and_no_other() -> None:
    table = rows(text_of(DOCS / "api.md"), "Statuses")
    documented = {number for cells in table for number in cells[0].split(", ")}
    assert documented == statuses()


# ---- metrics and logs ------------------------------------------------------------------------------------------------


def metrics_of_the_code() -> dict[str, tuple[str, list[str]]]:
    """Name as scraped -> (kind, labels)."""
    found = {}
    for collector in vars(Metrics()).values():
        for family in collector.collect() if hasattr(collector, "describe") else ():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, list(collector._labelnames))
    return found


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    documented = {
        quoted(name)[0]: (kind, quoted(labels))
        for name, kind, labels, _ in rows(text_of(DOCS / "metrics.md"), "Metrics")[: len(metrics_of_the_code())]
    }
    assert documented == metrics_of_the_code()


def test_every_reason_of_a_failure_is_documented() -> None:
    [reasons] = [cells[1] for cells in rows(text_of(DOCS / "metrics.md"), "Metrics") if cells[0] == "`reason`"]
    assert {*Scope, "cancelled", "failed"} == set(quoted(reasons))


def log_messages() -> set[str]:
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                owner = ast.unparse(node.func.value)
                first = node.args[0]
                if node.func.attr in ("debug", "info", "warning", "error") and owner.endswith("log"):
                    assert isinstance(first, ast.Constant), f"{path.name}: a log message that is no literal"
                    found.add(first.value)
    return found


def test_every_log_message_is_documented_and_no_other() -> None:
    assert len(log_messages()) > 5
    assert {quoted(cells[0])[0] for cells in rows(text_of(DOCS / "metrics.md"), "Logs")} == log_messages()


# ---- commands --------------------------------------------------------------------------------------------------------

PYTHONS = ("python", "python3", ".venv/bin/python")


def command_lines() -> Iterator[tuple[str, str]]:
    """(place, command) of every shell block and console session."""
    for block in blocks("sh"):
        yield from ((block.id, line) for line in block.text.splitlines() if line and not line.startswith("#"))
    for block in blocks("console"):
        yield from ((block.id, line[2:]) for line in block.text.splitlines() if line.startswith("$ "))


COMMANDS = list(command_lines())


@pytest.mark.parametrize(
    "line", [line for _, line in COMMANDS], ids=[f"{place}-{line[:30]}" for place, line in COMMANDS]
)
def test_a_command_shown_exists(line: str) -> None:
    words = shlex.split(line, comments=True)
    known: dict[str, Callable[[list[str]], bool]] = {
        "make": lambda rest: rest[0] in make_targets(),
        "cp": lambda rest: (ROOT / rest[0]).is_file(),
        "curl": lambda rest: all(is_endpoint(word) for word in rest if word.startswith("http")),
        "export": lambda rest: "=" in rest[0],
        "ollama": lambda rest: rest[0] in ("run", "list", "show", "ps"),
        "ollama-bridge": is_subcommand,
        **dict.fromkeys(PYTHONS, python_finds),
    }
    assert words[0] in known, f"who knows {words[0]}?"
    assert known[words[0]](words[1:]), line


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))


def python_finds(rest: list[str]) -> bool:
    if rest[0] != "-m":
        return (ROOT / rest[0]).is_file()
    if rest[1] == "ollama_bridge":
        return is_subcommand(rest[2:])
    files = rest[rest.index("-r") + 1 :] if "-r" in rest else []
    return importlib.util.find_spec(rest[1]) is not None and all((ROOT / name).is_file() for name in files)


def is_subcommand(rest: list[str]) -> bool:
    files = [name for option, name in itertools.pairwise(rest) if option == "--config"]
    return all((ROOT / name).is_file() for name in files) and runs([rest[0], "--help"])


def runs(arguments: list[str]) -> bool:
    return CliRunner().invoke(cli, arguments).exit_code == 0


def is_endpoint(url: str) -> bool:
    path = "/" + url.partition("://")[2].partition("/")[2]
    router = Router(route_table())
    return any(isinstance(router.resolve(method, split_target(path)), Found) for method in ("GET", "POST"))


def test_the_first_two_commands_of_the_readme_start_and_test() -> None:
    commands = [block.text.strip() for block in blocks("sh", pages=[README])]
    assert commands[:2] == ["make run", "make test"]


def test_the_targets_of_make_that_pages_name_exist() -> None:
    named = {target for page in PAGES for target in re.findall(r"`make ([a-z-]+)", text_of(page))}
    assert named <= make_targets()


# ---- examples that are run -------------------------------------------------------------------------------------------


def test_the_start_up_screen_is_the_one_shown() -> None:
    out = io.StringIO()
    screen.startup(load(ROOT / "config.yaml", env={}), "localhost:8000", Console(file=out, width=400, soft_wrap=True))
    [shown] = blocks("text", pages=[README])
    assert shown.text == out.getvalue()


def sessions() -> list[tuple[str, str, str]]:
    """(place, curl command, what it printed) of every request that is shown with its answer."""
    found = []
    for block in blocks("console"):
        for session in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, printed = session.partition("\n")
            if command.startswith("curl "):
                found.append((block.id, command, printed))
    return found


SESSIONS = sessions()


@pytest.mark.parametrize(
    "place, command, printed", SESSIONS, ids=[f"{place}-{n}" for n, (place, *_) in enumerate(SESSIONS)]
)
async def test_a_request_shown_brings_the_answer_shown(
    place: str, command: str, printed: str, gateway_of: Start
) -> None:
    async with gateway_of({}) as gateway:
        answer = await curl(command, gateway)
    assert steady(answer) == steady(printed.strip())


async def curl(command: str, gateway: Gateway) -> str:
    """What `curl -s URL -d BODY` prints."""
    _, option, url, data, body = shlex.split(command)
    assert (option, data) == ("-s", "-d")
    json.loads(body)
    async with gateway.http.post(url.replace("http://localhost:8000", gateway.url), data=body) as answer:
        return (await answer.text()).strip()


def steady(answer: str) -> str:
    """Without what differs from one answer to the next: times, durations, ids."""
    answer = re.sub(r'"created_at":"[^"]+"', '"created_at":"…"', answer)
    answer = re.sub(r'"(created|\w+_duration)":\d+', r'"\1":0', answer)
    return re.sub(r'"chatcmpl-\w+"', '"chatcmpl-…"', answer)


PROGRAMS = blocks("python")
INSTALLED = {"ollama", "openai"}  # what tests need; programs for other packages are only compiled


def packages(program: Block) -> set[str]:
    return set(re.findall(r"^from (\w+) import", program.text, re.MULTILINE))


@each(PROGRAMS)
def test_a_program_shown_compiles(block: Block) -> None:
    compile(block.text, block.id, "exec")


@each([program for program in PROGRAMS if packages(program) <= INSTALLED])
async def test_a_program_shown_runs(block: Block, gateway_of: Start) -> None:
    async with gateway_of({}) as gateway:
        text = block.text.replace("http://localhost:8000", gateway.url)
        pipe = asyncio.subprocess.PIPE
        program = await asyncio.create_subprocess_exec(sys.executable, "-c", text, stdout=pipe, stderr=pipe)
        out, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()
    assert out.decode().strip() == "Hello"


@each(blocks("json"))
def test_json_shown_is_json(block: Block) -> None:
    json.loads(block.text)


def test_examples_were_found() -> None:
    """A test over what a pattern finds proves nothing when it finds nothing."""
    assert len(SESSIONS) >= 5 and len(PROGRAMS) >= 3 and len(CONFIGURATIONS) >= 4 and len(COMMANDS) >= 15


# ---- links and paths -------------------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(r"^```(?s:.*?)^```$", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:docs|tests|bench|ollama_bridge|policy|dialects|providers|web|config)/[\w./-]+)`", text_of(page)
    )
    places = (ROOT, ROOT / "ollama_bridge")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", text_of(README))}
    assert [name_of(page) for page in sorted(DOCS.glob("*.md")) if page not in linked] == []
