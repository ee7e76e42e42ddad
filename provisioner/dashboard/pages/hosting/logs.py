"""The logs of a timeline: what its app, builds, and commands print, of all revisions or of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from provisioner.core.clock import rfc3339
from provisioner.core.ids import TimelineId
from provisioner.core.naming import SHORT_REVISION
from provisioner.dashboard.pages.hosting.app_summaries import AppSummaries
from provisioner.dashboard.pages.suggest import timeline_of
from provisioner.dashboard.web.context import BUSY_SECONDS, PageContext, SharedResources
from provisioner.hosting.log_reading import SOURCES, LogLine, last, log_sources, possible_sources
from provisioner.registry import hosting, queries
from provisioner.registry.store import Registry
from provisioner.system.looking import only_looking

LINES: Final = (200, 1000, 5000)
TAIL: Final = 12
_LONGEST_LINE: Final = 2000  # characters that are shown of one


@dataclass(frozen=True, slots=True)
class LogSection:
    """Lines in a row of one source of one revision."""

    source: str
    revision: str
    lines: list[tuple[str, str]]
    """Each with the time of day, UTC."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs a visitor wants to see; empty means all."""

    sources: tuple[str, ...]
    revision: str
    lines: int

    @classmethod
    def of(cls, request: Request) -> LogFilter:
        given = request.query_params
        source, lines = given.get("source", ""), given.get("lines", "")
        return cls(
            (source,) if source in SOURCES else (),
            given.get("revision", "")[:64],
            int(lines) if lines in map(str, LINES) else LINES[0],
        )


def page(visit: PageContext) -> Response:
    app, timeline = timeline_of(visit)
    wanted = LogFilter.of(visit.request)
    lines = last(visit.registry, app, timeline, wanted.sources, wanted.lines, revision=wanted.revision)
    known = {each.revision for each in hosting.deployments(visit.registry, timeline.id)}
    revisions = dict.fromkeys(
        each.revision for each in reversed(log_sources(visit.registry, timeline, ())) if each.revision
    )
    return visit.page(
        "logs.html",
        app=app,
        timeline=timeline,
        summary=AppSummaries(visit, app, [timeline]).of(timeline),
        wanted=wanted,
        sources=[("", "all"), *((each, each) for each in SOURCES)],
        revisions=[("", "all"), *((each, each[:SHORT_REVISION]) for each in revisions)],
        more=next((each for each in LINES if each > wanted.lines), None) if len(lines) >= wanted.lines else None,
        sections=sections(lines),
        hosted=bool(known),
    )


def sections(lines: Sequence[LogLine]) -> list[LogSection]:
    grouped = groupby(lines, key=lambda line: (line.source, line.revision))
    return [
        LogSection(source, revision, [(_time_of(line), line.text[:_LONGEST_LINE]) for line in some])
        for (source, revision), some in grouped
    ]


def _time_of(line: LogLine) -> str:
    return str(rfc3339(line.at))[11:19]


def tail(visit: PageContext, sources: tuple[str, ...], revision: str) -> list[LogSection]:
    """The end of the logs of a revision."""
    app, timeline = timeline_of(visit)
    return sections(last(visit.registry, app, timeline, sources, TAIL, revision=revision))


class LogSizes:
    """The sizes of the logs that a page shows: they change whenever the page does. They are looked up again when
    the registry has changed."""

    def __init__(self, shared: SharedResources, timeline_id: TimelineId, wanted: LogFilter) -> None:
        self._shared, self._timeline_id, self._wanted = shared, timeline_id, wanted
        self._paths: list[str] = []
        self._seen = -1

    def __call__(self) -> object:
        """In a thread of the pool."""
        if self._seen != self._shared.live.registry:
            self._seen = self._shared.live.registry
            with only_looking(), Registry.open(self._shared.home, busy_seconds=BUSY_SECONDS) as registry:
                timeline = queries.timeline_by_id(registry, self._timeline_id)
                if timeline is not None:
                    found = possible_sources(registry, timeline, self._wanted.sources, self._wanted.revision)
                    self._paths = [each.path for each in found]
        return [(path, _size(path)) for path in self._paths]


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
