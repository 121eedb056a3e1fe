"""What a refusal teaches: a profile changed by one thing, so that the same request can be tried again.

Knows: the words in which services refuse a parameter (providers.md 2.6, "Generic degrade loop"), profiles, and how long
a lesson holds. Must not know: requests as values, how often may be retried (the pipeline counts), sockets.

    {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use
               'max_completion_tokens' instead.", "param": "max_tokens", "code": "unsupported_parameter"}}
    -> Profile(max_tokens_field="max_completion_tokens")

Only an optional parameter that was sent can be at fault. Messages, tools, the model, a conversation that is too long
and content policy are never touched, and a value that is merely out of range stays the client's own mistake.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..dialects.base import Profile
from ..errors import CONTENT_FILTER, CONTEXT_LENGTH, Scope, WireError, classify
from .families import (
    DEVELOPER_ROLE,
    JSON_UNSAID,
    OTHER_LIMIT,
    PREFILL,
    REASONING_WITH_TOOLS,
    REPEATED_ROLES,
    SCALE,
)

LESSON_SECONDS = 3600.0
LESSONS_AT_MOST = 1000

_SACRED = frozenset(
    {"messages", "tools", "model", "prompt", "input", "stream", "functions", "suffix"}
    | {"contents", "systemInstruction", "generationConfig", "requests"}  # Gemini's: its dialect says what they teach
)
# Wire names whose profile word is another one.
_WORDS = {
    "random_seed": "seed",
    "repetition_penalty": "repeat_penalty",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "top_logprobs": "logprobs",
    "reasoning_effort": "think",
    "reasoning": "think",
    "thinking": "think",
    "output_config": "think",
    "chat_template_kwargs": "think",
}
_THINKING_FIELDS = ("reasoning_effort", "reasoning", "thinking", "chat_template_kwargs", "output_config")
_EFFORT_FIELDS = ("reasoning_effort", "reasoning", "output_config")
_OTHER_LIMIT = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

_UNSUPPORTED_CODES = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"})
_UNSUPPORTED = re.compile(
    r"unsupported|not[ _]support|n't support|unknown|unrecogni[sz]ed|unexpected|extra (inputs|fields)|extra_forbidden"
    r"|not (permitted|allowed|accepted|available|compatible|implemented)|no longer|deprecated|incompatible"
    r"|can(not|'t| not) be (used|set|specified|combined)|only (the default|1 |support|allow)"
    r"|must be (set to )?(default\b|1\b)|only .{0,40}\b(is|are) (allowed|supported)",
    re.I,
)
_BAD_SCHEMA = re.compile(r"invalid (json )?schema|invalid_json_schema", re.I)  # the client's schema, not the model
# Before a list of words ("Supported values are:"), and around one ("only none and default are supported").
_BEFORE_LIST = re.compile(
    r"\b(supported|valid|allowed|accepted|available|permitted|(must|should) be|one of|expected)\b", re.I
)
_AROUND_LIST = re.compile(r"\bonly\b(.{3,80}?)\b(is|are) (supported|allowed|accepted)", re.I)
_SENTENCE_END = re.compile(r"[.;\n](\s|$)")
_EFFORT_WORD = re.compile(r"\b(none|minimal|low|medium|high|xhigh|max|default)\b")
_ALTERNATE = re.compile(r"roles? must alternate|alternat(e|ing) (between )?.{0,20}user", re.I)
# The role as such; a system message in an odd place ("after role assistant") is another thing.
_SYSTEM_REFUSED = re.compile(
    r"(not support|unsupported|not allowed)[^.]{0,24}\bsystem\b|\bsystem\b[^.]{0,24}not support", re.I
)
_RESPONSES_API = re.compile(r"\bv1/responses\b|\bresponses (api|endpoint)\b", re.I)
_JSON_WORD = re.compile(r"must (contain|include) the word .{0,3}json", re.I)
_TOO_LONG = re.compile(r"\bmax_tokens\b\D{0,4}\d+ > (\d+)")  # Anthropic's "max_tokens: 128000 > 64000, which is …"
_BAD_THOUGHT = re.compile(r"signature.{0,20}thinking|thinking.{0,40}blocks?.{0,40}cannot be modified", re.I)
_PLAIN_NAMES = frozenset({"temperature", "logprobs", "stop", "seed", "thinking", "reasoning", "verbosity"})


@dataclass(frozen=True, slots=True)
class Repair:
    """`profile` is what to try next. `name` is the parameter it is about (for metrics), `words` say what is done from
    now on (for the log); neither holds anything of the request."""

    profile: Profile
    name: str
    words: str


def learn(profile: Profile, error: WireError, status: int, sent: Mapping[str, Any]) -> Repair | None:
    """What to change after a refusal, or None when the refusal is not about an optional parameter.

    `sent` is the body that was refused, by wire names. The result always differs from `profile`. The caller limits the
    repairs of a request to three.
    """
    repair = _other_api(profile, error, status, sent)
    if repair is not None or status not in (400, 422):
        return repair
    failure = classify("", status, error, "")
    if failure.scope is not Scope.CALLER or failure.code in (CONTEXT_LENGTH, CONTENT_FILTER):
        return None
    if not error.refused <= profile.rejects:
        words = ", ".join(sorted(error.refused))
        return Repair(profile.with_(rejects=profile.rejects | error.refused), words, f"{words} is not sent any more")
    for repair in _candidates(profile, error, sent):
        if repair.profile != profile:
            return repair
    return None


def _candidates(profile: Profile, error: WireError, sent: Mapping[str, Any]) -> Iterator[Repair]:
    yield from _of_messages(profile, error, sent)
    too_long = _TOO_LONG.search(error.message)
    if too_long is not None:
        limit = int(too_long[1])
        yield Repair(profile.with_(max_output=limit), "max_tokens", f"answers have at most {limit} tokens")
    name = _parameter(error, sent)
    if name is None:
        return
    if name in _THINKING_FIELDS:
        yield from _of_thinking(profile, error, sent, name)
    if not _is_unsupported(error):
        return
    if name in _OTHER_LIMIT:
        yield _of_limit(profile, name)
    elif name == "output_config" and ("effort" not in sent[name] or "format" in (error.param or "")):
        yield Repair(profile.with_(formats=profile.formats - {"schema"}), name, "schemas are asked for in words")
    elif name in ("response_format", "text"):
        yield from _of_format(profile, sent)
    elif name == "stream_options":
        yield _rejecting(profile.with_(stream_usage=False), name, name, "usage is no longer asked for")
    elif name in ("stop", "stop_sequences"):
        yield Repair(profile.with_(max_stops=0), name, "stop strings are found by the gateway")
    elif name in profile.extra_body:
        extra = {key: value for key, value in profile.extra_body.items() if key != name}
        yield Repair(profile.with_(extra_body=extra), name, f"{name} is no longer added")
    else:
        word = _WORDS.get(name, name)
        words = "a tool is no longer forced" if name == "tool_choice" else f"{name} is no longer sent"
        # A value that no dialect knows stays under its wire name: that one is refused as well.
        yield Repair(profile.with_(rejects=profile.rejects | {word, name}), name, words)


def _other_api(profile: Profile, error: WireError, status: int, sent: Mapping[str, Any]) -> Repair | None:
    """Whether the same is to be asked by OpenAI's other API (providers.md 2.1): the one sends to the other by name, or
    is not there at all."""
    if not profile.responses:
        return None
    if "input" in sent and "stream" in sent:
        if status in (404, 405, 501) and "model" not in f"{error.code} {error.message}".lower():
            return Repair(profile.with_(responses=frozenset()), "api", "the Responses API is not there")
    elif status in (400, 404, 422) and _RESPONSES_API.search(error.message) and "always" not in profile.responses:
        return Repair(profile.with_(responses=profile.responses | {"always"}), "api", "carried by the Responses API")
    return None


def _rejecting(profile: Profile, word: str, name: str, words: str) -> Repair:
    return Repair(profile.with_(rejects=profile.rejects | {word}), name, words)


# -- what the refusal is about ---------------------------------------------------------------------------------------


def _is_unsupported(error: WireError) -> bool:
    """The parameter as such, not merely its value: nobody drops a temperature of 3 in silence."""
    if error.code in _UNSUPPORTED_CODES:
        return True
    return _UNSUPPORTED.search(error.message) is not None and _BAD_SCHEMA.search(error.message) is None


def _parameter(error: WireError, sent: Mapping[str, Any]) -> str | None:
    """The top-level name of an optional parameter that was sent: as the error names it, else as its words do."""
    if error.param:
        name = re.split(r"[.\[]", error.param.removeprefix("body."), maxsplit=1)[0]
        if name in sent and name != "tools":  # "tools" is also named when an effort beside them is at fault
            return None if name in _SACRED else name
    optional = [name for name in sent if name not in _SACRED]
    optional.sort(key=len, reverse=True)  # max_completion_tokens before max_tokens, top_logprobs before logprobs
    for shape in (r"['\"`]{}\b", r"\bbody\.{}\b", r"(?<![\w'\"`.]){}\b(?![\w'\"`])"):
        plain = shape.startswith("(?<!")
        for name in optional:
            if plain and "_" not in name and name not in _PLAIN_NAMES:
                continue  # "user", "n", "store" are words of every sentence
            if re.search(shape.format(re.escape(name)), error.message):
                return name
    return None


# -- repairs ---------------------------------------------------------------------------------------------------------


def _of_messages(profile: Profile, error: WireError, sent: Mapping[str, Any]) -> Iterator[Repair]:
    """Conversations that a model's template cannot hold: the same words in another arrangement."""
    message = error.message
    if "response_format" in sent and _JSON_WORD.search(message):
        yield _rejecting(profile, JSON_UNSAID, "response_format", "JSON is asked for in words as well")
    if "prefill" in message and _is_unsupported(error):
        yield _rejecting(profile, PREFILL, "messages", "the assistant's last words are answered, not continued")
    if profile.keeps and _BAD_THOUGHT.search(message):
        yield Repair(profile.with_(keeps=False), "messages", "earlier thoughts are not sent back")
    if _ALTERNATE.search(message):
        yield _rejecting(profile, REPEATED_ROLES, "messages", "messages of the same role are joined")
    if re.search(r"\broles?\b", f"{message} {error.param or ''}", re.I) is None:
        return
    roles = {item.get("role") for item in sent.get("messages", ()) if isinstance(item, dict)}
    if "developer" in roles:
        rejects = profile.rejects | {DEVELOPER_ROLE}
        yield Repair(profile.with_(system_role="system", rejects=rejects), "role", "system messages are called system")
    elif "system" in roles and _SYSTEM_REFUSED.search(message) and DEVELOPER_ROLE not in profile.rejects:
        yield Repair(profile.with_(system_role="developer"), "role", "system messages are called developer")


