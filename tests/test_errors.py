"""The one table of statuses: upstream status and words -> what the client sees and the router does."""

from __future__ import annotations

import pytest

from ollama_bridge.errors import Scope, WireError, classify

CASES = {
    "400": (400, WireError("bad thing", param="x"), 400, Scope.CALLER, "bad thing"),
    "422": (422, WireError("bad thing"), 422, Scope.CALLER, "bad thing"),
    "413": (413, WireError("too large"), 413, Scope.CALLER, "too large"),
    "418": (418, WireError("teapot"), 400, Scope.CALLER, "teapot"),
    "401": (401, WireError("nope"), 502, Scope.KEY, "'up'"),
    "402": (402, WireError("pay"), 502, Scope.KEY, "pay"),
    "403": (403, WireError("no"), 502, Scope.KEY, "no"),
    "a bad key as 400": (
        400,
        WireError("API key not valid.", code="API_KEY_INVALID"),
        502,
        Scope.KEY,
        "up",
    ),
    "quota gone": (429, WireError("You exceeded", code="insufficient_quota"), 502, Scope.KEY, "You exceeded"),
    "out of credit": (429, WireError("see your plan and billing details"), 502, Scope.KEY, "billing"),
    "a quota that comes back": (429, WireError("see your billing details", retry_after=48), 429, Scope.THROTTLE, "see"),
    "a place": (400, WireError("User location is not supported for the API use."), 502, Scope.KEY, "up"),
    "rate": (429, WireError("slow down", retry_after=7), 429, Scope.THROTTLE, "slow down"),
    "overloaded": (529, WireError("busy"), 503, Scope.THROTTLE, "busy"),
    "overloaded by word": (500, WireError("busy", type="overloaded_error"), 503, Scope.THROTTLE, "busy"),
    "no such model": (404, WireError("The model `x` does not exist"), 404, Scope.MODEL, "model 'mine' not found"),
    "no such path": (404, WireError("Not Found"), 502, Scope.PROVIDER, "404"),
    "408": (408, WireError("late"), 504, Scope.PROVIDER, "timed out"),
    "409": (409, WireError("conflict"), 502, Scope.PROVIDER, "conflict"),
    "500": (500, WireError("oops"), 502, Scope.PROVIDER, "oops"),
    "503": (503, WireError("later"), 503, Scope.PROVIDER, "later"),
    "504": (504, WireError("late"), 504, Scope.PROVIDER, "timed out"),
    "302": (302, WireError(""), 502, Scope.PROVIDER, "302"),
}


@pytest.mark.parametrize(("status", "wire", "to", "scope", "words"), CASES.values(), ids=CASES)
def test_table(status: int, wire: WireError, to: int, scope: Scope, words: str) -> None:
    error = classify("up", status, wire, "mine", "req-1")
    assert (error.status, error.scope) == (to, scope)
    assert words in error.message
    assert (error.provider, error.upstream_status, error.upstream_id) == ("up", status, "req-1")
    assert error.retry_after == wire.retry_after


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("This model's maximum context length is 8192 tokens", "context_length_exceeded"),
        ("prompt is too long: 9 > 8", "context_length_exceeded"),
        ("request (610 tokens) exceeds the available context size (256 tokens)", "context_length_exceeded"),
        ("the input length exceeds the context length", "context_length_exceeded"),
        ("This model's maximum prompt length is 131072 but the request contains 140000", "context_length_exceeded"),
        ("Your request was rejected as a result of our safety system", "content_filter"),
        ("temperature is odd", None),
    ],
)
def test_what_a_400_is_about(words: str, code: str | None) -> None:
    assert classify("up", 400, WireError(words), "mine").code == code
