"""The small parts of the Ollama dialect: names, context, numbers, media, repaired arguments."""

from __future__ import annotations

import base64
import json
import zlib
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.arguments import as_object
from ollama_bridge.dialects.go.floats import float32, float32_texts, float64_text
from ollama_bridge.dialects.media import media_of, sniff
from ollama_bridge.dialects.ollama import context
from ollama_bridge.dialects.ollama.answers import stamp
from ollama_bridge.names import BothSources, parse_name, split_source
from ollama_bridge.values import Media

# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown", "full"),
    [
        ("llama3.2", "llama3.2:latest", "registry.ollama.ai/library/llama3.2:latest"),
        (" Llama3.2:1B ", "Llama3.2:1B", "registry.ollama.ai/library/Llama3.2:1B"),
        ("me/x", "me/x:latest", "registry.ollama.ai/me/x:latest"),
        ("hf.co/me/x.y:Q4_K", "hf.co/me/x.y:Q4_K", "hf.co/me/x.y:Q4_K"),
        ("host:5000/me/x", "host:5000/me/x:latest", "host:5000/me/x:latest"),
        ("https://Registry.ollama.ai/Library/x:t", "x:t", "Registry.ollama.ai/Library/x:t"),
        ("_x", "_x:latest", "registry.ollama.ai/library/_x:latest"),
    ],
)
def test_name(text: str, shown: str, full: str) -> None:
    name = parse_name(text)
    assert name is not None
    assert (name.shown, name.full, name.key) == (shown, full, full.lower())


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "é", ":", "x:", ":x", "/x", "x/", "a/b/c/d", "x@sha256:00", "http://x/y", "..", "../x", "-x", ".x",
     "a.b/x", "a:b:c", "x:-t", "x" * 81, "x:" + "t" * 81, "h" * 351 + "/n/m", "x\n", "a\x00b"],
    ids=ascii,
)  # fmt: skip
def test_no_name(text: str) -> None:
    assert (parse_name(text) is None) == (text != "x\n")  # white space around a name is not looked at


@pytest.mark.parametrize(
    ("text", "base", "source"),
    [
        ("x:cloud", "x", "cloud"), ("x:20b:CLOUD", "x:20b", "cloud"), ("x:20b-cloud", "x:20b", "cloud"),
        ("x:local", "x", "local"), ("x:8b-cloudy", "x:8b-cloudy", None), ("x-cloud", "x-cloud", None),
        ("h:1/x-cloud", "h:1/x-cloud", None), ("x", "x", None),
    ],
)  # fmt: skip
def test_source(text: str, base: str, source: str | None) -> None:
    assert split_source(text) == (base, source)


@pytest.mark.parametrize("text", ["x:cloud:local", "x:local:cloud", "x:20b-cloud:local", "x:cloud:cloud"])
def test_both_sources(text: str) -> None:
    with pytest.raises(BothSources, match=f'use either :local or :cloud, not both: "{text}"'):
        split_source(text)


# -- context -----------------------------------------------------------------------------------------------------------

TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=50)), max_size=5)


@given(TURNS, st.text(max_size=50))
def test_context_comes_back(turns: list[context.Turn], answer: str) -> None:
    numbers = context.encode(context.pack(turns), answer)
    assert all(0 <= number < 1 << 24 for number in numbers)
    assert context.decode(numbers) == [*turns, ("assistant", answer)]


@given(st.lists(st.integers()), st.integers(0, 40), st.integers(-5, 1 << 25))
def test_any_other_numbers_are_nothing(numbers: list[int], at: int, changed: int) -> None:
    assert context.decode(numbers) is None
    assert context.decode([context.MAGIC, *numbers]) is None
    ours = context.encode(context.pack([("user", "Hi")]), "Hello")
    at %= len(ours)
    if ours[at] != changed:
        damaged = context.decode([*ours[:at], changed, *ours[at + 1 :]])
        # Only the last number may differ unseen: what fills it up to three bytes is not read.
        assert damaged is None or at == len(ours) - 1
    assert context.decode(ours[:-1]) is None


def test_context_is_bounded_and_keeps_the_system_message() -> None:
    turns = [("system", "Be brief."), *(("user", f"{i} " + "x" * 200_000) for i in range(20))]
    found = context.decode(context.encode(context.pack(turns), "end"))
    assert found is not None
    assert (found[0], found[-1]) == (("system", "Be brief."), ("assistant", "end"))
    assert [text.split()[0] for role, text in found if role == "user"] == ["15", "16", "17", "18", "19"]


