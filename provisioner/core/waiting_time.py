"""When a waiting time is over: the one decision before anything is deleted that nobody has asked to delete."""

from __future__ import annotations


def over_at(ends_at: int, length: int, waited: int | None, now: int) -> int:
    """When (ms) it is over by both clocks, if they go alike from `now` on.

    `ends_at` is when it ends by the wall clock. `length` (ms) is how long it lasts in all, `waited` how much of it has passed
    by the clock that only runs forward while the machine is up; None if that has not begun to count.
    """
    return max(ends_at, now + max(0, length - (waited or 0)))
