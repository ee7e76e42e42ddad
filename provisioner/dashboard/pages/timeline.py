"""The page of a timeline: its databases and their owners, its expiry, and the runs of its pre-deploy command."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from provisioner.core.durations import written
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Database, Status, Timeline
from provisioner.dashboard.pages.suggest import names, timeline_of
from provisioner.dashboard.web.context import PageContext
from provisioner.dashboard.web.forms import Filled, form_of
from provisioner.operations import documents
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry import queries
from provisioner.registry.redaction import mask
from provisioner.registry.runs import runs


@dataclass(frozen=True, slots=True)
class TimelineDatabase:
    """A database that a timeline has or uses: with its owner if it is another timeline, and the other users."""

    database: Database
    document: documents.Document
    owner: Timeline | None
    users: list[Timeline]


def page(visit: PageContext) -> Response:
    return _page(visit, form_of(visit))


def again(visit: PageContext, error: ProvisionerError) -> Response:
    return _page(visit, form_of(visit, error))


def _page(visit: PageContext, form: Filled) -> Response:
    app, timeline = timeline_of(visit)
    registry = visit.registry
    own, others = queries.databases_of(registry, timeline), queries.used_of_others(registry, timeline)
    reach = documents.Reach(registry, app.id)
    held = [
        TimelineDatabase(item, documents.document(item, reach), registry.timeline(item.timeline_id), [])
        for item in others
    ]
    held += [
        TimelineDatabase(item, documents.document(item, reach), None, queries.users_of(registry, item)) for item in own
    ]
    status = documents.status_of(app, timeline, [each.database for each in held])
    return visit.page(
        "timeline.html",
        status=form.status,
        form=form,
        app=app,
        timeline=timeline,
        state=status,
        held=held,
        using=bool(others),
        assigned=registry.assigned(app.id),
        expires_at=None if timeline.gone_at else expires_at(app, timeline),
        lasts=_lasts(timeline.expire_ms),
        app_lasts=_lasts(app.expire_ms or 0),
        deploy=documents.pre_deploy(registry, app, timeline),
        broken=status is Status.ERROR,
        runs=runs(registry, timeline.id),
        mask=mask(registry, app).text,
        names=[] if visit.session.read_only else names(visit, app),
    )


def _lasts(length_ms: int | None) -> str:
    if length_ms is None:
        return "default"
    return written(length_ms) if length_ms else "never"
