"""Compares a server's answers with recorded ones of a real Ollama (tests/data/golden; its README explains `compare`).

Knows: the files, raw HTTP, what may differ between two answers of the same kind. Must not know: the gateway's code.

    for case in cases("chat"):
        differences = await run_case("http://127.0.0.1:8000", case)
        assert not differences, report(differences)
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FOLDER = Path(__file__).resolve().parent / "data" / "golden"
PATIENCE = 30.0  # seconds for one whole answer

COMPARED = ("allow", "cache-control", "content-type", "location", "vary")
COMPARED_STARTS = ("access-control-",)
FREE = ("connection", "content-length", "date", "retry-after", "transfer-encoding", "x-request-id")
FREE_STARTS = ("x-bridge-",)
STREAMS = {"application/x-ndjson": b"\n", "text/event-stream": b"\n\n"}
LEFT_OUT = {"tensors"}  # keys that may be there or not
OPAQUE = {"arguments", "model_info"}  # objects whose inner keys are the model's own


# -- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """An answer, recorded or received. `chunks` are the sizes of the HTTP chunks, None without chunked encoding;
    `whole` is False when the connection ended before the answer did."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    chunks: tuple[int, ...] | None = None
    whole: bool = True

    def header(self, name: str) -> list[str]:
        """All values of a header; `name` in lower case."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def media_type(self) -> str:
        return "".join(self.header("content-type")).partition(";")[0]

    @property
    def framing(self) -> str:
        if self.chunks is not None or self.header("transfer-encoding"):
            return "chunked"
        return "length" if self.header("content-length") else "none"


@dataclass(frozen=True)
class Step:
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    compare: str  # exact, shape, status, none
    answer: Answer | None


@dataclass(frozen=True)
class Case:
    """`file` is the name of its file without the ending: unique in its group, fit for an id."""

    group: str
    file: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{self.group}/{self.file}"


@dataclass(frozen=True)
class Difference:
    """`where`: the case and its step. `what`: a header, `status`, a path into the body ..."""

    where: str
    what: str
    expected: object
    got: object

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n    expected {_shown(self.expected)}\n    got      {_shown(self.got)}"


def cases(group: str, without: Collection[str] = ()) -> list[Case]:
    """All cases of a group, but for the files named in `without` (each must exist: a stale name is an error)."""
    found = [_case(path) for path in sorted((FOLDER / group).glob("*.json"))]
    unknown = set(without) - {case.file for case in found}
    if unknown:
        raise ValueError(f"golden group {group!r} has no {sorted(unknown)}")
    return [case for case in found if case.file not in without]


def report(differences: list[Difference]) -> str:
    return "\n".join(map(str, differences))


def _case(path: Path) -> Case:
    stored = json.loads(path.read_text(encoding="utf-8"))
    return Case(stored["group"], path.stem, tuple(_step(step) for step in stored["steps"]))


def _step(stored: dict[str, Any]) -> Step:
    request, response = stored["request"], stored.get("response")
    encoded = request.get("body_base64")
    body = base64.b64decode(encoded) if encoded is not None else request["body"].encode()
    answer = None
    if response is not None:
        chunks = response.get("chunks")
        answer = Answer(
            response["status"],
            _pairs(response["headers"]),
            response["body"].encode(),
            None if chunks is None else tuple(chunks),
        )
    return Step(request["method"], request["path"], _pairs(request["headers"]), body, stored["compare"], answer)


def _pairs(lines: list[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))


# -- one request, byte for byte --------------------------------------------------------------------------------------


async def run_case(base_url: str, case: Case) -> list[Difference]:
    """Sends the steps in order. An answer that does not come is a difference too."""
    differences: list[Difference] = []
    for number, step in enumerate(case.steps, 1):
        where = str(case) if len(case.steps) == 1 else f"{case} step {number}"
        try:
            received = await send(base_url, step.method, step.path, step.headers, step.body)
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
            differences.append(Difference(where, "an answer", step.compare, repr(error)))
            continue
        differences += compare(step, received, where)
    return differences


async def send(
    base_url: str, method: str, path: str, headers: Collection[tuple[str, str]] = (), body: bytes = b""
) -> Answer:
    """`path` goes out as it is. A `Host` of its own among the headers replaces the address. One connection each.

    Raises OSError, TimeoutError, ValueError (no HTTP), IncompleteReadError (ended inside the head)."""
    address = urlsplit(base_url)
    lines = [f"{method} {path} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append(f"Host: {address.netloc}")
    lines += [f"{name}: {value}" for name, value in headers]
    if body or method not in ("GET", "HEAD", "OPTIONS"):
        lines.append(f"Content-Length: {len(body)}")
    lines.append("Connection: close")
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            head = await reader.readuntil(b"\r\n\r\n")
            return answer_of(method, head, await reader.read())
        finally:
            writer.close()


def answer_of(method: str, head: bytes, rest: bytes) -> Answer:
    """The answer made of its head and all bytes after it, up to the end of the connection."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    status = int(first.split(" ")[1])
    headers = _pairs(lines)
    answer = Answer(status, headers, rest)
    if method == "HEAD" or status in (204, 304):
        return Answer(status, headers, rest, whole=not rest)
    if answer.header("transfer-encoding"):
        body, chunks, whole = _dechunked(rest)
        return Answer(status, headers, body, chunks, whole)
    length = "".join(answer.header("content-length"))
    return Answer(status, headers, rest, whole=not length or len(rest) == int(length))


