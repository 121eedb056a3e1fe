"""What can go wrong, once: the status a client sees and the scope the router acts on.

Knows: the one table of statuses (house rules, section 3). Must not know: any wire shape (a dialect writes an error in
its own words), any SDK, aiohttp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Scope(StrEnum):
    """Whose failure it is; decides whether the next target may be asked and what the breaker learns."""

    CALLER = "caller"  # the request itself; asking elsewhere cannot help
    KEY = "key"  # our credential or our account's credit at a provider
    NO_KEY = "no_key"  # the provider is off, or its SDK is not installed
    MODEL = "model"  # the provider does not have that model
    THROTTLE = "throttle"  # rates and overload, which come back
    PROVIDER = "provider"  # 5xx, refused, reset, garbage, time-out
    GATEWAY = "gateway"  # our own bug


# Codes a dialect may word in its own way. Everything else is free text for the client.
MODEL_NOT_FOUND = "model_not_found"
INVALID_MODEL_NAME = "invalid_model_name"
MODEL_REQUIRED = "model_required"
NO_TOOLS = "no_tools"
NO_THINKING = "no_thinking"
NO_CHAT = "no_chat"
NO_INSERT = "no_insert"
NO_EMBEDDING = "no_embedding"
INCAPABLE = frozenset({NO_TOOLS, NO_THINKING, NO_CHAT, NO_INSERT, NO_EMBEDDING})
CONTEXT_LENGTH = "context_length_exceeded"
CONTENT_FILTER = "content_filter"


class GatewayError(Exception):
    """A failure that a door can show and the router can act on.

    status: HTTP status for the client. scope: see Scope. code/param: machine words that travel in dialects that have
    such fields. model: the public name asked for, when the text is about it (a door words it by endpoint).
    retry_after: seconds. reason: the provider's own words for the X-Bridge-Reason header when the client is told
    something else. early: refused before any work began (dialects that tell the two apart by content type need it).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 500,
        scope: Scope = Scope.GATEWAY,
        code: str | None = None,
        param: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        retry_after: float | None = None,
        reason: str | None = None,
        upstream_id: str | None = None,
        upstream_status: int | None = None,
        early: bool = False,
        near: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.scope = scope
        self.code = code
        self.param = param
        self.model = model
        self.provider = provider
        self.retry_after = retry_after
        self.reason = reason
        self.upstream_id = upstream_id
        self.upstream_status = upstream_status
        self.early = early
        self.near = near


def refuse(message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> GatewayError:
    """The client's own mistake, seen before any work began."""
    return GatewayError(message, status=status, scope=Scope.CALLER, code=code, param=param, early=True)


def model_not_found(name: str, near: tuple[str, ...] = ()) -> GatewayError:
    return GatewayError(
        f"model '{name}' not found",
        status=404, scope=Scope.CALLER, code=MODEL_NOT_FOUND, model=name, early=True, near=near,
    )  # fmt: skip


def unreachable(provider: str, why: str) -> GatewayError:
    """Refused, reset, DNS, TLS: nothing usable came back. `why` is a short cause without addresses or keys."""
    return GatewayError(
        f"cannot reach provider '{provider}': {why}", status=502, scope=Scope.PROVIDER, provider=provider
    )


def timed_out(provider: str, what: str, seconds: float) -> GatewayError:
    return GatewayError(
        f"provider '{provider}' sent no {what} within {seconds:g} s",
        status=504,
        scope=Scope.PROVIDER,
        provider=provider,
    )


def broken(provider: str, why: str) -> GatewayError:
    """The provider's answer is not what its wire allows: garbage, a cut stream, an empty answer."""
    return GatewayError(f"provider '{provider}' {why}", status=502, scope=Scope.PROVIDER, provider=provider)


def shutting_down() -> GatewayError:
    """The gateway is told to end while the request is under way; another one, or the same a little later, answers."""
    return GatewayError("the gateway is shutting down: ask again", status=503, scope=Scope.GATEWAY, retry_after=1)


@dataclass(slots=True)
class WireError:
    """A provider's error body as its dialect read it. `type` and `code` are the provider's own words. `refused`: words
    of Profile.rejects that the error teaches, where only the dialect can tell from the service's sentences. `status`:
    what the status should have been, where a service answers a client's mistake with a 5xx. `early`: as in
    GatewayError, where the wire tells."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    detail: dict[str, object] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    status: int | None = None
    early: bool = False


class UpstreamRefused(Exception):
    """A provider answered with a status of 400 or above. Raised by a provider's transport; the pipeline lets the
    provider's dialect read `body` and then asks `classify`. `headers` are lower-case names."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"upstream answered {status}")
        self.status = status
        self.headers = headers
        self.body = body


_CREDIT = re.compile(r"insufficient_quota|billing|out of credit|insufficient balance|exceeded your current quota", re.I)
_BAD_KEY = re.compile(
    r"API_KEY_INVALID|invalid[_ ]api[_ ]key|incorrect api key|api key not valid|user location is not supported"
    r"|credit balance is too low",  # Anthropic's empty account is a 400 as well
    re.I,
)
_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context window|prompt is too long"
    r"|exceeds the (maximum number of tokens|available context size|context length)|maximum prompt length"
    r"|too many tokens",
    re.I,
)
_FILTER = re.compile(r"content_filter|content_policy|content management policy|safety system", re.I)
_MODEL = re.compile(r"model_not_found|model .*(not found|does not exist)|no such model|unknown model", re.I)


