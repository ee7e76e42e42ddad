"""The first page: instances and apps, with how their databases are."""

from __future__ import annotations

from collections import Counter, defaultdict

from starlette.responses import Response

from provisioner.core.model import Status, timeline_status
from provisioner.dashboard.pages.instance_changes import recoverable
from provisioner.dashboard.web.context import Visit


def page(visit: Visit) -> Response:
    registry = visit.registry
    of_instance: dict[str, Counter[Status]] = defaultdict(Counter)
    of_app: dict[str, Counter[Status]] = defaultdict(Counter)
    for instance_id, app_id, status, count in registry.counted():
        of_instance[instance_id][status] += count
        of_app[app_id][status] += count
    sizes = visit.shared.sizes.known()
    assigned = registry.assignments()
    instances = [
        {
            "instance": instance,
            "apps": [app for slug, app in assigned if slug == instance.slug],
            "status": _status(of_instance[instance.id]),
            "counts": of_instance[instance.id],
            "live": _live(of_instance[instance.id]),
            "size": sizes.get(instance.id),
        }
        for instance in registry.instances()
    ]
    apps = [
        {
            "app": app,
            "instances": [slug for slug, other in assigned if other == app.slug],
            "status": _status(of_app[app.id]),
            "counts": of_app[app.id],
            "live": _live(of_app[app.id]),
        }
        for app in registry.apps()
    ]
    gone = recoverable(visit)
    return visit.page("databases.html", instances=instances, apps=apps, deleted=gone, Status=Status)


def _live(counts: Counter[Status]) -> int:
    return sum(counts.values()) - counts[Status.ARCHIVED] - counts[Status.PURGED]


def _status(counts: Counter[Status]) -> str:
    """The one that a user has to know of first; empty where there are no databases."""
    held: list[Status] = [status for status, count in counts.items() if count and status is not Status.PURGED]
    return str(timeline_status(held)) if held else ""
