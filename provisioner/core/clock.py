"""Time as the registry keeps it: whole milliseconds since 1970, UTC."""

from __future__ import annotations

import time


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def rfc3339(milliseconds: int | None) -> str | None:
    """``2026-01-31T12:00:00.000Z``; None stays None."""
    if milliseconds is None:
        return None
    seconds, rest = divmod(milliseconds, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03d}Z"
