"""The audit log, the work in progress, and the server's metrics over time."""

from __future__ import annotations

from starlette.responses import Response

from provisioner.core.ids import DatabaseId
from provisioner.dashboard.charts.line_charts import plots
from provisioner.dashboard.web.context import PageContext
from provisioner.system import pidfile

AT_ONCE = 100
_UNDER_WAY = 20


def page(visit: PageContext) -> Response:
    registry = visit.registry
    text = visit.query("before")
    before = int(text) if text.isdecimal() and len(text) < 18 else None
    events = registry.activity(before, AT_ONCE + 1)
    apps = {app.id: app.slug for app in registry.apps()}
    slugs = {instance.id: instance.slug for instance in registry.instances()}
    names: dict[DatabaseId, str] = {}
    places: dict[DatabaseId, str] = {}
    for *_, database_id, _, _, _ in events:
        if database_id is not None and database_id not in names:
            database = registry.database(database_id)
            names[database_id] = database.name if database else database_id
            places[database_id] = slugs.get(database.instance_id, "") if database else ""
    samples = visit.shared.samples
    long = visit.query("over") == "day"
    return visit.page(
        "activity.html",
        events=events[:AT_ONCE],
        older=events[AT_ONCE - 1][0] if len(events) > AT_ONCE else None,
        before=before,
        apps=apps,
        names=names,
        places=places,
        daemon=pidfile.at_work(visit.shared.home.daemon) is not None,
        under_way=registry.under_way(_UNDER_WAY),
        plots=plots(samples.day() if long else samples.hour()),
        long=long,
    )
