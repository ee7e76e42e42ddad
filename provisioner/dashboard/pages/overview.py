"""The first page: instances and apps, with the state of their databases."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from starlette.responses import Response

from provisioner.core.model import Status, timeline_status
from provisioner.dashboard.pages.instance_changes import deleted_instances
from provisioner.dashboard.pages.states import FAILED, WAITING, StatusLabel
from provisioner.dashboard.web.context import PageContext
from provisioner.registry.store import Registry
from provisioner.registry.trouble import troubles


@dataclass(slots=True)
class Tally:
    """The databases of an instance or an app, by status, and the failures of their timelines."""

    counts: Counter[Status] = field(default_factory=Counter)
    failed: int = 0
    waiting: int = 0
    withheld: int = 0

    @property
    def live(self) -> int:
        return sum(self.counts.values()) - self.counts[Status.ARCHIVED] - self.counts[Status.PURGED]

    @property
    def connected(self) -> int:
        return self.counts[Status.CONNECTED]

    @property
    def archived(self) -> int:
        return self.counts[Status.ARCHIVED]

    @property
    def errors(self) -> int:
        return self.counts[Status.ERROR] + self.failed

    @property
    def state(self) -> StatusLabel | None:
        """The most important state for a user; None without databases.

        Archived databases are those of branches that are gone: they count if nothing is live. Production's count always.
        """
        live = [status for status, count in self.counts.items() if count and status not in _AWAY]
        worst = timeline_status(live)
        if worst is Status.ERROR:
            return StatusLabel(worst)
        if self.failed:
            return FAILED
        if live and worst is not Status.CONNECTED:
            return StatusLabel(worst)
        if self.waiting:
            return WAITING
        if self.withheld:
            return StatusLabel(Status.ARCHIVED, "production archived")
        if live:
            return StatusLabel(worst)
        return StatusLabel(Status.ARCHIVED) if self.archived else None


_AWAY = (Status.ARCHIVED, Status.PURGED)


def page(visit: PageContext) -> Response:
    registry = visit.registry
    of_instance, of_app = tallies(registry)
    sizes = visit.shared.sizes.known()
    assigned = registry.assignments()
    instances = [
        {
            "instance": instance,
            "apps": [app for slug, app in assigned if slug == instance.slug],
            "tally": of_instance[instance.id],
            "size": sizes.get(instance.id),
        }
        for instance in registry.instances()
    ]
    apps = [
        {
            "app": app,
            "instances": [slug for slug, other in assigned if other == app.slug],
            "tally": of_app[app.id],
        }
        for app in registry.apps()
    ]
    return visit.page("databases.html", instances=instances, apps=apps, deleted=deleted_instances(visit))


def tallies(registry: Registry) -> tuple[dict[str, Tally], dict[str, Tally]]:
    """By the ids of instances, and by the ids of apps."""
    of_instance: dict[str, Tally] = defaultdict(Tally)
    of_app: dict[str, Tally] = defaultdict(Tally)
    for instance_id, app_id, status, count in registry.counted():
        of_instance[instance_id].counts[status] += count
        of_app[app_id].counts[status] += count
    for each in troubles(registry):
        for tally in (of_instance[each.instance_id], of_app[each.app_id]):
            tally.failed += each.failed
            tally.waiting += each.waiting
            tally.withheld += each.withheld
    return of_instance, of_app