def _of_limit(profile: Profile, name: str) -> Repair:
    """A client's own body may have used the other name than the profile's: then only the translation is missing."""
    other = _OTHER_LIMIT[name]
    if name == profile.max_tokens_field and OTHER_LIMIT in profile.rejects:
        return _rejecting(profile, "max_tokens", name, f"{name} is no longer sent")
    return _rejecting(profile.with_(max_tokens_field=other), OTHER_LIMIT, name, f"{name} is sent as {other}")


def _of_format(profile: Profile, sent: Mapping[str, Any]) -> Iterator[Repair]:
    asked = sent["response_format"] if "response_format" in sent else sent["text"].get("format")
    if isinstance(asked, dict) and asked.get("type") == "json_schema":
        kind, words = "schema", "schemas are asked for in words"
    else:
        kind, words = "json", "JSON mode is no longer asked for"
    yield Repair(profile.with_(formats=profile.formats - {kind}), "response_format", words)


def _of_thinking(profile: Profile, error: WireError, sent: Mapping[str, Any], name: str) -> Iterator[Repair]:
    """The effort that the error lists, or one that it does not name. Whether the whole parameter is refused is the
    general rule's business, which comes after this one."""
    if name == "reasoning" and "summar" in f"{error.param} {error.message}":
        yield _rejecting(profile, "reasoning.summary", name, "summaries of thoughts are no longer asked for")
    if name == "thinking" and isinstance(sent[name], dict) and _is_unsupported(error):
        yield from _of_switch(profile, sent[name].get("type"))
    effort = _effort(sent)
    if effort is None or name not in _EFFORT_FIELDS:
        return
    if sent.get("tools") and re.search(r"\btools?\b", error.message, re.I) and effort != "none" and profile.think_off:
        # Only a model that reasons of itself has to be told not to.
        told = profile.with_(reasons_by_default=True)
        yield _rejecting(told, REASONING_WITH_TOOLS, name, "beside tools reasoning is switched off")
    listed = _listed_efforts(error.message)
    if listed and effort not in listed:
        efforts = tuple(word for word in (*SCALE, "default") if word in listed)
        words = f"efforts are {', '.join(efforts) or 'none'}"
        off = profile.think_off if name == "output_config" else "none" in listed
        yield Repair(profile.with_(efforts=efforts, think_off=off), name, words)
    elif error.code in ("unsupported_value", "invalid_value"):
        if effort == "none":
            yield Repair(profile.with_(think_off=False), name, "reasoning is not switched off")
        elif left := tuple(word for word in profile.efforts or SCALE if word != effort):
            yield Repair(profile.with_(efforts=left), name, f"effort {effort} is not used")


