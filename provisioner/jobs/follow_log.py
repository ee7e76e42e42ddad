"""Reports the steps of a timeline, and the output of its pre-deploy command, to pushers and `exec`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence

from provisioner.core.model import App, RunState, Timeline
from provisioner.core.naming import shown
from provisioner.jobs.progress import BEAT_SECONDS, PUSH_SECONDS, latest_run, pending_step
from provisioner.reconcile.changes.run_records import PRE_DEPLOY
from provisioner.registry.redaction import mask
from provisioner.registry.store import Registry
from provisioner.runs.process import log_path

LOOK_SECONDS = 0.05
_PIECE = 65536
_COLORS = re.compile(rb"\x1b\[[0-9;:]*m")


def log_text(line: bytes) -> str:
    """A line of a log on one line of a terminal: without colors, with spaces for tabs, and nothing that a terminal obeys."""
    return shown(_COLORS.sub(b"", line).removesuffix(b"\r").expandtabs(8))


class LogFollower:
    """The lines of a run's log, as they come."""

    def __init__(self, path: str) -> None:
        self._path, self._at, self._rest = path, 0, b""

    def lines(self, *, last: bool = False) -> list[str]:
        """The new lines; the `last` time also a line without an end."""
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._at:  # the log was rotated
                    self._at = 0
                file.seek(self._at)
                found = file.read(_PIECE)
        except FileNotFoundError:
            found = b""
        self._at += len(found)
        *whole, self._rest = (self._rest + found).split(b"\n")
        if found and last:
            return [log_text(line) for line in whole] + self.lines(last=True)
        if last and self._rest:
            whole.append(self._rest)
        return [log_text(line) for line in whole]


def follow(
    registry: Registry,
    app: App,
    timelines: Sequence[Timeline],
    since: int,
    say: Callable[[str], None],
    over: Callable[[], bool] | None = None,
) -> None:
    """Report the steps of these timelines, which were pending at `since` (ms), and the output of the command.

    Until no step is left, or until it is `over`; without that, for PUSH_SECONDS at most: the step then continues alone. The
    output of a scrub command is not reported: it may contain production data.
    """
    hide = mask(registry, app).text  # a pusher may not be allowed to see the command's secrets
    for timeline in timelines:
        _follow_one(registry, timeline, app, since, lambda line: say(hide(line)), over)


def _follow_one(
    registry: Registry,
    timeline: Timeline,
    app: App,
    since: int,
    say: Callable[[str], None],
    over: Callable[[], bool] | None,
) -> None:
    name = os.fsdecode(timeline.name)
    until, beat = time.monotonic() + PUSH_SECONDS, time.monotonic() + BEAT_SECONDS
    tails: dict[str, LogFollower] = {}
    told = ""
    while True:
        last = over() if over else time.monotonic() > until
        step = pending_step(registry, app, timeline)
        if step and (step != told or time.monotonic() > beat):
            say(shown(f"provisioner: {name}: {step if step != told else f'still {step}'}"))
            told, beat = step, time.monotonic() + BEAT_SECONDS
        run = latest_run(registry, timeline, PRE_DEPLOY)
        if run is not None and run.revision == timeline.revision and (run.ended_at is None or run.ended_at >= since):
            tail = tails.setdefault(run.id, LogFollower(log_path(registry.home, run.id)))  # it may have started before
            for line in tail.lines(last=run.state is not RunState.RUNNING):
                say(line)
                beat = time.monotonic() + BEAT_SECONDS
        if last and step and over is None:
            say(shown(f"provisioner: {name}: this continues in the background. See: provisioner status"))
        if last or not step:
            return
        time.sleep(LOOK_SECONDS)