def _dechunked(rest: bytes) -> tuple[bytes, tuple[int, ...], bool]:
    pieces: list[bytes] = []
    while rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            return b"".join(pieces), tuple(map(len, pieces)), rest == b"\r\n"
        pieces.append(rest[:size])
        rest = rest[size + 2 :]
    return b"".join(pieces), tuple(map(len, pieces)), False


# -- comparison ------------------------------------------------------------------------------------------------------


def compare(step: Step, got: Answer, where: str = "") -> list[Difference]:
    """What of `got` a client of a real Ollama would notice, as far as the step's `compare` asks for it."""
    expected = step.answer
    if step.compare == "none" or expected is None:
        return []
    found: list[tuple[str, object, object]] = []
    # A client's mistake that a real Ollama answers with a 5xx is a 400 with the same words here.
    status = 400 if expected.status >= 500 else expected.status
    if got.status != status:
        found.append(("status", status, f"{got.status} {got.body[:300]!r}"))
    elif step.compare != "status":
        found += _headers(expected, got)
        if not got.whole:
            found.append(("the end of the answer", "complete", "cut"))
        if step.compare == "exact":
            found += _exact(step, expected, got)
        elif step.method != "HEAD":
            found += _shape(expected, got)
    return [Difference(where, *difference) for difference in found]


def _headers(expected: Answer, got: Answer) -> Iterator[tuple[str, object, object]]:
    names = {name.lower() for name, _ in expected.headers + got.headers}
    for name in sorted(names):
        if name in COMPARED or name.startswith(COMPARED_STARTS):
            if expected.header(name) != got.header(name):
                yield f"header {name}", expected.header(name), got.header(name)
        elif name not in FREE and not name.startswith(FREE_STARTS) and not expected.header(name):
            yield f"header {name}", [], got.header(name)


def _exact(step: Step, expected: Answer, got: Answer) -> Iterator[tuple[str, object, object]]:
    if expected.framing != got.framing:
        yield "framing", expected.framing, got.framing
    if expected.chunks is not None and got.chunks is not None and len(expected.chunks) != len(got.chunks):
        yield "number of chunks", len(expected.chunks), len(got.chunks)
    length = expected.header("content-length"), got.header("content-length")
    if step.method == "HEAD" and length[0] != length[1]:
        yield "header content-length", *length
    if scrub(expected.body) != scrub(got.body):
        yield "body", expected.body, got.body


_SCRUBBED = (
    (re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), b"TIME"),
    (re.compile(rb'("(?:created|\w+_duration)":)\d+'), rb"\1NUMBER"),
    (re.compile(rb"\b(chatcmpl|cmpl|call|resp|msg|rs|fc|req|toolu)[-_][0-9a-zA-Z]+"), rb"\1-ID"),
    (re.compile(rb"\b[0-9a-f]{64}\b"), b"DIGEST"),
)


def scrub(body: bytes) -> bytes:
    """Times, ids, durations and digests replaced by words."""
    for pattern, word in _SCRUBBED:
        body = pattern.sub(word, body)
    return body


