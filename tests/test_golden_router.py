"""Routing, CORS and the Host guard answer as a real Ollama does: golden groups router, cors and host, every case."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from golden import FOLDER, Answer, Step, cases, compare, report, run_case
from web_stubs import front

COUNTS = {"router": 38, "cors": 23, "host": 8}


@pytest.mark.parametrize("group", COUNTS)
async def test_every_case_is_equal(group: str) -> None:
    differences = []
    compared = cases(group)
    async with front() as gateway:
        for case in compared:
            differences += await run_case(gateway.url, case)
    print(f"golden {group}: {len(compared)} cases compared")
    assert not differences, report(differences)
    assert len(compared) >= COUNTS[group]


@pytest.mark.parametrize(
    "group", sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "cli")
)
def test_a_recorded_answer_equals_itself(group: str) -> None:
    """All groups can be read, and the comparison asks for nothing that a real Ollama does not do."""
    for case in cases(group):
        for step in case.steps:
            if step.answer is not None:
                got = replace(step.answer, status=400) if step.answer.status >= 500 else step.answer
                assert report(compare(step, got, str(case))) == ""


# -- the comparison itself must be able to fail ----------------------------------------------------------------------

NDJSON = (("Content-Type", "application/x-ndjson"),)
LINE = b'{"model":"m","message":{"role":"assistant","content":"Hi"},"done":false}\n'
LAST = b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"eval_count":6}\n'


def answer(
    body: bytes, headers: tuple[tuple[str, str], ...] = NDJSON, status: int = 200, sizes: tuple[int, ...] | None = None
) -> Answer:
    return Answer(status, headers, body, sizes or (len(body),))


def whole(value: object, status: int = 200) -> Answer:
    return Answer(status, (("Content-Type", "application/json"), ("Content-Length", "1")), json.dumps(value).encode())


STREAM = answer(LINE + LINE + LAST, sizes=(len(LINE), len(LINE), len(LAST)))
SAME = {
    "fewer lines": ("shape", STREAM, answer(LINE + LAST)),
    "a heart-beat": ("shape", STREAM, answer(b" " + LINE + LAST, sizes=(1, len(LINE), len(LAST)))),
    "other words": ("shape", whole({"a": "x", "b": [1.5]}), whole({"a": "y", "b": [1, 2.5]})),
    "other tensors": ("shape", whole({"a": 1, "tensors": [1]}), whole({"a": 1})),
    "other model_info": ("shape", whole({"model_info": {"x": 1}}), whole({"model_info": {"y": "z"}})),
    "time and digest": (
        "exact",
        whole({"at": "2026-01-01T00:00:00Z", "d": "a" * 64}),
        whole({"at": "2027-01-01T00:00:00.5Z", "d": "b" * 64}),
    ),
    "a 5xx of the client": ("exact", whole({"error": "x"}, 500), whole({"error": "x"}, 400)),
    "only the status": ("status", whole({"a": 1}), whole([])),
    "nothing": ("none", whole({"a": 1}), whole([], 500)),
}
DIFFERENT = {
    "status": ("status", whole({}), whole({}, 404)),
    "a 5xx that stays one": ("exact", whole({"error": "x"}, 500), whole({"error": "x"}, 500)),
    "content type": ("shape", whole({}), answer(b"{}")),
    "a header more": (
        "shape",
        whole({}),
        Answer(200, (("Content-Type", "application/json"), ("Server", "x"), ("Content-Length", "2")), b"{}"),
    ),
    "Vary in one line": (
        "exact",
        answer(b"", (("Vary", "Origin"), ("Vary", "X"))),
        answer(b"", (("Vary", "Origin, X"),)),
    ),
    "words": ("exact", whole({"error": "x"}), whole({"error": "y"})),
    "framing": ("exact", answer(b"{}", ()), Answer(200, (), b"{}")),
    "key order": ("shape", whole({"a": 1, "b": 2}), whole({"b": 2, "a": 1})),
    "a key more": ("shape", whole({"a": 1}), whole({"a": 1, "b": None})),
    "type": ("shape", whole({"a": {"b": 1}}), whole({"a": {"b": "1"}})),
    "no whole number": ("shape", whole({"n": 6}), whole({"n": 6.5})),
    "an item of another kind": ("shape", whole([{"a": 1}]), whole([{"a": 1}, {"b": 1}])),
    "no items": ("shape", whole({"models": [1]}), whole({"models": []})),
    "line end": ("shape", Answer(200, (), b"{}\n"), Answer(200, (), b"{}")),
    "a split line": ("shape", STREAM, answer(LINE + LAST, sizes=(5, len(LINE) - 5, len(LAST)))),
    "not chunked": ("shape", STREAM, Answer(200, NDJSON, LINE + LAST)),
    "no content line": ("shape", STREAM, answer(LAST)),
    "an unknown line": ("shape", STREAM, answer(LINE + b'{"error":"x"}\n' + LAST)),
    "no last line": ("shape", answer(LINE + LAST), answer(LAST + LINE)),
    "last keys": ("shape", STREAM, answer(LINE + LAST.replace(b',"eval_count":6', b""))),
    "SSE without DONE": (
        "shape",
        answer(b'data: {"a":1}\n\ndata: [DONE]\n\n', (("Content-Type", "text/event-stream"),)),
        answer(b'data: {"a":1}\n\n', (("Content-Type", "text/event-stream"),)),
    ),
    "SSE event name": (
        "shape",
        answer(b'event: a\ndata: {"a":1}\n\n', (("Content-Type", "text/event-stream"),)),
        answer(b'event: b\ndata: {"a":1}\n\n', (("Content-Type", "text/event-stream"),)),
    ),
    "cut": ("shape", STREAM, Answer(200, NDJSON, LINE + LAST, (len(LINE), len(LAST)), whole=False)),
}


@pytest.mark.parametrize(("mode", "expected", "got"), SAME.values(), ids=SAME)
def test_answers_that_a_client_cannot_tell_apart(mode: str, expected: Answer, got: Answer) -> None:
    assert report(compare(Step("GET", "/", (), b"", mode, expected), got)) == ""


@pytest.mark.parametrize(("mode", "expected", "got"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_difference_is_found_and_can_be_read(mode: str, expected: Answer, got: Answer) -> None:
    found = compare(Step("GET", "/", (), b"", mode, expected), got, "here")
    assert found
    assert report(found).startswith("here: ")


async def test_no_answer_is_a_difference() -> None:
    [difference] = await run_case("http://127.0.0.1:1", cases("host")[0])
    assert "an answer" in str(difference)


def test_a_stale_exception_is_an_error() -> None:
    with pytest.raises(ValueError, match="no-such-case"):
        cases("router", without=["no-such-case"])
    assert len(cases("router", without=["root-head"])) == COUNTS["router"] - 1
