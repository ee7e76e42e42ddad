"""The page of an app: its timelines as a table and as a graph."""

from __future__ import annotations

import os

from starlette.responses import Response

from provisioner.dashboard.pages.assignments import of_app
from provisioner.dashboard.pages.database_rows import rows
from provisioner.dashboard.pages.suggest import app_of
from provisioner.dashboard.pages.timeline_graph import picture
from provisioner.dashboard.web.context import PageContext


def page(visit: PageContext) -> Response:
    found = app_of(visit)
    listed = rows(visit, app_id=found.id)
    return visit.page(
        "app.html",
        app=found,
        repository=os.fsdecode(found.git_dir),
        assignments=of_app(visit, found),
        listed=listed,
        picture=picture(listed.rows, visit.now),
    )
