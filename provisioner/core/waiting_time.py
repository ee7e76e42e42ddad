"""When a waiting period is over: the one decision before data is deleted automatically."""

from __future__ import annotations


def over_at(ends_at: int, length: int, waited: int | None, now: int) -> int:
    """When (ms) it is over by both clocks, if they go alike from `now` on.

    `ends_at` is when it ends by the wall clock. `length` (ms) is its total length, `waited` the part that has passed by the
    clock that only runs forward while the machine is up; None if that clock has not started.
    """
    return max(ends_at, now + max(0, length - (waited or 0)))
