"""SSE and NDJSON readers give the same frames however the bytes are cut; JSON is written as Go writes it."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.framing import (
    MAX_FRAME,
    MAX_LINES,
    BadJSON,
    EventsOrBody,
    FrameTooLong,
    Lines,
    ServerSentEvents,
    go_dumps,
    loads,
    sse,
)


def read_sse(data: bytes, cuts: list[int]) -> list[tuple[str | None, bytes]]:
    reader = ServerSentEvents()
    frames: list[tuple[str | None, bytes]] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        frames += reader.feed(data[start:end])
    return frames + reader.end()


SSE_CASES = {
    "lf": (b"data: a\n\ndata: b\n\n", [(None, b"a"), (None, b"b")]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(None, b"a"), (None, b"b")]),
    "cr": (b"data: a\r\rdata: b\r\r", [(None, b"a"), (None, b"b")]),
    "no blank after the colon": (b"data:a\n\n", [(None, b"a")]),
    "one blank only is dropped": (b"data:  a\n\n", [(None, b" a")]),
    "named": (b"event: error\ndata: {}\n\n", [("error", b"{}")]),
    "comments": (b": OPENROUTER PROCESSING\n\ndata: a\n\n:\n\n", [(None, b"a")]),
    "several data lines": (b"data: a\ndata: b\n\n", [(None, b"a\nb")]),
    "id and retry": (b"id: 7\nretry: 10\ndata: a\n\n", [(None, b"a")]),
    "empty data line": (b"data:\n\ndata: \n\ndata\n\ndata: a\n\n", [(None, b"a")]),
    "last event without blank line": (b"data: a\n\ndata: b\n", [(None, b"a"), (None, b"b")]),
    "last line without line end": (b"data: a\n\ndata: b", [(None, b"a"), (None, b"b")]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [(None, b"a")]),
    "a name alone is no event": (b"event: ping\n\ndata: a\n\n", [(None, b"a")]),
    "utf-8": ("data: 🦙\u0085é\n\n".encode(), [(None, "🦙\u0085é".encode())]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("data", "frames"), SSE_CASES.values(), ids=SSE_CASES)
def test_sse_cut_at_every_byte(data: bytes, frames: list[tuple[str | None, bytes]]) -> None:
    for cut in range(len(data) + 1):
        assert read_sse(data, [cut]) == frames
    assert read_sse(data, list(range(len(data)))) == frames


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)), min_size=1), max_size=8),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_sse_gives_back_what_was_written(texts: list[str], cuts: list[int]) -> None:
    data = b"".join(sse(json.dumps(text).encode()) for text in texts)
    assert read_sse(data, cuts) == [(None, json.dumps(text).encode()) for text in texts]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_sse_takes_any_bytes_and_any_cut(data: bytes, cuts: list[int]) -> None:
    assert read_sse(data, cuts) == read_sse(data, [])


# Pieces of which streams are made that are read by rows, by lines, or now one way and now the other.
SSE_WHOLE = (
    b"data: a\n\n",
    b"data: b\r\n\r\n",
    b"event: x\ndata: c\n\n",
    b"event: x\r\ndata: d\r\n\r\n",
    b"event: y\ndata: e\n\n",
    b"event: \xff\ndata: f\n\n",
)
SSE_PIECES = (
    *SSE_WHOLE,
    *(b"data: ", b"data:", b"data\n", b"event: x\n", b"event:z\r\n", b": beat\n\n", b"id: 7\n", b"data: g\r\r", b"h"),
    *(b"\n", b"\r", b"\r\n", b"\n\n"),
)


def plainly_read(data: bytes) -> list[tuple[str | None, bytes]]:
    """The standard's own words as a program, for a stream that is there as a whole."""
    frames: list[tuple[str | None, bytes]] = []
    name: str | None = None
    held: list[bytes] = []
    for line in [*data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        if not line:
            if payload := b"\n".join(held):
                frames.append((name, payload))
            name, held = None, []
        elif field == b"data":
            held.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.strip().decode("utf-8", "replace")
    return frames


@given(
    st.lists(st.sampled_from(SSE_PIECES), min_size=1, max_size=6, unique=True).flatmap(
        lambda kinds: st.lists(st.sampled_from(kinds), max_size=30)
    ),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_sse_rows_are_read_as_lines_are(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    assert read_sse(data, cuts) == plainly_read(data)


def test_an_event_is_told_as_soon_as_it_is_whole() -> None:
    reader = ServerSentEvents()
    stream = b"".join(SSE_WHOLE) * 2
    told = sum(len(reader.feed(stream[at : at + 1])) for at in range(len(stream)))
    assert told == 2 * len(SSE_WHOLE)


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=6), st.integers(0, 500))
def test_lines_cut_anywhere(values: list[dict[str, int]], cut: int) -> None:
    data = b"\n".join(json.dumps(value).encode() for value in values)
    lines = Lines()
    cut %= len(data) + 1
    found = [*lines.feed(data[:cut]), *lines.feed(data[cut:]), *lines.end()]
    assert [json.loads(line) for line in found] == values


def test_blank_lines_and_heart_beats_are_no_lines() -> None:
    lines = Lines()
    assert lines.feed(b'\n  \n {"a":1}\n\r\n') == [b' {"a":1}']


@pytest.mark.parametrize("reader", [Lines(10), ServerSentEvents(10)], ids=["ndjson", "sse"])
def test_a_frame_without_end_is_refused(reader: Lines | ServerSentEvents) -> None:
    with pytest.raises(FrameTooLong):
        for _ in range(10):
            reader.feed(b"data: aaaa")


def test_many_data_lines_are_bounded_too() -> None:
    reader = ServerSentEvents(100)
    with pytest.raises(FrameTooLong):
        for _ in range(100):
            reader.feed(b"data: aaaa\n")


def test_an_event_has_not_any_number_of_lines() -> None:
    reader = ServerSentEvents()
    assert reader.feed(b"data:\n" * MAX_LINES) == []
    with pytest.raises(FrameTooLong, match="a frame of more than 100000 lines"):
        reader.feed(b"data:\n")


BODIES = {"an object": b'{"a":[1]}', "a list": b"[1]", "after blanks": b'\xef\xbb\xbf \r\n{"a":1}'}


@pytest.mark.parametrize("body", list(BODIES.values()), ids=list(BODIES))
def test_a_body_in_place_of_events_is_kept_however_it_is_cut(body: bytes) -> None:
    for cut in range(len(body) + 1):
        answer = EventsOrBody()
        assert [*answer.feed(body[:cut]), *answer.feed(body[cut:]), *answer.end()] == []
        assert answer.body == body.lstrip(b"\xef\xbb\xbf \r\n")


@pytest.mark.parametrize("data", [b"data: {}\n\n", b": {\n\ndata: {}\n\n", b"\n data: []\n\ndata: {}\n\n"])
def test_events_are_no_body_however_they_are_cut(data: bytes) -> None:
    for cut in range(len(data) + 1):
        answer = EventsOrBody()
        assert [*answer.feed(data[:cut]), *answer.feed(data[cut:])][-1] == (None, b"{}")
        assert answer.body is None


def test_a_body_without_end_is_refused() -> None:
    answer = EventsOrBody()
    answer.feed(b"{" + b" " * (MAX_FRAME - 1))
    with pytest.raises(FrameTooLong, match="a body of more than"):
        answer.feed(b" ")


GO_CASES = {
    "html": ("<a href='x'>&", b"\"\\u003ca href='x'\\u003e\\u0026\""),
    "separators": ("\u2028\u2029", b'"\\u2028\\u2029"'),
    "next line, which cuts ollama-python's lines": ("\u0085", b'"\\u0085"'),
    "emoji stays raw": ("🦙é", '"🦙é"'.encode()),
    "controls": ("\x01\n\t", b'"\\u0001\\n\\t"'),
    "object in order": ({"b": 1, "a": [None, True, 0.1]}, b'{"b":1,"a":[null,true,0.1]}'),
}


@pytest.mark.parametrize(("value", "written"), GO_CASES.values(), ids=GO_CASES)
def test_json_as_go_writes_it(value: object, written: bytes) -> None:
    assert go_dumps(value) == written
    assert loads(written) == value


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{} {}", b'"\xff"', b'"\\ud800"', b"[" * 100_000, b"NaN", b"1e999"], ids=lambda d: repr(d[:8])
)
def test_bad_json_is_one_error(data: bytes) -> None:
    with pytest.raises(BadJSON):
        loads(data)
