"""Durations as users write them."""

from __future__ import annotations

from provisioner.core.errors import UsageError

LONGEST_MS = 36_500 * 86_400_000
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def milliseconds(text: str) -> int:
    """``10s``, ``90min``, ``7d``; a bare number is seconds."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(number) :] or "s"
    if unit not in _UNITS or not number.strip().isdecimal() or len(number) > len(str(LONGEST_MS)):
        raise UsageError(f"{text!r} is not a duration", "Use a value such as 10s, 90min, 12h, or 7d")
    found = int(number) * _UNITS[unit]
    if found > LONGEST_MS:
        raise UsageError(f"{text!r} is too long", "Use at most 36500d")
    return found


def about(seconds: float) -> str:
    """A time span for people, in whole units of the largest that fits: ``3 d``, ``5 min``."""
    for unit, length_ms in (("d", _UNITS["d"]), ("h", _UNITS["h"]), ("min", _UNITS["min"])):
        if seconds * 1000 >= length_ms:
            return f"{int(seconds * 1000 // length_ms)} {unit}"
    return f"{max(0, seconds):.0f} s"


def written(length_ms: int) -> str:
    """A duration in the notation of `milliseconds`, in the largest unit that gives a whole number."""
    for unit in ("d", "h", "min", "s"):
        if length_ms and not length_ms % _UNITS[unit]:
            return f"{length_ms // _UNITS[unit]}{unit}"
    return f"{length_ms}ms" if length_ms else "0s"


def lasting(text: str) -> int | None:
    """A duration in the notation of `milliseconds`, or ``never``: None."""
    if text == "never":
        return None
    found = milliseconds(text)
    if found == 0:
        raise UsageError("a timeline cannot expire at once", "Use a value such as 14d, or never")
    return found


def limit(text: str) -> int:
    """A time limit for a command: at most a day, because it blocks its timeline."""
    found = milliseconds(text)
    if not 0 < found <= 86_400_000:
        raise UsageError(f"{text!r} is not a time limit", "Use a value such as 30s or 10min, at most 1d")
    return found
