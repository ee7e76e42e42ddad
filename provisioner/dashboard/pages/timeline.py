"""The page of a timeline: its databases and their owners, its expiry, and the runs of its pre-deploy command."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from provisioner.core.durations import written
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Database, Status, Timeline
from provisioner.dashboard.pages.hosting import push_stages
from provisioner.dashboard.pages.hosting.app_summaries import AppSummaries, AppSummary
from provisioner.dashboard.pages.hosting.logs import LogSection, tail
from provisioner.dashboard.pages.hosting.push_stages import Stage, StageState
from provisioner.dashboard.pages.suggest import names, timeline_of
from provisioner.dashboard.web.context import PageContext
from provisioner.dashboard.web.forms import Filled, form_of
from provisioner.hosting.deployments.history import healthy_before
from provisioner.hosting.log_reading import APP, BUILD
from provisioner.operations import documents
from provisioner.reconcile.changes.run_records import PRE_DEPLOY
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry import hosting, queries
from provisioner.registry.redaction import mask
from provisioner.registry.runs import runs
from provisioner.system.apps_lock import apps_run


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
    deploy = documents.pre_deploy(registry, app, timeline)
    hide = mask(registry, app).text
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
        deploy=deploy,
        hosted=_hosted(visit, app, timeline, [each.database for each in held], deploy),
        broken=status is Status.ERROR,
        runs=runs(registry, timeline.id),
        mask=hide,
        names=[] if visit.session.read_only else names(visit, app),
    )


@dataclass(frozen=True, slots=True)
class TimelineHosting:
    """A timeline's app with the stages of its last push. `runs`: is there a process that runs apps?"""

    summary: AppSummary
    stages: list[Stage]
    failure: str
    tail: list[LogSection]
    rolls_back: bool
    runs: bool


def _hosted(
    visit: PageContext, app: App, timeline: Timeline, held: list[Database], deploy: documents.Document | None
) -> TimelineHosting | None:
    """None if no app is run for the timeline."""
    summary = AppSummaries(visit, app, [timeline]).of(timeline)
    if summary is None:
        return None
    past = hosting.deployments(visit.registry, timeline.id)
    latest = next((each for each in past if each.revision == timeline.revision), None)
    steps = hosting.steps(visit.registry, latest.id) if latest is not None else []
    stages_and_logs: list[tuple[Stage | None, tuple[str, ...]]] = [
        (push_stages.databases(held), ()),
        (push_stages.build(latest, steps), (BUILD,)),
        (push_stages.pre_deploy(deploy), (PRE_DEPLOY,)),
        (push_stages.app(latest, steps), (APP,)),
        (push_stages.url(summary), ()),
    ]
    stages = [stage for stage, _ in stages_and_logs if stage is not None]
    failed = next(
        (logs for stage, logs in stages_and_logs if stage is not None and stage.state is StageState.FAILED), ()
    )
    return TimelineHosting(
        summary=summary,
        stages=stages,
        failure=mask(visit.registry, app).text(summary.failure),
        tail=tail(visit, failed, timeline.revision) if summary.failure and failed else [],
        rolls_back=healthy_before(past, summary.known.active) is not None,
        runs=apps_run(visit.registry.home),
    )


def _lasts(length_ms: int | None) -> str:
    if length_ms is None:
        return "default"
    return written(length_ms) if length_ms else "never"
