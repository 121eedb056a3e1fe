"""Request bodies as Go's encoding/json reads them.

Knows: what Go accepts (first value only, keys in any case, null as absent, invalid UTF-8 replaced), and the words in
which it refuses (ollama-protocol.md 0.1 and 2; `encoding/json` of Go 1.26 for the rest). Must not know: any request
type; a dialect describes its own as a table.

    CHAT = Struct("api.ChatRequest", {"model": STRING, "stream": BOOL, "messages": Array("[]api.Message", MESSAGE)})
    decode(b'{"Model":"m","stream":null} tail', CHAT)   ->  {"model": "m"}
    decode(b'{"messages":"hi"}', CHAT)                  ->  400 json: cannot unmarshal string into Go struct field
                                                            ChatRequest.messages of type []api.Message
    decode(b'{"model":', CHAT)                          ->  400 unexpected EOF

Honest bodies take the fast way: one msgspec decode and one walk over the table. Anything odd is read again by a scanner
that keeps member order, duplicates and the text of numbers, so that every refusal has Go's own words. Both ways are
linear in the size of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...errors import GatewayError, refuse
from ...framing import BadJSON, loads
from .scan import INTEGER, Members, Number, Refusal, Scanner, base64_error

MISSING_BODY = "missing request body"
WRITABLE_DEPTH = 500  # a value nested deeper than this could not be encoded again for a provider


def parse(body: bytes, empty: str = MISSING_BODY) -> Any:
    """The first JSON value of a body. Raises GatewayError (400, early) with Go's text; with `empty` when there is
    nothing but white space."""
    return _decode(body, ANY, empty, None)


def decode(
    body: bytes, struct: Struct, empty: str = MISSING_BODY, rest: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A body as its Go struct: keys spelt as in the table, null members left out, unknown members dropped, or put into
    `rest` with the names they came with. A body `null` is `{}`. Raises GatewayError (400, early) with Go's text."""
    found = _decode(body, struct, empty, rest)
    return found if isinstance(found, dict) else {}


def _decode(body: bytes, kind: Kind, empty: str, rest: dict[str, Any] | None) -> Any:
    deep = body.count(b"[") + body.count(b"{") > WRITABLE_DEPTH
    try:
        value = loads(body)
        return None if value is None else kind.read(value, Run(exact=False, deep=deep, rest=rest))
    except (BadJSON, _Inexact, Refusal, RecursionError):
        if rest is not None:
            rest.clear()
    run = Run(exact=True, deep=deep, rest=rest)
    try:
        value = Scanner(body, empty).value()
        found = None if value is None else kind.read(value, run)
    except Refusal as error:
        raise _refused(run.place(error)) from None
    except RecursionError:
        raise _refused(_too_deep()) from None
    if run.error is not None:
        raise _refused(run.error)
    return found


def _refused(error: Refusal) -> GatewayError:
    return refuse(str(error))


# -- what can go wrong -------------------------------------------------------------------------------------------------


class _Inexact(Exception):
    """The fast way met something it cannot judge or word."""


class _Mismatch(Refusal):
    """Go's UnmarshalTypeError. Decoding goes on; the first one is reported, unless a plain refusal follows."""

    def __init__(self, found: str, go: str) -> None:
        super().__init__(found, go)
        self.found = found
        self.go = go
        self.struct = ""
        self.path: list[str] = []

    def __str__(self) -> str:
        where = f"struct field {self.struct}.{'.'.join(self.path)} of" if self.struct or self.path else "value of"
        return f"json: cannot unmarshal {self.found} into Go {where} type {self.go}"


def _too_deep() -> Refusal:
    return Refusal("invalid character '{' exceeded max depth")


class Run:
    """One call of Unmarshal: where it stands in the value, and the first error it met."""

    __slots__ = ("deep", "error", "exact", "path", "rest", "struct")

    def __init__(self, exact: bool, deep: bool, rest: dict[str, Any] | None = None) -> None:
        self.exact = exact
        self.deep = deep
        self.rest = rest
        self.error: Refusal | None = None
        self.struct = ""
        self.path: list[str] = []

    def place(self, error: Refusal) -> Refusal:
        if isinstance(error, _Mismatch) and (self.struct or self.path):
            error.struct = self.struct
            error.path = self.path + error.path
        return error

    def save(self, error: Refusal) -> None:
        if not self.exact:
            raise _Inexact
        if self.error is None:
            self.error = self.place(error)


