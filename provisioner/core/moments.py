"""Moments as users write them: how long ago, the local time, or RFC 3339."""

from __future__ import annotations

from datetime import datetime

from provisioner.core.durations import milliseconds
from provisioner.core.errors import UsageError


def moment(text: str, now: int) -> int:
    """``2h`` (ago), ``2026-12-01 14:00`` (local time) or ``2026-12-01T14:00:00Z`` in milliseconds; `now` is in them, too."""
    if text[-1:].isalpha() and text[:1].isdecimal() and text[-1:] != "Z":
        return max(0, now - milliseconds(text))
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{text!r} is not a time", "Use 2h (ago), '2026-12-01 14:00', or 2026-12-01T14:00:00Z"
        ) from error
