"""What a pre-deploy command prints, told to who waits for it, whoever runs it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from provisioner.core.model import App, Run, RunState, Timeline
from provisioner.core.naming import shown
from provisioner.jobs.pre_deploy import is_due
from provisioner.reconcile.changes.run_records import PRE_DEPLOY
from provisioner.registry.redaction import Mask
from provisioner.registry.runs import runs
from provisioner.registry.store import Registry
from provisioner.runs.process import log_path

LOOK_SECONDS = 0.05
QUIET_SECONDS = 25.0  # less than a hook waits for the next words
_PIECE = 65536


class Tail:
    """The lines of a run's log, as they come."""

    def __init__(self, path: str) -> None:
        self._path, self._at, self._rest = path, 0, b""

    def lines(self, *, last: bool = False) -> list[str]:
        """What is new; the `last` time also a line that has no end."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._at)
                found = file.read(_PIECE)
        except FileNotFoundError:
            found = b""
        self._at += len(found)
        *whole, self._rest = (self._rest + found).split(b"\n")
        if found and last:
            return [shown(line) for line in whole] + self.lines(last=True)
        if last and self._rest:
            whole.append(self._rest)
        return [shown(line) for line in whole]


def follow(
    registry: Registry,
    app: App,
    timelines: Sequence[Timeline],
    since: int,
    say: Callable[[str], None],
    over: Callable[[], bool] | None = None,
) -> None:
    """Tell what the command prints on each of these timelines, which were due at `since` (ms), until it has ended.

    Or until it is `over`; without that, one that is quiet for long is left to itself: a push is not to wait for it.
    """
    mask = Mask(registry, app)  # who pushes may be somebody who is not to know them
    for timeline in timelines:
        say(shown(f"provisioner: {os.fsdecode(timeline.name)}: {app.pre_deploy or app.pre_deploy_from}"))
        _follow_one(registry, timeline, app, since, lambda line: say(mask(line)), over)


def _follow_one(
    registry: Registry,
    timeline: Timeline,
    app: App,
    since: int,
    say: Callable[[str], None],
    over: Callable[[], bool] | None,
) -> None:
    quiet_until = time.monotonic() + QUIET_SECONDS
    tails: dict[str, Tail] = {}
    while True:
        last = over() if over else time.monotonic() > quiet_until
        current = registry.timeline(timeline.id)
        there = current.revision == timeline.revision and is_due(app, current)
        run = _latest(registry, timeline)
        if run is not None and (run.ended_at is None or run.ended_at >= since):  # it may have begun before
            tail = tails.setdefault(run.id, Tail(log_path(registry.home, run.id)))
            for line in tail.lines(last=run.state is not RunState.RUNNING):
                say(line)
                quiet_until = time.monotonic() + QUIET_SECONDS
        if last or not there:
            return
        time.sleep(LOOK_SECONDS)


def _latest(registry: Registry, timeline: Timeline) -> Run | None:
    for run in runs(registry, timeline.id):
        if run.kind == PRE_DEPLOY and run.revision == timeline.revision:
            return run
    return None
