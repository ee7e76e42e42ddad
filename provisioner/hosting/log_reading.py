"""What timelines' apps and commands print: the logs that are kept, in the order in which they began, and what is added."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from provisioner.core.clock import now_ms
from provisioner.core.model import App, Timeline
from provisioner.hosting.deployments.hosted_timeline import app_log, build_log
from provisioner.jobs.follow_log import LogFollower, log_text
from provisioner.registry import hosting
from provisioner.registry.redaction import mask
from provisioner.registry.runs import runs
from provisioner.registry.store import Registry
from provisioner.runs.log_times import LogTimes
from provisioner.runs.output import OLDER
from provisioner.runs.process import log_path

APP, BUILD = "app", "build"
_PIECE = 65_536
SOURCES = (APP, BUILD, "pre-deploy", "scrub")


@dataclass(frozen=True, slots=True)
class LogSource:
    """A log of a revision. ``began``: when, in milliseconds since 1970."""

    source: str
    revision: str
    path: str
    began: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log, without what is secret. ``at``: when it was written, in milliseconds since 1970."""

    at: int
    source: str
    revision: str
    text: str


def log_sources(registry: Registry, timeline: Timeline, wanted: Sequence[str], revision: str = "") -> list[LogSource]:
    """The logs of a timeline that there are, the oldest first; with `revision` those of that one."""
    return [each for each in possible_sources(registry, timeline, wanted, revision) if os.path.exists(each.path)]


def possible_sources(
    registry: Registry, timeline: Timeline, wanted: Sequence[str], revision: str = ""
) -> list[LogSource]:
    """The same with those that are still to begin."""
    found = [
        LogSource(run.kind, run.revision, log_path(registry.home, run.id), run.started_at)
        for run in runs(registry, timeline.id)
    ]
    for each in hosting.deployments(registry, timeline.id):
        older, newer = app_log(registry.home, each.id) + OLDER, app_log(registry.home, each.id)
        found.append(LogSource(BUILD, each.revision, build_log(registry.home, each.id), each.created_at))
        found += [LogSource(APP, each.revision, path, each.created_at) for path in (older, newer)]
    return sorted(
        (
            each
            for each in found
            if (not wanted or each.source in wanted) and (not revision or each.revision == revision)
        ),
        key=lambda each: each.began,
    )


def last(
    registry: Registry,
    app: App,
    timeline: Timeline,
    wanted: Sequence[str],
    most: int | None,
    *,
    revision: str = "",
    since: int = 0,
) -> list[LogLine]:
    """The last lines of all of them together in the order in which they were written, at most so many, none that is older
    than `since` (ms). Only the ends of the logs are read."""
    hide = mask(registry, app)
    found: list[tuple[int, LogSource, bytes]] = []
    for source in sorted(log_sources(registry, timeline, wanted, revision), key=_changed_at, reverse=True):
        if most is not None and len(found) >= most and found[-most][0] > _changed_at(source):
            break  # what is in this one, and in those after it, is older than all that is shown
        found += ((at, source, line) for at, line in _last_of(source, most, since))
        found.sort(key=lambda each: each[0])  # a stable order: each log stays in its own
    shown = found if most is None else found[len(found) - min(most, len(found)) :]
    return [LogLine(at, source.source, source.revision, hide.text(log_text(line))) for at, source, line in shown]


def _changed_at(source: LogSource) -> int:
    try:
        return os.stat(source.path).st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return 0


def _last_of(source: LogSource, most: int | None, since: int) -> list[tuple[int, bytes]]:
    """The last lines of a log with their times; the last of all may be without an end."""
    times = LogTimes(source.path, source.began)
    first = times.since(since)
    try:
        with open(source.path, "rb") as file:
            start = end = os.fstat(file.fileno()).st_size
            data = b""
            while start > first and (most is None or data.count(b"\n") <= most):
                size = min(start - first, max(_PIECE, len(data)))
                start -= size
                file.seek(start)
                data = file.read(size) + data
    except FileNotFoundError:  # it was rotated or removed just now
        return []
    lines = data.split(b"\n") if start < end else []
    offset, latest, found = start, 0, []
    for line in lines[:-1] if lines and not lines[-1] else lines:
        latest = max(latest, times.at(offset))  # a clock may be set back
        if latest >= since:
            found.append((latest, line))
        offset += len(line) + 1
    return found if most is None else found[len(found) - min(most, len(found)) :]


@dataclass(slots=True)
class LogTail:
    """What is added to the logs of a timeline from now on, those that are still to begin among them."""

    registry: Registry
    app: App
    timeline: Timeline
    wanted: Sequence[str]
    _followers: dict[str, LogFollower] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source in log_sources(self.registry, self.timeline, self.wanted):
            follower = self._followers[source.path] = LogFollower(source.path)
            while follower.lines():
                pass

    def lines(self) -> Iterator[LogLine]:
        """The lines since the last call."""
        hide, now = mask(self.registry, self.app), now_ms()
        for source in log_sources(self.registry, self.timeline, self.wanted):
            follower = self._followers.setdefault(source.path, LogFollower(source.path))
            yield from (LogLine(now, source.source, source.revision, hide.text(line)) for line in follower.lines())