def test_a_bomb_is_nothing() -> None:
    packed = zlib.compress(b'[["user","' + b"x" * 50_000_000 + b'"]]')
    assert context.unpack(packed) is None


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1.0, "1"), (-0.0, "-0"), (3.4e38, "3.4e+38"), (1e-6, "0.000001"), (9.99e-7, "9.99e-7"),
     (0.00011375206, "0.00011375206"), (16777216.0, "16777216"), (1e20, "100000000000000000000"), (1e21, "1e+21")],
)  # fmt: skip
def test_float32(value: float, text: str) -> None:
    assert float32_texts(float32([value])) == [text]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), max_size=20))
def test_float32_reads_back_and_is_no_longer_than_needed(values: list[float]) -> None:
    texts = float32_texts(float32(values))
    assert array("f", map(float, texts)) == array("f", values)
    for text, value in zip(texts, values, strict=True):
        digits = len(text.split("e")[0].lstrip("-0.").replace(".", "").rstrip("0"))
        shorter = f"{value:.{max(1, digits - 1)}g}"
        assert digits <= 1 or array("f", [float(shorter)])[0] != value or len(shorter) >= len(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.10000000149011612, "0.10000000149011612"), (0.0, "0"), (-1.0, "-1"), (1e-05, "0.00001"), (5e-07, "5e-7"),
     (-1.5e-06, "-0.0000015"), (1e16, "10000000000000000"), (1.5e20, "150000000000000000000"), (1e21, "1e+21"),
     (1e300, "1e+300"), (float("inf"), "null")],
)  # fmt: skip
def test_float64(value: float, text: str) -> None:
    assert float64_text(value) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1, "1970-01-01T00:00:00.000000001Z"), (1_500_000_000, "1970-01-01T00:00:01.5Z"),
     (1_795_261_023_123_456_789, "2026-11-21T11:37:03.123456789Z")],
)  # fmt: skip
def test_stamp(ns: int, text: str) -> None:
    assert stamp(ns) == text


# -- media -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\x89PNG\r\n\x1a\n", ("image", "image/png")), (b"\xff\xd8\xff\xe0", ("image", "image/jpeg")),
        (b"GIF89a", ("image", "image/gif")), (b"RIFF\0\0\0\0WEBPVP8 ", ("image", "image/webp")),
        (b"RIFF\0\0\0\0WAVEfmt ", ("audio", "audio/wav")), (b"ID3\x04", ("audio", "audio/mpeg")),
        (b"\xff\xfb\x90", ("audio", "audio/mpeg")), (b"\0\0\0\x1cftypavif", ("image", "image/avif")),
        (b"", None), (b"text", None),
    ],
    ids=ascii,
)  # fmt: skip
def test_sniff(head: bytes, found: Any) -> None:
    assert sniff(head) == found


@given(st.text())
def test_media_never_fails(text: str) -> None:
    assert isinstance(media_of(text), Media)


def test_large_media_is_kept_as_text() -> None:
    text = base64.b64encode(b"\xff\xd8\xff" + bytes(3_000_000)).decode()
    assert media_of(text).data is text


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"b":1,"a":{"c":[2]}}', {"b": 1, "a": {"c": [2]}}),
        ("", {}), (" \n", {}), ("null", {}), ("{}", {}),
        ('{"a":1} and more', {"a": 1}),
        ('{"city": "Os', {"city": "Os"}),
        ('{"a": [1, {"b": 2', {"a": [1, {"b": 2}]}),
        ('{"a": 1,', {"a": 1}),
        ('{"a":', {"a": None}),
        ('{"a": "x\\', {"a": "x"}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("[1, 2]", {"arguments": [1, 2]}),
        ("7", {"arguments": 7}),
        ("Oslo", {"arguments": "Oslo"}),
        ('"Oslo"', {"arguments": "Oslo"}),
    ],
)  # fmt: skip
def test_arguments(text: str, found: dict[str, Any]) -> None:
    assert as_object(text) == found
    assert list(as_object(text)) == list(found)


@given(st.text())
def test_arguments_are_always_an_object(text: str) -> None:
    json.dumps(as_object(text))


@given(st.integers(0, 60))
def test_arguments_cut_anywhere_are_an_object(cut: int) -> None:
    whole = '{"city": "Os\\"lo", "days": [1, 2.5, true], "deep": {"x": null}}'
    assert isinstance(as_object(whole[:cut]), dict)


def test_arguments_of_many_brackets_are_wrapped() -> None:
    text = '{"a":' * 5_000
    assert as_object(text) == {"arguments": text}
