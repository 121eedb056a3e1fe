"""Numbers as Go's encoding/json prints them.

Knows: the shortest digits of float32 and float64, and when Go takes an exponent. Must not know: what is printed.

    float64  1.0 -> 1    1e-05 -> 0.00001    5e-07 -> 5e-7        float32  0.1 -> 0.1    widened -> 0.10000000149011612
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence


def float32(values: Sequence[float]) -> array[float]:
    """The nearest float32 of each; infinite where none is near."""
    return array("f", values)


def float32_texts(values: array[float]) -> list[str]:
    """The shortest text of each float32 that reads back as the same float32. Nine digits always do; each attempt
    formats all that are still open at once."""
    texts = [""] * len(values)
    left = list(range(len(values)))
    for digits in (6, 7, 8, 9):
        written = (f"%.{digits}g " * len(left) % tuple([values[i] for i in left])).split()
        again = array("f", map(float, written))
        missed = []
        for i, text, value in zip(left, written, again, strict=True):
            texts[i] = text
            if value != values[i]:
                missed.append(i)
        left = missed
    return [_go(text) if "e" in text else text for text in texts]


def float64_text(value: float) -> str:
    """The shortest text of a float64; "null" for what JSON cannot say."""
    if not math.isfinite(value):
        return "null"
    text = repr(value)
    return _go(text.removesuffix(".0"))


def _go(text: str) -> str:
    """Python's exponent form -> Go's: an exponent only below 1e-6 and from 1e21 on, without leading zeros."""
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    power = int(exponent)
    if power < -6 or power >= 21:
        return f"{mantissa}e{power:+d}" if power > 0 else f"{mantissa}e{power}"
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = whole + fraction
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    return f"{sign}{digits.ljust(power + 1, '0')}"