def _of_switch(profile: Profile, kind: Any) -> Iterator[Repair]:
    """A way of thinking that this model does not have, and the one that it should have instead."""
    if kind in ("disabled", "between_tools"):
        on = profile.with_(think_off=False, reasons_by_default=True)
        yield Repair(on, "thinking", "reasoning is not switched off")
    elif kind == "adaptive":
        yield Repair(profile.with_(reasoning="budget"), "thinking", "thoughts have a budget")
    elif kind == "enabled" and profile.reasoning == "budget":
        yield Repair(profile.with_(reasoning="adaptive"), "thinking", "thoughts have no budget")


def _effort(sent: Mapping[str, Any]) -> str | None:
    value = sent.get("reasoning_effort")
    for name in ("reasoning", "output_config"):
        if value is None and isinstance(sent.get(name), dict):
            value = sent[name].get("effort")
    return value if isinstance(value, str) and value in (*SCALE, "none") else None


def _listed_efforts(message: str) -> set[str]:
    """Effort words in the sentence that says which are taken."""
    around = _AROUND_LIST.search(message)
    if around is not None:
        return set(_EFFORT_WORD.findall(around[1]))
    for marker in _BEFORE_LIST.finditer(message):
        sentence = _SENTENCE_END.split(message[marker.end() :], maxsplit=1)[0]
        listed = set(_EFFORT_WORD.findall(sentence))
        if len(listed) > 1:
            return listed
    return set()