def _out_of_credit(error: WireError) -> bool:
    """A quota that says when it is back is no empty account, whatever its words say of billing (Google's do)."""
    said = f"{error.code or ''} {error.type or ''}"
    if error.retry_after is None:
        said += f" {error.message}"
    return _CREDIT.search(said) is not None


def classify(provider: str, status: int, error: WireError, model: str, upstream_id: str | None = None) -> GatewayError:
    """The one table: an upstream status and what its body says -> what the client sees and the router does.

    `model` is the public name the client asked for. A client never sees 401 for a key that is ours: the `ollama`
    program would start a sign-in on it.
    """
    answered, status = status, error.status or status
    words = error.message or f"provider '{provider}' answered {status}"
    said = f"{error.code or ''} {error.type or ''} {words}"

    def make(message: str, to: int, scope: Scope, **more: object) -> GatewayError:
        return GatewayError(
            message, status=to, scope=scope, provider=provider, retry_after=error.retry_after,
            upstream_id=upstream_id, upstream_status=answered, early=error.early, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    if (
        status in (401, 402, 403)
        or (status == 429 and _out_of_credit(error))
        or (status == 400 and _BAD_KEY.search(said))
    ):
        if _FILTER.search(said) and status == 403:
            return make(words, 400, Scope.CALLER, code=CONTENT_FILTER)
        return make(f"provider '{provider}' refused our key or account ({status}): {words}", 502, Scope.KEY)
    if status == 404:
        if _MODEL.search(said) or "model" in said.lower():
            return make(f"model '{model}' not found", 404, Scope.MODEL, code=MODEL_NOT_FOUND, model=model, reason=words)
        return make(f"provider '{provider}' answered 404: {words}", 502, Scope.PROVIDER)
    if status == 429:
        return make(words, 429, Scope.THROTTLE, code=error.code, param=error.param)
    if status == 529 or (error.type or "") == "overloaded_error":
        return make(words, 503, Scope.THROTTLE, code=error.code)
    if status in (408, 504):
        return make(f"provider '{provider}' timed out: {words}", 504, Scope.PROVIDER)
    if status == 409:
        return make(words, 502, Scope.PROVIDER, code=error.code)
    if status >= 500:
        return make(f"provider '{provider}' failed ({status}): {words}", 503 if status == 503 else 502, Scope.PROVIDER)
    if status >= 400:
        code = error.code
        if _CONTEXT.search(said):
            code = CONTEXT_LENGTH
        elif _FILTER.search(said):
            code = CONTENT_FILTER
        about = model if code in INCAPABLE else None
        return make(
            words, status if status in (400, 413, 422) else 400, Scope.CALLER,
            code=code, param=error.param, model=about,
        )  # fmt: skip
    return make(f"provider '{provider}' answered an unexpected {status}", 502, Scope.PROVIDER)


# Statuses whose meaning does not depend on who answered: the provider's own words are the whole message. And those of
# our key.
_TOLD = frozenset({400, 409, 413, 422, 429, 529})
_KEY = frozenset({401, 402, 403})


def unusable(why: str) -> GatewayError:
    """A provider's answer is not what its wire allows. `why` completes "the provider …"; which one it is the caller
    knows."""
    return GatewayError(f"the provider {why}", status=502, scope=Scope.PROVIDER)


def reported(error: WireError, status: int) -> GatewayError:
    """The error that a provider reports inside an answer that it had begun with status 200; `status` is the one that it
    names there, 0 for none. Which provider it is the caller knows; `provider` is left open."""
    if status in _TOLD and error.message:
        failure = classify("", status, error, "")
        if failure.scope is not Scope.KEY:
            failure.provider = None
            return failure
        status = 401
    return GatewayError(
        error.message or "the provider reported an error without any words",
        status=502,
        scope=Scope.KEY if status in _KEY else Scope.PROVIDER,
        code=error.code,
        param=error.param,
        retry_after=error.retry_after,
        upstream_status=status or None,
    )
