"""How much a target is asked to think: what the client wants, in the words the target has.

Knows: levels, and the rules of a profile about them (providers.md 2.6, 3.1). Must not know: how a wire spells a level,
models.
"""

from __future__ import annotations

from typing import Any

from ..dialects.base import Loss, Profile
from ..values import ChatRequest, Think
from .families import EFFORT_WITH_TOOLS, REASONING_WITH_TOOLS, SCALE

_QUIET = frozenset({"thinking_level", "thinking_budget", "summary"})  # what cannot be off can be turned down and hidden
_ASKED = _QUIET | {"adaptive", "between_tools", "budget"}  # ways in which thoughts are shown only when asked for
_SWITCHED = _ASKED | {"openrouter", "deepseek", "template"}  # ways of thinking control that have a plain "on"


def can_think(profile: Profile) -> bool:
    return profile.reasoning != "none" and "think" not in profile.rejects


def fit_think(request: ChatRequest, profile: Profile, losses: list[Loss]) -> tuple[Think, bool]:
    """-> (what to say, whether the target will reason)."""
    wanted = request.think
    if not can_think(profile):
        if wanted is False and profile.reasons_by_default:
            losses.append(Loss("think", "cannot be switched off"))
        elif wanted and (isinstance(wanted, str) or not profile.reasons_by_default):
            losses.append(Loss("think", "cannot be told"))
        return None, profile.reasons_by_default
    if request.tools and wanted is not False:
        if REASONING_WITH_TOOLS in profile.rejects and profile.think_off and (wanted or profile.reasons_by_default):
            if wanted:
                losses.append(Loss("think", "not together with tools"))
            return False, False
        if EFFORT_WITH_TOOLS in profile.rejects and wanted:
            if isinstance(wanted, str) or not profile.reasons_by_default:
                losses.append(Loss("think", "not together with tools"))
            return None, profile.reasons_by_default
    if wanted is None:
        return None, profile.reasons_by_default
    if wanted is False:
        return _fit_off(profile, losses)
    if wanted is True:
        if profile.reasons_by_default and profile.reasoning not in _ASKED:
            return None, True
        return (True if profile.reasoning in _SWITCHED else nearest("medium", profile.efforts) or True), True
    level = nearest(wanted, profile.efforts)
    if level is None:
        losses.append(Loss("think", "has no levels"))
        return (None if profile.reasons_by_default and profile.reasoning not in _ASKED else True), True
    return level, True


def _fit_off(profile: Profile, losses: list[Loss]) -> tuple[Think, bool]:
    if profile.think_off:
        return False, False
    if not profile.reasons_by_default:
        return None, False
    losses.append(Loss("think", "cannot be switched off"))
    if profile.reasoning in _QUIET:
        return False, True
    return nearest("minimal", profile.efforts or ("low",)), True


def nearest(level: str, efforts: tuple[str, ...]) -> Any:
    """The nearest word the target takes, the stronger of two equally near; None when it has none of the scale's words.
    () takes every word."""
    if not efforts:
        return level
    place = SCALE.index(level)
    known = [effort for effort in SCALE if effort in efforts]
    return min(reversed(known), key=lambda effort: abs(SCALE.index(effort) - place), default=None)
