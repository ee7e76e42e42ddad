"""The clock by which git writes its logs: one that runs, stands, is slow, or is set back."""

from __future__ import annotations

import random


class Clock:
    """What git takes for the time, which is what its logs hold. Kinds are `CLOCKS`."""

    def __init__(self, kind: str, dice: random.Random, start: int) -> None:
        self.kind, self.dice, self.now = kind, dice, start

    def environment(self) -> dict[str, str]:
        if self.kind == "running":
            return {}
        if self.kind == "slow":
            self.now += self.dice.choice([1, 1, 2, 60])
        elif self.kind == "stepping":
            self.now += self.dice.choice([0, 1, 2, -1, -5])
        return {"GIT_COMMITTER_DATE": f"{self.now} +0000"}


CLOCKS = ("running", "standing", "slow", "stepping")
