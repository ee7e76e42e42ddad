"""The page of an app: its timelines as a table and as a picture."""

from __future__ import annotations

import os

from starlette.responses import Response

from provisioner.dashboard.assignments import of_app
from provisioner.dashboard.listing import rows
from provisioner.dashboard.picture import picture
from provisioner.dashboard.visiting import Missing, Visit
from provisioner.registry import variables


def page(visit: Visit) -> Response:
    slug = visit.parameter("slug")
    found = next((each for each in visit.registry.apps() if each.slug == slug), None)
    if found is None:
        raise Missing(f"there is no app {slug[:100]!r}", "See the list of apps")
    listed = rows(visit, app_id=found.id)
    return visit.page(
        "app.html",
        app=found,
        repository=os.fsdecode(found.git_dir),
        assignments=of_app(visit, found),
        listed=listed,
        picture=picture(listed.rows, visit.now),
        variables=variables.listing(visit.registry, found.id),
    )
