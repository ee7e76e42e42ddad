"""The app or the timeline in a path, and names of timelines to choose from: a few, however many there are."""

from __future__ import annotations

import os
from typing import Final

from starlette.responses import JSONResponse, Response

from provisioner.core.ids import TimelineId
from provisioner.core.model import App, Timeline
from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.registry import queries

NAMES: Final = 50


def app_of(visit: PageContext) -> App:
    slug = visit.parameter("slug")
    found = visit.registry.app_called(slug)
    if found is None:
        raise Missing(f"no app named {slug[:100]!r}", "See the list of apps")
    return found


def timeline_of(visit: PageContext) -> tuple[App, Timeline]:
    found = queries.timeline_by_id(visit.registry, TimelineId(visit.parameter("timeline_id")))
    app = visit.registry.app(found.app_id) if found else None
    if found is None or app is None:
        raise Missing("no such timeline", "List timelines: provisioner timeline list --all")
    return app, found


def names(visit: PageContext, app: App, text: str = "") -> list[str]:
    """Names to type into a field for a timeline, of those with `text` in their branch's name. For a name that cannot be typed
    or is misleading, the name of its database."""
    for prefix in (BRANCH_PREFIX, PREVIEW_PREFIX):
        text = text.removeprefix(os.fsdecode(prefix))
    found = queries.timelines_like(visit.registry, app.id, text, NAMES)
    if text and "production".startswith(text):
        found = queries.timelines_like(visit.registry, app.id, "", 1) + found
    named = (_name(visit, timeline) for timeline in found)
    return list(dict.fromkeys(name for name in named if name))


def suggest(visit: PageContext) -> Response:
    """The suggestions for a field while a person types."""
    return JSONResponse(names(visit, app_of(visit), visit.query("q")[:200]))


def _name(visit: PageContext, timeline: Timeline) -> str:
    name = os.fsdecode(timeline.name)
    if name.isprintable():  # surrogates, which stand for other bytes, are not
        return name
    databases = queries.databases_of(visit.registry, timeline)
    return databases[0].name if databases else ""