def _shape(expected: Answer, got: Answer) -> Iterator[tuple[str, object, object]]:
    frame_end = STREAMS.get(expected.media_type)
    if frame_end is None:
        yield from _shape_of_one(expected.body, got.body)
        return
    if got.chunks is None:
        yield "framing", "chunked", got.framing
    at = 0
    for number, size in enumerate(got.chunks or (), 1):
        chunk = got.body[at : at + size]
        at += size
        if chunk.strip(b" ") and not chunk.endswith(frame_end):
            yield f"chunk {number}", "whole frames", chunk
    wanted, kinds = _kinds(expected.body, frame_end), _kinds(got.body, frame_end)
    for kind in dict.fromkeys(wanted):
        if not any(_same(kind, other) for other in kinds):
            yield "a frame that never came", kind, list(dict.fromkeys(kinds))
    for kind in dict.fromkeys(kinds):
        if not any(_same(other, kind) for other in wanted):
            yield "a frame of no known kind", list(dict.fromkeys(wanted)), kind
    if wanted and kinds and not _same(wanted[-1], kinds[-1]):
        yield "the last frame", wanted[-1], kinds[-1]


def _kinds(body: bytes, frame_end: bytes) -> list[Shape]:
    return [_kind(frame) for frame in body.split(frame_end) if frame.strip()]


def _kind(frame: bytes) -> Shape:
    """NDJSON: the shape of the line. SSE: the event's name with the shape of its data, which may be no JSON."""
    text = frame.decode("utf-8", "replace").strip(" ")
    if text.startswith(("data:", "event:", ":")):
        fields = [line.partition(": ") for line in text.split("\n")]
        return ("object", tuple((name, _shape_or_text(value, name)) for name, _, value in fields))
    return _shape_or_text(text, "")


def _shape_or_text(text: str, field: str) -> Shape:
    if field == "event":
        return f"text {text!r}"
    try:
        return shape(json.loads(text))
    except ValueError:
        return f"text {text!r}"


def _shape_of_one(expected: bytes, got: bytes) -> Iterator[tuple[str, object, object]]:
    try:
        wanted = json.loads(expected)
    except ValueError:
        if expected != got:
            yield "body", expected, got
        return
    try:
        given = json.loads(got)
    except ValueError:
        yield "body", "JSON", got
        return
    if expected.endswith(b"\n") != got.endswith(b"\n"):
        yield "end of body", expected[-1:], got[-1:]
    yield from _differ(shape(wanted), shape(given), "body")


# A JSON value without its words: a type's name, ("object", ((key, shape), ...)) in order, ("array", shapes of items).
Shape = str | tuple[str, tuple[Any, ...]]


def shape(value: Any) -> Shape:
    if isinstance(value, dict):
        kept = [(key, inner) for key, inner in value.items() if key not in LEFT_OUT]
        return (
            "object",
            tuple(
                (key, "object" if key in OPAQUE and isinstance(inner, dict) else shape(inner)) for key, inner in kept
            ),
        )
    if isinstance(value, list):
        return ("array", tuple(dict.fromkeys(map(shape, value))))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    return "integer" if isinstance(value, int) else "number"


def _member(key: str, value: Any) -> Shape:
    return "object" if key in OPAQUE and isinstance(value, dict) else shape(value)


def _same(expected: Shape, got: Shape) -> bool:
    return next(_differ(expected, got, ""), None) is None


def _differ(expected: Shape, got: Shape, path: str) -> Iterator[tuple[str, object, object]]:
    """Where two shapes part. A whole number may stand for any number (Go writes 1.0 as 1), not the other way round."""
    if isinstance(expected, str) or isinstance(got, str):
        if expected != got and (expected, got) != ("number", "integer"):
            yield path, expected, got
    elif expected[0] != got[0]:
        yield path, expected[0], got[0]
    elif expected[0] == "array":
        if bool(expected[1]) != bool(got[1]):
            yield path, f"{len(expected[1]) or 'no'} kind(s) of item", f"{len(got[1]) or 'no'}"
            return
        for item in got[1]:
            tries = [list(_differ(known, item, f"{path}[]")) for known in expected[1]]
            yield from min(tries, key=len)
    else:
        wanted, given = dict(expected[1]), dict(got[1])
        if list(wanted) != list(given):
            yield f"{path} keys", list(wanted), list(given)
        for key in wanted.keys() & given.keys():
            yield from _differ(wanted[key], given[key], f"{path}.{key}")


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 1000 else f"{text[:700]} … {text[-250:]}"
