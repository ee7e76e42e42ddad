"""The page of an app: its timelines as a table and as a graph."""

from __future__ import annotations

import os

from starlette.responses import Response

from provisioner.dashboard.pages.assignments import of_app
from provisioner.dashboard.pages.database_rows import rows
from provisioner.dashboard.pages.hosting.app_summaries import AppSummaries
from provisioner.dashboard.pages.suggest import app_of
from provisioner.dashboard.pages.timeline_graph import picture
from provisioner.dashboard.web.context import PageContext


def page(visit: PageContext) -> Response:
    found = app_of(visit)
    listed = rows(visit, app_id=found.id)
    timelines = {row.timeline.id: row.timeline for row in listed.rows}
    hosted = AppSummaries(visit, found, list(timelines.values()))
    return visit.page(
        "app.html",
        app=found,
        repository=os.fsdecode(found.git_dir),
        assignments=of_app(visit, found),
        listed=listed,
        hosted={each.id: hosted.of(each) for each in timelines.values()} if hosted.command is not None else None,
        picture=picture(listed.rows, visit.now),
    )