# -- memory ----------------------------------------------------------------------------------------------------------


class Learned:
    """What refusals have taught, by target (base URL, upstream model, …), for an hour (providers.md 2.6). `clock` gives
    seconds and never goes back. At most `size` lessons; the oldest go first."""

    def __init__(
        self, clock: Callable[[], float], seconds: float = LESSON_SECONDS, size: int = LESSONS_AT_MOST
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._size = size
        self._lessons: OrderedDict[tuple[str, ...], tuple[float, Profile]] = OrderedDict()

    def get(self, target: tuple[str, ...]) -> Profile | None:
        lesson = self._lessons.get(target)
        if lesson is None:
            return None
        until, profile = lesson
        if self._clock() < until:
            return profile
        del self._lessons[target]
        return None

    def put(self, target: tuple[str, ...], profile: Profile) -> bool:
        """-> whether this is news: False when the very same was known already (a second request learnt it at the same
        time), so that the log says it once."""
        news = self.get(target) != profile
        self._lessons[target] = (self._clock() + self._seconds, profile)
        self._lessons.move_to_end(target)
        while len(self._lessons) > self._size:
            self._lessons.popitem(last=False)
        return news

    def clear(self) -> None:
        """After a reload of the config: its profiles may be other ones."""
        self._lessons.clear()

    def __len__(self) -> int:
        return len(self._lessons)