def _word(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict | Members):
        return "object"
    return "array" if isinstance(value, list) else "number"


# -- the tables: Go types ----------------------------------------------------------------------------------------------


class Kind:
    """A Go type. `go` is its name as Go prints it; `nilable`: a null empties it instead of being passed over."""

    nilable = False

    def __init__(self, go: str) -> None:
        self.go = go

    def zero(self) -> Any:
        """What a null inside a list becomes."""
        return None

    def read(self, value: Any, run: Run) -> Any:
        """`value` (never None) as this type. Reports through `run`; raises Refusal to end decoding."""
        raise NotImplementedError


def _near(value: int) -> int:
    """An integer that fits whatever Go would put it into; of others the text is needed."""
    if -(2**63) <= value < 2**63:
        return value
    raise _Inexact


class _Scalar(Kind):
    def __init__(self, go: str, python: type, zero: Any) -> None:
        super().__init__(go)
        self._python = python
        self._zero = zero

    def zero(self) -> Any:
        return self._zero

    def read(self, value: Any, run: Run) -> Any:
        if type(value) is not self._python:
            run.save(_Mismatch(_word(value), self.go))
        return value


class _Integer(_Scalar):
    def __init__(self, go: str = "int") -> None:
        super().__init__(go, int, 0)

    def read(self, value: Any, run: Run) -> Any:
        if type(value) is Number:
            number = int(value.text) if INTEGER.fullmatch(value.text) else None
            if number is None or not -(2**63) <= number < 2**63:
                run.save(_Mismatch(f"number {value.text}", self.go))
            return number
        return super().read(_near(value) if type(value) is int else value, run)


class _Float(_Scalar):
    def __init__(self, go: str = "float64") -> None:
        super().__init__(go, float, 0.0)

    def read(self, value: Any, run: Run) -> Any:
        if type(value) is Number:
            number = value.number()
            if number is None:
                run.save(_Mismatch(f"number {value.text}", self.go))
            return number
        if type(value) is int:
            return _near(value)
        return super().read(value, run)


class _Anything(Kind):
    nilable = True

    def read(self, value: Any, run: Run) -> Any:
        if run.exact:
            return _plain(value, run, 0)
        if run.deep and isinstance(value, dict | list):
            _check_depth(value)
        return _near(value) if type(value) is int else value


class Array(Kind):
    """A Go slice: `Array("[]api.Message", MESSAGE)`."""

    nilable = True

    def __init__(self, go: str, item: Kind) -> None:
        super().__init__(go)
        self.item = item

    def zero(self) -> list[Any]:
        return []

    def read(self, value: Any, run: Run) -> list[Any]:
        if type(value) is not list:
            run.save(_Mismatch(_word(value), self.go))
            return []
        item = self.item
        return [item.zero() if each is None else item.read(each, run) for each in value]


class Map(Kind):
    """A Go map with string keys: `Map("map[string]interface {}", ANY)`."""

    nilable = True

    def __init__(self, go: str, item: Kind) -> None:
        super().__init__(go)
        self.item = item

    def zero(self) -> dict[str, Any]:
        return {}

    def read(self, value: Any, run: Run) -> dict[str, Any]:
        pairs = members(value)
        if pairs is None:
            run.save(_Mismatch(_word(value), self.go))
            return {}
        item = self.item
        return {key: item.zero() if each is None else item.read(each, run) for key, each in pairs}


