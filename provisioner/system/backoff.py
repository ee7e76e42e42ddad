"""How long to wait before the next attempt: twice as long after each failure, up to a limit."""

from __future__ import annotations


def after(failures: int, first: float, longest: float) -> float:
    """The wait after this many failures that came before the last one."""
    return min(first * float(2 ** min(failures, 30)), longest)


class Backoff:
    """The waits of one loop that tries again."""

    __slots__ = ("_failures", "first", "longest")

    def __init__(self, first: float, longest: float) -> None:
        self.first, self.longest = first, longest
        self._failures = 0

    @property
    def pause(self) -> float:
        """How long to wait now."""
        return after(self._failures, self.first, self.longest)

    def next(self) -> float:
        """How long to wait now; the next wait is twice as long."""
        pause = self.pause
        self._failures += 1
        return pause

    def reset(self) -> None:
        """It went well for a while: start again with the first wait."""
        self._failures = 0
