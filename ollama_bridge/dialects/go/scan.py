"""The bytes of JSON and base64 as Go scans them, and the words in which it gives up.

Knows: the grammar, and the error texts of Go 1.26's `encoding/json` scanner and `encoding/base64`. Must not know:
types, requests. Only odd bodies come here (see json.py); everything is linear in the size of the input.

    {"a": 1.50, "a": "\\ud800"} tail   ->   Members([("a", Number("1.50")), ("a", "\\ufffd")])
    {"a": 1.                         ->   Refusal("unexpected EOF")
    {'a'                             ->   Refusal("invalid character '\\'' looking for beginning of object key string")
"""

from __future__ import annotations

import binascii
import re
from typing import Any

from ...framing import BadJSON, loads

MAX_DEPTH = 10_000  # Go's own limit of nesting


class Refusal(Exception):
    """Ends decoding at once; its text is for the client."""


# -- base64 ------------------------------------------------------------------------------------------------------------

_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/\r\n]")


def base64_error(text: str) -> int | None:
    """Where Go's decoder of standard, padded base64 gives up: an offset into the UTF-8 text, or None when it does not.
    Line ends are skipped."""
    data = text.encode("utf-8", "surrogatepass")
    try:
        binascii.a2b_base64(data, strict_mode=True)
        if len(data) % 4 == 0:
            return None
    except binascii.Error:
        pass
    bad = _NOT_BASE64.search(data)
    at = bad.start() if bad else len(data)
    part = (at - data.count(b"\r", 0, at) - data.count(b"\n", 0, at)) % 4  # letters in the unfinished group
    if bad is None:
        return len(data) - part if part else None
    if bad[0] != b"=" or part < 2:
        return at
    at = _after_line_ends(data, at + 1)
    if part == 2:
        if at == len(data):
            return at
        if data[at : at + 1] != b"=":
            return at - 1
        at = _after_line_ends(data, at + 1)
    return at if at < len(data) else None


def _after_line_ends(data: bytes, at: int) -> int:
    found = _LINE_ENDS.match(data, at)
    return found.end() if found else at


_LINE_ENDS = re.compile(rb"[\r\n]*")


# -- the scanner -------------------------------------------------------------------------------------------------------


class Number:
    """A number as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def number(self) -> int | float | None:
        """None when it does not fit a float64."""
        number = float(self.text)
        if number in (float("inf"), float("-inf")):
            return None
        return int(self.text) if INTEGER.fullmatch(self.text) else number


class Members:
    """An object as it was written: every member, in order."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[str, Any]] = []


INTEGER = re.compile(r"-?[0-9]{1,400}")
_SPACE = re.compile(rb"[ \t\r\n]*")
# What may stand in a string, up to its end or the first byte that may not. Possessive: nothing is tried twice.
_TEXT = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_HEX = re.compile(rb"[0-9a-fA-F]*")
_ESCAPE = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL
)
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LITERALS: dict[int, tuple[bytes, Any]] = {0x74: (b"true", True), 0x66: (b"false", False), 0x6E: (b"null", None)}
_NAMED = {
    **{c: f"\\{n}" for c, n in zip("\a\b\t\n\v\f\r", "abtnvfr", strict=True)},
    '"': '\\"',
    "\\": "\\\\",
}
_BAD_BYTE = re.compile("[\udc80-\udcff]")
_BAD_BYTES = dict.fromkeys(range(0xDC80, 0xDD00), 0xFFFD)


def _decoded(raw: bytes) -> str:
    """What stands between the quotes of a string. Go replaces each bad byte, Python's own `replace` each sequence."""
    escaped = b"\\" in raw
    if escaped:
        try:
            return str(loads(b'"%b"' % raw))
        except BadJSON:  # half of a surrogate pair, or no UTF-8
            pass
    text = raw.decode("utf-8", "surrogateescape")
    if _BAD_BYTE.search(text):
        text = text.translate(_BAD_BYTES)
    return _ESCAPE.sub(_unescaped, text) if escaped else text


def _unescaped(match: re.Match[str]) -> str:
    high, low, single, short = match.groups()
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    if single is not None:
        code = int(single, 16)
        return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)
    return _SHORT.get(short, short)


