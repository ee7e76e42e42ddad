"""The app or the timeline that a path names, and names of timelines to choose from: a few, whatever there are."""

from __future__ import annotations

import os
from typing import Final

from starlette.responses import JSONResponse, Response

from provisioner.core.model import App, Timeline
from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.registry import queries

NAMES: Final = 50


def app_of(visit: PageContext) -> App:
    slug = visit.parameter("slug")
    found = next((each for each in visit.registry.apps() if each.slug == slug), None)
    if found is None:
        raise Missing(f"there is no app {slug[:100]!r}", "See the list of apps")
    return found


def timeline_of(visit: PageContext) -> tuple[App, Timeline]:
    found = queries.timeline_by_id(visit.registry, visit.parameter("timeline_id"))
    app = visit.registry.app(found.app_id) if found else None
    if found is None or app is None:
        raise Missing("there is no such timeline", "See 'provisioner timeline list --all'")
    return app, found


def names(visit: PageContext, app: App, text: str = "") -> list[str]:
    """What can be typed where a timeline is to be named, of those whose branch has `text` in its name: of names that
    cannot be typed, or do not show what they are, that of their database."""
    for prefix in (BRANCH_PREFIX, PREVIEW_PREFIX):
        text = text.removeprefix(os.fsdecode(prefix))
    found = queries.timelines_like(visit.registry, app.id, text, NAMES)
    if text and "production".startswith(text):
        found = queries.timelines_like(visit.registry, app.id, "", 1) + found
    named = (_name(visit, timeline) for timeline in found)
    return list(dict.fromkeys(name for name in named if name))


def suggest(visit: PageContext) -> Response:
    """The names, for a field in which somebody types."""
    return JSONResponse(names(visit, app_of(visit), visit.query("q")[:200]))


def _name(visit: PageContext, timeline: Timeline) -> str:
    name = os.fsdecode(timeline.name)
    if name.isprintable():  # which the surrogates that stand for other bytes are not
        return name
    databases = queries.databases_of(visit.registry, timeline)
    return databases[0].name if databases else ""
