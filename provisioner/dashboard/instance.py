"""The page of an instance: its databases, one row each."""

from __future__ import annotations

from starlette.responses import Response

from provisioner.dashboard.listing import rows
from provisioner.dashboard.visiting import Missing, Visit


def page(visit: Visit) -> Response:
    slug = visit.parameter("slug")
    found = next((each for each in visit.registry.instances() if each.slug == slug), None)
    if found is None:
        raise Missing(f"there is no instance {slug[:100]!r}", "See the list of databases")
    apps = [app for name, app in visit.registry.assignments() if name == slug]
    listed = rows(visit, instance_id=found.id)
    return visit.page(
        "instance.html", instance=found, apps=apps, listed=listed, size=visit.shared.sizes.known().get(found.id)
    )
