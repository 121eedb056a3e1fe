"""Bodies as Go reads them. The texts of refusals were taken from Go 1.26 itself, with Ollama's own request types."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.dialects.go.json import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    OBJECT,
    STRING,
    STRINGS,
    Array,
    Bytes,
    Checked,
    Map,
    Own,
    Struct,
    decode,
    parse,
)
from ollama_bridge.dialects.go.scan import base64_error, quote
from ollama_bridge.dialects.ollama.types import CHAT_REQUEST, EMBEDDING_REQUEST, GENERATE_REQUEST
from ollama_bridge.errors import GatewayError, Scope

POINT = Struct("api.Point", {"x": INT, "y": FLOAT, "names": STRINGS})
THING = Struct(
    "api.Thing",
    {
        "name": STRING,
        "on": BOOL,
        "points": Array("[]api.Point", POINT),
        "own": Own(Struct("api.Alias", {"inner": STRING}), pointer=True),
        "any": ANY,
        "options": OBJECT,
        "labels": Map("map[string]string", STRING),
        "data": Bytes("[]uint8"),
        "whole": Checked(POINT),
        "spot": Struct("api.Point", POINT.fields, pointer=True),
    },
)


def told(value: object) -> str:
    """In the name of a case, the same in every process."""
    return value.name if isinstance(value, Struct) else ascii(value)


def words(call: Any, *arguments: Any) -> str:
    with pytest.raises(GatewayError) as caught:
        call(*arguments)
    assert (caught.value.status, caught.value.scope, caught.value.early) == (400, Scope.CALLER, True)
    return caught.value.message


# -- what is understood ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' {"a": [1, 2.5, true, null, "x"]} ', {"a": [1, 2.5, True, None, "x"]}),
        (b'{"a":1} tail', {"a": 1}),
        (b"[]]", []),
        (b"5x", 5),
        (b"nullnull", None),
        (b'"a\\u00e9\\ud83d\\ude00\\/\\n"x', "aé😀/\n"),
        (b'"\\ud800"', "\ufffd"),
        (b'"\\ud800\\ud83d\\ude00\\udc00x"', "\ufffd😀\ufffdx"),
        (b'"\xff\xe2\x82x\xed\xa0\x80"', "\ufffd\ufffd\ufffdx\ufffd\ufffd\ufffd"),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"a":1,"a":2} tail', {"a": 2}),
        (b"[-0.5e-3, 1E+2, 123456789012345678901234567890] x", [-0.0005, 100.0, 123456789012345678901234567890]),
    ],
    ids=told,
)
def test_parse(body: bytes, value: Any) -> None:
    assert parse(body) == value


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"name":"n","on":true}', {"name": "n", "on": True}),
        (b'{"NAME":"n","On":true}', {"name": "n", "on": True}),
        (b'{"name":"a","NAME":"b"}', {"name": "b"}),
        (b'{"NAME":"b","name":"a","Name":null}', {"name": "a"}),
        ('{"option\u017f":{"A":1}}'.encode(), {"options": {"A": 1}}),
        (b'{"name":null,"points":null,"own":null,"any":null}', {}),
        (b'{"spot":{"x":1},"SPOT":null}', {}),
        (b'{"points":[{"x":1,"y":2},null]}', {"points": [{"x": 1, "y": 2}, {}]}),
        (b'{"points":[{"names":["a",null]}]}', {"points": [{"names": ["a", ""]}]}),
        (b'{"labels":{"Aa":"b","c":null}}', {"labels": {"Aa": "b", "c": ""}}),
        (b'{"data":"aGVs\\nbG8="}', {"data": "aGVs\nbG8="}),
        (b'{"whole":{"x":1,"more":{"Keep":1e2}}} ,', {"whole": {"x": 1, "more": {"Keep": 100.0}}}),
        (b'{"unknown":[{}],"name":"n"}', {"name": "n"}),
        (b"null", {}),
        (b"null x", {}),
        (b"{}", {}),
    ],
    ids=told,
)
def test_decode(body: bytes, found: dict[str, Any]) -> None:
    assert decode(body, THING) == found


@pytest.mark.parametrize("tail", [b"", b" tail"])
def test_unknown_members_can_be_kept_apart(tail: bytes) -> None:
    rest: dict[str, Any] = {}
    assert decode(b'{"x":1,"name":"n","own":{"y":2},"X":{"z":[1.5]}}' + tail, THING, rest=rest) == {
        "name": "n",
        "own": {},
    }
    assert rest == {"x": 1, "X": {"z": [1.5]}}


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b" \r\n\t", "missing request body"),
        (b"{", "unexpected EOF"),
        (b'{"a"', "unexpected EOF"),
        (b'{"a":', "unexpected EOF"),
        (b'{"a":1,', "unexpected EOF"),
        (b'"abc', "unexpected EOF"),
        (b'"\\', "unexpected EOF"),
        (b'"\\u12', "unexpected EOF"),
        (b"-", "unexpected EOF"),
        (b"1.", "unexpected EOF"),
        (b"1e+", "unexpected EOF"),
        (b"tru", "unexpected EOF"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"NaN", "invalid character 'N' looking for beginning of value"),
        (b"// c", "invalid character '/' looking for beginning of value"),
        (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
        (b"\x00", "invalid character '\\x00' looking for beginning of value"),
        (b"\x85", "invalid character '\\u0085' looking for beginning of value"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[01]", "invalid character '1' after array element"),
        (b"[1.5.5]", "invalid character '.' after array element"),
        (b'"a\tb"', "invalid character '\\t' in string literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
        (b"[-x]", "invalid character 'x' in numeric literal"),
        (b"[1.x]", "invalid character 'x' after decimal point in numeric literal"),
        (b"[1e+]", "invalid character ']' in exponent of numeric literal"),
        (b"[truE]", "invalid character 'E' in literal true (expecting 'e')"),
        (b"[fulse]", "invalid character 'u' in literal false (expecting 'a')"),
        (b"[nil]", "invalid character 'i' in literal null (expecting 'u')"),
        (b"[" * 10_001, "invalid character '[' exceeded max depth"),
        (b'{"a":' * 10_001, "invalid character '{' exceeded max depth"),
        (b"[1e999]", "json: cannot unmarshal number 1e999 into Go value of type float64"),
        (b"[" * 600 + b"]" * 600, "invalid character '{' exceeded max depth"),
        (b"[" * 900 + b"]" * 900, "invalid character '{' exceeded max depth"),
    ],
    ids=lambda value: told(value)[:40],
)
def test_syntax(body: bytes, text: str) -> None:
    assert words(parse, body) == text


def test_the_words_for_an_empty_body_are_the_callers() -> None:
    assert words(parse, b" ", "EOF") == "EOF"
    assert words(decode, b"", THING, "EOF") == "EOF"


def test_depth_that_go_allows_is_no_syntax_error() -> None:
    deep = b"[" * 9_000 + b"]" * 9_000
    assert decode(b'{"unknown":' + deep + b',"name":"n"}', THING) == {"name": "n"}
    assert words(decode, b'{"any":' + deep + b"}", THING).endswith("exceeded max depth")
    schema = b'{"properties":{"a":' * 400 + b"1" + b"}}" * 400
    tools = b'{"tools":[{"function":{"parameters":' + schema + b"}}]}"
    assert words(decode, tools, CHAT_REQUEST).endswith("exceeded max depth")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"[]", "array into Go value of type api.Thing"),
        (b'"x"', "string into Go value of type api.Thing"),
        (b"5", "number into Go value of type api.Thing"),
        (b'{"name":5}', "number into Go struct field Thing.name of type string"),
        (b'{"NAME":[]}', "array into Go struct field Thing.name of type string"),
        (b'{"on":"true"}', "string into Go struct field Thing.on of type bool"),
        (b'{"points":{}}', "object into Go struct field Thing.points of type []api.Point"),
        (b'{"points":[5]}', "number into Go struct field Thing.points of type api.Point"),
        (b'{"points":[{"x":1.50}]}', "number 1.50 into Go struct field Point.points.x of type int"),
        (b'{"points":[{"x":1.0}]}', "number 1.0 into Go struct field Point.points.x of type int"),
        (b'{"points":[{"x":1e2}]}', "number 1e2 into Go struct field Point.points.x of type int"),
        (b'{"points":[{"x":9223372036854775808}]}',
         "number 9223372036854775808 into Go struct field Point.points.x of type int"),
        (b'{"points":[{"x":true}]}', "bool into Go struct field Point.points.x of type int"),
        (b'{"points":[{"y":-1e400}]}', "number -1e400 into Go struct field Point.points.y of type float64"),
        (b'{"points":[{"names":[1]}]}', "number into Go struct field Point.points.names of type string"),
        (b'{"own":{"inner":1}}', "number into Go struct field Thing.own.inner of type string"),
        (b'{"own":1}', "number into Go struct field Thing.own of type api.Alias"),
        (b'{"options":[1]}', "array into Go struct field Thing.options of type map[string]interface {}"),
        (b'{"options":{"a":[1e999]}}', "number 1e999 into Go struct field Thing.options of type float64"),
        (b'{"labels":{"a":1}}', "number into Go struct field Thing.labels of type string"),
        (b'{"data":1}', "number into Go struct field Thing.data of type []uint8"),
        (b'{"whole":{"x":"1"}}', "string into Go struct field Point.whole.x of type int"),
        (b'{"name":5,"on":5}', "number into Go struct field Thing.name of type string"),
        (b'{"name":5,"own":5}', "number into Go struct field Thing.own of type api.Alias"),
        (b'{"name":5,"name":"x"} tail', "number into Go struct field Thing.name of type string"),
    ],
    ids=told,
)  # fmt: skip
def test_types(body: bytes, text: str) -> None:
    assert words(decode, body, THING) == f"json: cannot unmarshal {text}"


@pytest.mark.parametrize(
    ("struct", "body", "text"),
    [
        (CHAT_REQUEST, b'{"messages":[{"content":5}]}',
         "json: cannot unmarshal number into Go struct field ChatRequest.messages.content of type string"),
        (CHAT_REQUEST, b'{"messages":["x"]}',
         "json: cannot unmarshal string into Go struct field ChatRequest.messages of type api.Alias"),
        (CHAT_REQUEST, b'{"messages":[{"tool_calls":[{"function":{"name":5}}]}]}',
         "json: cannot unmarshal number into Go struct field ChatRequest.messages.tool_calls.function.name"
         " of type string"),
        (CHAT_REQUEST, b'{"messages":[{"tool_calls":[{"function":{"arguments":"{}"}}]}]}',
         "Value looks like object, but can't find closing '}' symbol"),
        (CHAT_REQUEST, b'{"tools":[{"function":{"parameters":{"required":"a"}}}]}',
         "json: cannot unmarshal string into Go struct field ToolFunctionParameters.tools.function.parameters.required"
         " of type []string"),
        (CHAT_REQUEST, b'{"tools":[{"function":{"parameters":{"properties":{"a":{"type":5}}}}}]}',
         "json: cannot unmarshal number into Go struct field"
         " ToolFunctionParameters.tools.function.parameters.properties.type of type []string"),
        (CHAT_REQUEST, b'{"tools":[{"function":{"parameters":{"properties":[]}}}]}',
         "Value looks like object, but can't find closing '}' symbol"),
        (CHAT_REQUEST, b'{"tools":[5]}',
         "json: cannot unmarshal number into Go struct field ChatRequest.tools of type api.Tool"),
        (CHAT_REQUEST, b'{"stream":5,"think":"x"}',
         'invalid think value: "x" (must be "high", "medium", "low", "max", true, or false)'),
        (CHAT_REQUEST, b'{"keep_alive":"5x"}', 'time: unknown unit "x" in duration "5x"'),
        (CHAT_REQUEST, '{"keep_alive":"é\\""}'.encode(), 'time: invalid duration "\\xc3\\xa9\\""'),
        (CHAT_REQUEST, b'{"keep_alive":"-10"}', 'time: missing unit in duration "-10"'),
        (CHAT_REQUEST, b'{"keep_alive":"9999999h"}', 'time: invalid duration "9999999h"'),
        (CHAT_REQUEST, b'{"keep_alive":[]}', "Unsupported type: '[]interface {}'"),
        (GENERATE_REQUEST, b'{"context":[1,2.5]}',
         "json: cannot unmarshal number 2.5 into Go struct field GenerateRequest.context of type int"),
        (GENERATE_REQUEST, b'{"images":["aGk"]}', "illegal base64 data at input byte 0"),
        (EMBEDDING_REQUEST, b'{"prompt":["a"]}',
         "json: cannot unmarshal array into Go struct field EmbeddingRequest.prompt of type string"),
    ],
    ids=told,
)  # fmt: skip
def test_ollamas_types(struct: Struct, body: bytes, text: str) -> None:
    assert words(decode, body, struct) == text


@pytest.mark.parametrize("digits", [400, 5_000])
@pytest.mark.parametrize(
    ("struct", "member", "where"),
    [
        (THING, b'"any":%s', "Thing.any"),
        (THING, b'"options":{"a":%s}', "Thing.options"),
        (THING, b'"points":[{"y":%s}]', "Point.points.y"),
        (CHAT_REQUEST, b'"keep_alive":%s', "ChatRequest.keep_alive"),
    ],
    ids=told,
)
def test_integers_beyond_float64(struct: Struct, member: bytes, where: str, digits: int) -> None:
    number = "9" * digits
    text = f"json: cannot unmarshal number {number} into Go struct field {where} of type float64"
    assert words(decode, b"{" + member % number.encode() + b"}", struct) == text


# -- base64, quoting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", None), ("aGVsbG8=", None), ("aGVs\r\nbG8=\n", None), ("aA==", None), ("a\nA\n=\n=\n", None),
        ("%%", 0), ("data:x", 4), ("https://x", 5), ("aGVsb", 4), ("aGVsbG8", 4), ("ab\nc", 1), ("a===", 1),
        ("aA=", 3), ("aA=x", 2), ("aGk=x", 4), ("aGk=\nx", 5), ("aA==aA==", 4), ("aGé=", 2), ("====", 0),
    ],
)  # fmt: skip
def test_base64(text: str, at: int | None) -> None:
    assert base64_error(text) == at


@given(st.binary(max_size=60))
def test_base64_that_python_writes_is_good(data: bytes) -> None:
    assert base64_error(base64.b64encode(data).decode()) is None
    assert base64_error(base64.encodebytes(data).decode()) is None


@pytest.mark.parametrize(
    ("text", "quoted"),
    [('a"b\\', '"a\\"b\\\\"'), ("\n\x00\x7f", '"\\n\\x00\\x7f"'), ("é\u2028\U000e0001", '"é\\u2028\\U000e0001"')],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


# -- for all bodies ----------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [*'{}[]:,"\\ \n', "1", "-", "1e9", "true", "null", '"name"', '"a"', "\\u", "d800", "é", "\xff"]
)
BODIES = st.one_of(st.binary(), st.lists(PIECES).map(lambda parts: "".join(parts).encode("latin-1")))


@given(BODIES)
def test_nothing_but_a_refusal_is_ever_raised(body: bytes) -> None:
    for call in (lambda: parse(body), lambda: decode(body, CHAT_REQUEST), lambda: decode(body, THING)):
        try:
            call()
        except GatewayError as error:
            assert error.status == 400 and error.message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_both_ways_of_reading_agree(value: Any) -> None:
    body = json.dumps(value).encode("utf-8")
    slow = parse(body + b" tail")
    assert slow == parse(body)
    assert json.dumps(slow, sort_keys=True) == json.dumps(parse(body), sort_keys=True)


@pytest.mark.parametrize(
    "unit",
    [b'{"a":[1.5,"\\u00e9\xff"]},', b'"' + b"\\n" * 50 + b'",', b"[[]],", b"1" * 50 + b",", b'"\xff\xff\xff\xff",'],
    ids=["objects", "escapes", "lists", "digits", "bad bytes"],
)
def test_time_grows_with_the_size(unit: bytes) -> None:
    def seconds(times: int) -> float:
        body = b"[" + unit * times + b"0]!"
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            parse(body)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(8_000) < 40 * max(seconds(500), 0.002)  # 16 times the size; a square would be 256 times
