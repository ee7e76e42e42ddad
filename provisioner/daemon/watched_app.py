"""What the daemon remembers of an app between two looks: when to look again, and at what.

Times are monotonic seconds. The sender of a change may know the branch. If the last look at the whole app left nothing to do,
a look at the named branches is enough at first; one at the whole app follows when they have come to rest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from provisioner.daemon.hook_server import Push
from provisioner.git.watch import Change, EventScope
from provisioner.reconcile.controller import Outcome

REST = 3.0  # times as long as a look took: refs that come one by one must not keep a core busy
SAFETY_SECONDS = 300.0  # even where events come: look at everything this often
WHOLE_SECONDS = 10.0  # after a look at some branches: look at everything, for what nothing has told of
POLL_SECONDS = 2.0  # where events do not come
LOAD = 0.05  # the part of its time that looking at everything may take
FAILURE_SECONDS = 5.0
# While git writes refs one after the other, wait for the last: git syncs each, which takes long beside other writing.
# With many refs, the events are ignored: handling one takes longer than writing a ref.
FEW, MANY = 8, 64  # lock files and refs: `git switch -c` makes four
STILL_SECONDS, STILL_AFTER_MORE = 0.005, 0.02
DEAF_SECONDS = 0.03
LONGEST_WAIT = 2.0


@dataclass(slots=True)
class WatchedApp:
    """`due` is when to look at the whole app, `branches_due` when to look at the `branches` that may have changed, and `heard`
    what other threads have heard of since. `settled`: the last look at the whole app left nothing to do but what `due` says.
    `waiting` are pushes that nothing was answered yet."""

    git_dir: bytes = b""
    due: float | None = None
    branches_due: float | None = None
    branches: set[bytes] = field(default_factory=set)
    heard: deque[Change] = field(default_factory=deque)
    settled: bool = False
    changes: int = 0
    first_change: float = 0.0
    last_change: float = 0.0
    deaf: bool = False
    polled: bool = False
    took: float = 0.0
    took_whole: float = 0.0
    looked: float = 0.0
    waiting: list[Push] = field(default_factory=list)
    busy: bool = False

    @property
    def next_due(self) -> float | None:
        return _earlier(self.due, self.branches_due)

    def stir(self, now: float) -> bool:
        """A ref is about to change. Is it time to stop listening, and to look at all of them instead?"""
        if not self.changes or self.last_change + DEAF_SECONDS < now:
            self.changes, self.first_change = 0, now
        self.changes += 1
        self.last_change = now
        return self.changes == MANY

    def wake(self) -> None:
        """The whole app is due, after a rest as long as its last look makes it."""
        self.due = _earlier(self.due, self.looked + self.took * REST)

    def wake_for(self, branches: Iterable[bytes]) -> None:
        """The same of branches that may have changed."""
        self.branches.update(branches)
        self.branches_due = _earlier(self.branches_due, self.looked + self.took * REST)

    def take_heard(self) -> None:
        """Take in what other threads have heard of."""
        while self.heard:
            change = self.heard.popleft()
            if isinstance(change, bytes):
                self.wake_for([change])
            elif change is EventScope.BRANCHES:
                self.wake()
            else:
                self.due = _earlier(self.due, time.monotonic() + WHOLE_SECONDS)

    def wait_out(self, now: float) -> bool:
        """Put off a look until refs hold still. False where it is time."""
        if not self.changes or self.first_change + LONGEST_WAIT <= now:
            return False
        if self.deaf:
            return False  # the look listens again before it reads
        still = self.last_change + (STILL_SECONDS if self.changes <= FEW else STILL_AFTER_MORE)
        if self.due is not None and self.due <= now:
            self.due = still
        if self.branches_due is not None and self.branches_due <= now:
            self.branches_due = still
        return still > now

    def begin(self, now: float) -> frozenset[bytes] | None:
        """A look begins: at which branches, or None for the whole app."""
        self.take_heard()
        branches = frozenset(self.branches)
        over = self.due is not None and self.due <= now
        some = branches if self.settled and branches and not over and not self.deaf else None
        if some is None:
            self.due = None
        self.branches_due, self.changes = None, 0
        self.branches.clear()
        return some

    def finish(self, outcome: Outcome | None, took: float, now: float, wall_ms: int, again: float | None) -> None:
        """A look is over, which `took` these seconds; None if it failed. `again`: in how many seconds the next one is due."""
        self.looked, self.took = now, took
        if outcome is None:
            self.settled = False
            self._due_in(now, FAILURE_SECONDS)
            return
        rest = max(WHOLE_SECONDS, self.took_whole / LOAD)
        if outcome.whole:
            self.took_whole = took
            self.settled = not outcome.problems
            rest = max(POLL_SECONDS, took / LOAD) if self.polled else SAFETY_SECONDS
        self.settled = self.settled and not outcome.cut
        self._due_in(now, rest)
        if outcome.next_at is not None:
            self._due_in(now, max(0.01, (outcome.next_at - wall_ms) / 1000))
        if again is not None:
            self._due_in(now, again)

    def _due_in(self, now: float, seconds: float) -> None:
        self.due = _earlier(self.due, now + seconds)


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
