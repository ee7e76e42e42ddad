"""A database's snapshots, and the replacement of its data: as `provisioner database snapshot`, `restore`, `fork`, and
`reset` do it. The previous data is kept, so each can be undone."""

from __future__ import annotations

from starlette.responses import Response

from provisioner.core.errors import NotResolved, ProvisionerError, UsageError
from provisioner.core.model import Database, Snapshot, Status
from provisioner.dashboard.pages.database import found, heading
from provisioner.dashboard.pages.database_changes import meant
from provisioner.dashboard.pages.suggest import names
from provisioner.dashboard.web.background_tasks import Undo
from provisioner.dashboard.web.context import PageContext
from provisioner.dashboard.web.forms import Filled, RequestedChange, filling, form_of
from provisioner.dashboard.web.sessions import Offer
from provisioner.engines.catalog import engine_of
from provisioner.operations import fork_reset, lookup, snapshots
from provisioner.operations.proposal import ProgressReporter
from provisioner.operations.target import of_database, only_one
from provisioner.reconcile.changes.snapshots import BY_HAND
from provisioner.registry.snapshots import find_snapshots
from provisioner.registry.snapshots import snapshots as kept_of
from provisioner.registry.store import Registry

EMPTY = "empty"
LONGEST_LABEL = 200


def page(visit: PageContext) -> Response:
    return _page(visit, form_of(visit))


def again(visit: PageContext, error: ProvisionerError) -> Response:
    return _page(visit, form_of(visit, error))


def _page(visit: PageContext, form: Filled) -> Response:
    database, slug, timeline = found(visit)
    app = visit.registry.app(timeline.app_id)
    connected = database.status is Status.CONNECTED
    engine = engine_of(visit.registry.storage_of(database))
    return visit.page(
        "copies.html",
        status=form.status,
        form=form,
        **heading(visit, database, slug, timeline),
        has_keys=engine.has_keys,
        anew=engine.anew,
        becomes=fork_reset.becomes(visit.registry, [database]),
        snapshots=kept_of(visit.registry, database.id),
        connected=connected and app is not None,
        fixed=_why_not(visit.registry, database),
        scrub=visit.registry.scrubs(app.id).get(database.instance_id) if app else None,
        names=names(visit, app) if app and connected else [],
    )


def _why_not(registry: Registry, database: Database) -> str:
    """Why its data must not be replaced; empty if it may be."""
    try:
        fork_reset.may_be_replaced(registry, database, "fork or reset")
    except ProvisionerError as error:
        return str(error)
    return ""


def fork(visit: PageContext, reporter: ProgressReporter) -> RequestedChange:
    return _replaced(visit, reporter, "fork")


def reset(visit: PageContext, reporter: ProgressReporter) -> RequestedChange:
    return _replaced(visit, reporter, "reset")


def _replaced(visit: PageContext, reporter: ProgressReporter, action: str) -> RequestedChange:
    app, goal, path = meant(visit)
    source = visit.form.get("source", "").strip()
    registry = visit.registry
    with filling("source"):
        if not source and action == "fork":
            raise UsageError("no source was given", "Enter a timeline")
        origin = None
        if source not in ("", EMPTY):
            slug = registry.instance_of(goal.instance_id).slug
            origin = lookup.target(registry, app, source, reporter, slug, anywhere=True)
        with_queue = "queue_too" in visit.form
        target = of_database(registry, app, goal)
        proposal = fork_reset.fork(registry, target, origin, action=action, with_queue=with_queue)
    title = f"Replace {goal.name} with a fork of {only_one(origin).name}" if origin else f"Reset {goal.name} to {EMPTY}"
    return RequestedChange(title, proposal, f"{path}/copies", _put_back(goal, action))


def keep(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, database, path = meant(visit)
    label = " ".join(visit.form.get("label", "").split())
    with filling("label"):
        if len(label) > LONGEST_LABEL:
            raise UsageError(f"a label has at most {LONGEST_LABEL} characters", "Shorten it")
    proposal = snapshots.keep(visit.registry, of_database(visit.registry, app, database), label)

    def undo(registry: Registry) -> Offer | None:
        made = _latest(registry, database, BY_HAND)
        return Offer("Undo", f"{path}/snapshots/delete", {"snapshot": made.id}) if made else None

    return RequestedChange(f"Take a snapshot of {database.name}", proposal, f"{path}/copies", undo)


def restore(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, goal, path = meant(visit)
    with filling("snapshot"):
        kept = _named(visit.registry, goal, visit.form.get("snapshot", "").strip())
        target = of_database(visit.registry, app, goal)
        together = snapshots.of_target(visit.registry, target, kept)
        proposal = snapshots.restore(visit.registry, target, together, with_queue="with_queue" in visit.form)
    return RequestedChange(f"Restore {goal.name}", proposal, f"{path}/copies", _put_back(goal, "restore"))


def forget(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    _app, database, path = meant(visit)
    kept = snapshots.find(visit.registry, visit.form.get("snapshot", ""))
    if kept.database_id != database.id:
        raise NotResolved(f"snapshot {kept.id} does not belong to {database.name}", "Choose one from the list")
    proposal = snapshots.delete(visit.registry, [kept])
    return RequestedChange(f"Delete the snapshot {kept.id[:8]} of {database.name}", proposal, f"{path}/copies")


def _named(registry: Registry, database: Database, text: str) -> Snapshot:
    """By its id, or its first characters, or by the revision whose data it holds."""
    if len(text) >= snapshots.SHORTEST_ID and find_snapshots(registry, text):
        return snapshots.find(registry, text)
    return snapshots.at_revision(registry, database, text)


def _put_back(database: Database, action: str) -> Undo:
    def undo(registry: Registry) -> Offer | None:
        kept = _latest(registry, database, action)
        if kept is None:
            return None
        return Offer("Restore previous data", f"/databases/{database.id}/restore", {"snapshot": kept.id})

    return undo


def _latest(registry: Registry, database: Database, cause: str) -> Snapshot | None:
    return next((each for each in kept_of(registry, database.id) if each.cause == cause), None)