class Struct(Kind):
    """A Go struct: `Struct("api.ChatRequest", {"model": STRING, ...})`. Keys match exactly first, then in any case.
    `pointer`: the field is a pointer to it, so that a null empties it."""

    def __init__(self, go: str, fields: Mapping[str, Kind], pointer: bool = False) -> None:
        super().__init__(go)
        self.name = go.rpartition(".")[2]
        self.fields = dict(fields)
        self.nilable = pointer

    def zero(self) -> dict[str, Any]:
        return {}

    def read(self, value: Any, run: Run) -> dict[str, Any]:
        pairs = members(value)
        if pairs is None:
            run.save(_Mismatch(_word(value), self.go))
            return {}
        found: dict[str, Any] = {}
        outer = run.struct
        top = run.rest is not None and not run.path
        for key, each in pairs:
            name = key if key in self.fields else self._folded(key, run)
            if name is None:
                if top:
                    assert run.rest is not None
                    run.rest[key] = None if each is None else ANY.read(each, run)
                continue
            kind = self.fields[name]
            if each is None:
                if kind.nilable:
                    found.pop(name, None)
                continue
            run.struct = self.name
            run.path.append(name)
            found[name] = kind.read(each, run)
            run.path.pop()
            run.struct = outer
        return found

    def _folded(self, key: str, run: Run) -> str | None:
        folded = _fold(key)
        for name in self.fields:
            if _fold(name) == folded:
                if not run.exact:
                    raise _Inexact  # the order among duplicates in another case decides
                return name
        return None


class Bytes(Kind):
    """A Go byte slice: base64 text, checked and kept as text."""

    nilable = True

    def zero(self) -> str:
        return ""

    def read(self, value: Any, run: Run) -> str:
        if not isinstance(value, str):
            run.save(_Mismatch(_word(value), self.go))
            return ""
        at = base64_error(value)
        if at is not None:
            run.save(Refusal(f"illegal base64 data at input byte {at}"))
        return value


class Own(Kind):
    """A Go type with an UnmarshalJSON method of its own that decodes into `inner` first: any error ends the whole
    decoding. `then` turns what was read into the value; a ValueError of it is a refusal in its words."""

    def __init__(self, inner: Kind, then: Callable[[Any], Any] | None = None, pointer: bool = False) -> None:
        super().__init__(inner.go)
        self.inner = inner
        self.then = then
        self.nilable = pointer

    def zero(self) -> Any:
        return self.inner.zero()

    def read(self, value: Any, run: Run) -> Any:
        own = Run(run.exact, run.deep)
        try:
            found = self.inner.read(value, own)
        except Refusal as error:
            raise own.place(error) from None
        if own.error is not None:
            raise own.error
        if self.then is None:
            return found
        try:
            return self.then(found)
        except ValueError as error:
            raise Refusal(str(error)) from None


class Checked(Kind):
    """Checked as `kind`, but kept whole, with the members that `kind` does not name."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind.go)
        self.kind = kind
        self.nilable = kind.nilable

    def zero(self) -> Any:
        return self.kind.zero()

    def read(self, value: Any, run: Run) -> Any:
        self.kind.read(value, run)
        return ANY.read(value, run)


STRING = _Scalar("string", str, "")
BOOL = _Scalar("bool", bool, False)
INT = _Integer()
FLOAT = _Float()
FLOAT32 = _Float("float32")
ANY = _Anything("interface {}")
STRINGS = Array("[]string", STRING)
OBJECT = Map("map[string]interface {}", ANY)


def _fold(key: str) -> str:
    """Go's folding of member names: ASCII in any case, and the two signs that fold into ASCII (U+017F, U+212A)."""
    return key.lower() if key.isascii() else key.lower().replace("\u017f", "s")


def members(value: Any) -> Iterable[tuple[str, Any]] | None:
    """The members of a value that came out of either way of reading, in order; None when it is no object."""
    if isinstance(value, Members):
        return value.pairs
    return value.items() if isinstance(value, dict) else None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(WRITABLE_DEPTH):
        level = [
            each
            for holder in level
            for each in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(each, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _plain(value: Any, run: Run, depth: int) -> Any:
    """A scanned value as dict, list, str, int, float, bool or None."""
    if type(value) is Number:
        number = value.number()
        if number is None:
            run.save(_Mismatch(f"number {value.text}", "float64"))
        return number
    if not isinstance(value, list | Members):
        return value
    if depth >= WRITABLE_DEPTH:
        raise _too_deep()
    if isinstance(value, list):
        return [_plain(each, run, depth + 1) for each in value]
    return {key: _plain(each, run, depth + 1) for key, each in value.pairs}