class Scanner:
    """Reads the first JSON value of a body without recursion. Raises Refusal with the words of Go's scanner."""

    def __init__(self, body: bytes, empty: str) -> None:
        self.body = body
        self.at = 0
        self.empty = empty

    def value(self) -> Any:
        self._skip_space()
        if self.at == len(self.body):
            raise Refusal(self.empty)
        open_: list[list[Any] | Members] = []
        keys: list[str] = []  # the member being read, for each open object
        while True:
            # At the beginning of a value.
            byte = self._byte()
            if byte == 0x7B or byte == 0x5B:
                if len(open_) >= MAX_DEPTH:
                    raise self._bad("exceeded max depth")
                self.at += 1
                self._skip_space()
                holder: list[Any] | Members = [] if byte == 0x5B else Members()
                if self._byte() != byte + 2:
                    open_.append(holder)
                    if byte == 0x7B:
                        keys.append(self._key())
                    continue
                self.at += 1
                done: Any = holder
            elif byte == 0x22:
                done = self._string()
            elif byte in _LITERALS:
                done = self._literal(*_LITERALS[byte])
            elif byte == 0x2D or 0x30 <= byte <= 0x39:
                done = self._number()
            else:
                raise self._bad("looking for beginning of value")
            # A value is complete: close what ends here, or step to the next value.
            while True:
                if not open_:
                    return done
                holder = open_[-1]
                self._skip_space()
                byte = self._byte()
                if isinstance(holder, list):
                    holder.append(done)
                    if byte != 0x2C and byte != 0x5D:
                        raise self._bad("after array element")
                else:
                    holder.pairs.append((keys.pop(), done))
                    if byte != 0x2C and byte != 0x7D:
                        raise self._bad("after object key:value pair")
                self.at += 1
                if byte == 0x2C:
                    self._skip_space()
                    if isinstance(holder, Members):
                        keys.append(self._key())
                    break
                done = open_.pop()

    def _key(self) -> str:
        if self._byte() != 0x22:
            raise self._bad("looking for beginning of object key string")
        key = self._string()
        self._skip_space()
        if self._byte() != 0x3A:
            raise self._bad("after object key")
        self.at += 1
        self._skip_space()
        return key

    def _string(self) -> str:
        start = self.at + 1
        found = _TEXT.match(self.body, start)
        assert found is not None
        self.at = found.end()
        byte = self._byte()
        if byte == 0x5C:
            raise self._bad_escape()
        if byte != 0x22:
            raise self._bad("in string literal")
        self.at += 1
        return _decoded(found[0])

    def _bad_escape(self) -> Refusal:
        self.at += 1
        if self._byte() != 0x75:
            return self._bad("in string escape code")
        hexes = _HEX.match(self.body, self.at + 1, self.at + 4)
        assert hexes is not None
        self.at = hexes.end()
        self._byte()
        return self._bad("in \\u hexadecimal character escape")

    def _literal(self, word: bytes, value: Any) -> Any:
        for expected in word:
            if self._byte() != expected:
                raise self._bad(f"in literal {word.decode()} (expecting {_quoted(expected)})")
            self.at += 1
        return value

    def _number(self) -> Number:
        found = _NUMBER.match(self.body, self.at)
        if found is None:
            self.at += 1  # a lone minus
            self._byte()
            raise self._bad("in numeric literal")
        self.at = found.end()
        after = self.body[self.at : self.at + 1]
        if after == b"." and found[1] is None and found[2] is None:
            self.at += 1
            self._byte()
            raise self._bad("after decimal point in numeric literal")
        if after in (b"e", b"E") and found[2] is None:
            self.at += 1
            if self._byte() in b"+-":
                self.at += 1
                self._byte()
            raise self._bad("in exponent of numeric literal")
        return Number(found[0].decode())

    def _skip_space(self) -> None:
        found = _SPACE.match(self.body, self.at)
        assert found is not None
        self.at = found.end()

    def _byte(self) -> int:
        if self.at >= len(self.body):
            raise Refusal("unexpected EOF")
        return self.body[self.at]

    def _bad(self, where: str) -> Refusal:
        return Refusal(f"invalid character {_quoted(self.body[self.at])} {where}")


def _quoted(byte: int) -> str:
    """One byte in single quotes, as the scanner's errors show it."""
    if byte == 0x27:
        return r"'\''"
    return "'\"'" if byte == 0x22 else f"'{quote(chr(byte))[1:-1]}'"


def quote(text: str) -> str:
    """Go's %q of a text: in double quotes, with what cannot be printed escaped."""
    return '"' + "".join(map(_shown, text)) + '"'


def _shown(c: str) -> str:
    if c in _NAMED:
        return _NAMED[c]
    if c.isprintable():
        return c
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
