"""The page of an instance: its databases, one row each."""

from __future__ import annotations

from collections import Counter

from starlette.responses import Response

from provisioner.core.connection import ServerLocation
from provisioner.core.model import Instance, Status
from provisioner.dashboard.pages.assignments import of_instance
from provisioner.dashboard.pages.database_rows import rows
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.operations.instance.health import standing
from provisioner.operations.instance.moves_in_progress import moves_under_way


def page(visit: PageContext) -> Response:
    instance = found(visit)
    counts: Counter[Status] = Counter()
    for instance_id, _, status, count in visit.registry.counted():
        if instance_id == instance.id:
            counts[status] += count
    linked = isinstance(instance.location, ServerLocation)
    return visit.page(
        "instance.html",
        instance=instance,
        linked=linked,
        move=next((each for each in moves_under_way(visit.registry) if each.instance.id == instance.id), None),
        standing=standing(instance) if linked else None,
        assignments=of_instance(visit, instance),
        listed=rows(visit, instance_id=instance.id),
        live=sum(counts.values()) - counts[Status.ARCHIVED] - counts[Status.PURGED],
        connected=counts[Status.CONNECTED],
        failed=counts[Status.ERROR],
        size=visit.shared.sizes.known().get(instance.id),
    )


def found(visit: PageContext) -> Instance:
    """The instance of the path. Raises Missing."""
    slug = visit.parameter("slug")
    instance = visit.registry.instance_called(slug)
    if instance is None:
        raise Missing(f"no instance named {slug[:100]!r}", "See the list of databases")
    return instance
