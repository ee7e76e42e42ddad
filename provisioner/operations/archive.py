"""Archiving a timeline's databases by hand, recovering them, and deleting archived ones: all of them, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.confirmation import name_to_type
from provisioner.core.counts import counted, verb
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.ids import DatabaseId
from provisioner.core.model import App, Database, Hold, Intent, Status, Timeline
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.operations.fork_reset import own_of, shared_by
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.reconcile_now import run
from provisioner.operations.target import Target
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.apply.lost_data import lost, must_be_known, remedy
from provisioner.reconcile.apply.new_rows import name_of
from provisioner.registry import queries, snapshots
from provisioner.registry.store import Registry


def archive(registry: Registry, target: Target) -> Proposal:
    """Archive databases for the retention period. If one cannot be archived, none is."""
    app = target.app
    if target.timeline.protected:
        raise ProvisionerError(
            f"cannot archive {_names(target.own)}: its timeline is protected",
            f"To allow this, run: provisioner timeline unprotect {target.name}",
        )
    found = target.live or own_of(registry, target)
    if orphaned := [item.name for item in found if item.hold is Hold.ORPHANED and not item.live]:
        raise ProvisionerError(
            f"{orphaned[0]} belongs to an earlier branch and is already archived", "See: provisioner status"
        )
    if gone := lost(registry, [item for item in found if item.live]):
        raise ProvisionerError(
            f"{gone[0].name} cannot be archived, because its data is missing; nothing was archived",
            remedy(registry, gone[0]),
        )
    if len(found) > 1:
        _must_be_whole(registry, target, found)

    def do(reporter: ProgressReporter) -> Iterator[str]:
        before = _hold(registry, app, found, Hold.ARCHIVED, reporter)
        failed = [item for item in _current(registry, found) if item.error]
        if failed and len(found) > 1:
            _take_back(registry, app, before, reporter)
            raise ProvisionerError(
                f"{failed[0].name}: {failed[0].error}; nothing was archived",
                "Resolve this, then retry; to archive its other databases, add --instance INSTANCE",
            )
        yield from _states(registry, found)

    users = shared_by(registry, found)
    loses = "it until you recover it" if len(found) == 1 else "them until you recover them"
    question = f"Archive {_names(found)}?{users} Apps on {app.slug} lose access to {loses}."
    return Proposal(do, question, typed=name_to_type(app, target.timeline))


def _must_be_whole(registry: Registry, target: Target, found: Sequence[Database]) -> None:
    for item in found:
        instance = registry.storage_of(item)
        if item.connected_at is not None and (problem := engine_of(instance).problems(instance, [item]).get(item.id)):
            raise ProvisionerError(
                f"{item.name} cannot be archived: {problem}; nothing was archived",
                f"Resolve this, or choose other databases of {target.name}: --instance INSTANCE",
            )


def recover(registry: Registry, target: Target, to: Timeline | None = None) -> Proposal:
    """Recover archived databases, on the timeline `to` if there is one.

    If their branch is gone, they stay until they are archived by hand.
    """
    app = target.app
    found = _to_recover(target)
    goal = to or target.timeline
    for item in found:
        _must_be_recoverable(registry, item, goal)

    def do(reporter: ProgressReporter) -> Iterator[str]:
        _hold(registry, app, found, Hold.CONNECTED, reporter, goal)
        yield from _states(registry, found)

    return Proposal(do)


def begin_empty(registry: Registry, app: App, timeline: Timeline) -> Proposal:
    """Give new databases to a branch that may own archived data, after a person has declared that it does not."""

    def do(reporter: ProgressReporter) -> Iterator[str]:
        with app_locked(registry, app), registry.change():
            registry.save_timelines([replace(registry.timeline(timeline.id), doubt="")])
            registry.audit(now_ms(), "timeline.begin-empty", timeline)
        run(registry, app, "database reset", reporter)
        yield f"{shown(timeline.name)} has new databases; the archived data stays recoverable"

    return Proposal(do)


def _to_recover(target: Target) -> tuple[Database, ...]:
    """The named database; for a timeline, the latest archived one on each instance without a live one."""
    if target.narrowed and len(target.own) == 1:
        return target.own
    live = {item.instance_id for item in target.live}
    latest = sorted(target.archived, key=lambda item: item.archived_at or 0)
    found = {item.instance_id: item for item in latest if item.instance_id not in live}
    if not found:
        raise NotResolved(
            f"{target.name} has no archived database to recover",
            f"List databases: provisioner database list --app {target.app.slug}",
        )
    return tuple(found.values())


def _must_be_recoverable(registry: Registry, found: Database, timeline: Timeline) -> None:
    if timeline.id != found.timeline_id and found.live:
        raise ProvisionerError(
            f"{found.name} is {found.status}, not archived",
            f"To copy its data: provisioner database fork {found.name} {shown(timeline.name)}",
        )
    if all(item.id != found.instance_id for item in registry.instances()):
        slug = registry.instance_of(found.instance_id).slug
        raise ProvisionerError(
            f"the instance {slug} of {found.name} was deleted", f"Recover it first: provisioner instance recover {slug}"
        )
    for share in queries.shares_of(registry, timeline):
        if share.instance_id == found.instance_id:
            name = shown(timeline.name)
            raise ProvisionerError(
                f"{name} shares another timeline's database instead of {found.name}",
                f"Stop sharing first: provisioner database unshare {name}",
            )
    rivals = [
        other
        for other in queries.databases_of(registry, timeline)
        if other.live and other.id != found.id and other.instance_id == found.instance_id
    ]
    if rivals:
        raise ProvisionerError(
            f"the timeline has a live database, {rivals[0].name} ({rivals[0].id})",
            f"Archive it first: provisioner database archive {rivals[0].id}",
        )


def purge(registry: Registry, target: Target) -> Proposal:
    """Permanently delete archived databases now, with their snapshots; and discard those whose data is lost."""
    app = target.app
    gone = lost(registry, [*target.archived, *target.live])
    found = (*target.archived, *(item for item in gone if item.live))
    if not found:
        must_be_known(registry, target.own)
        live = target.own[0] if target.own else None
        raise ProvisionerError(
            f"cannot delete {live.name}: it is {live.status}, not archived"
            if live
            else f"{target.name} has no database",
            f"Archive it first: provisioner database archive {live.id}" if live else "See: provisioner status",
        )

    def do(reporter: ProgressReporter) -> Iterator[str]:
        with app_locked(registry, app), registry.change():
            current = _current(registry, found)
            still = {item.id for item in lost(registry, current)}
            for item in current:
                if item.status is not Status.ARCHIVED and item.id not in still:
                    raise ProvisionerError(f"{item.name} is no longer archived", "See: provisioner status")
            timeline = registry.timeline(found[0].timeline_id)
            if timeline.protected and any(item.hold is not Hold.ARCHIVED for item in current):
                raise ProvisionerError(
                    f"cannot delete {current[0].name}: its timeline is protected",
                    f"To allow this, run: provisioner timeline unprotect {shown(timeline.name)}",
                )
            mark_for_purge(registry, app, [_archived(item) if item.id in still else item for item in current])
        run(registry, app, "database purge", reporter, retry=_ids(found))
        for item in _current(registry, found):
            if item.status is not Status.PURGED:
                raise ProvisionerError(
                    f"{item.name} is not deleted yet: {item.error or item.status}",
                    "Resolve this, then run: provisioner reconcile",
                )
            yield f"Permanently deleted {item.name}"

    users = shared_by(registry, found)
    what = f"Permanently delete {', '.join(f'{item.name} ({item.id})' for item in found)}"
    kept = f"and {verb(len(found), 'its', 'their')} snapshots?{users}{_loss(registry, gone)}"
    question = f"{what} {kept} This cannot be undone."
    return Proposal(do, question, typed=name_to_type(app, target.timeline))


def mark_for_purge(registry: Registry, app: App, archived: Iterable[Database]) -> None:
    """Record that a person confirmed their deletion: the next reconcile deletes them, whatever their age."""
    found = list(archived)
    with registry.change():
        registry.save_databases(item.with_intent(Intent.PURGE).retried_at_once() for item in found)
        for item in found:
            registry.record(now_ms(), "database.purge-asked", registry.who, app_id=app.id, database_id=item.id)


def _archived(database: Database) -> Database:
    """The row of a lost database to delete: it has nothing to archive first."""
    return database.archived(now_ms(), database.purge_at).with_hold(Hold.ARCHIVED)


def _loss(registry: Registry, gone: Sequence[Database]) -> str:
    """For the question whether to discard lost databases: what is missing, and what still exists."""
    if not gone:
        return ""
    kept = sum(len(snapshots.snapshots(registry, item.id)) for item in gone)
    of_it = f", but {counted(kept, 'snapshot')} {verb(kept, 'exists', 'exist')}" if kept else ""
    return f" The data of {_names(gone)} is missing{of_it}."


def _hold(
    registry: Registry,
    app: App,
    found: Sequence[Database],
    hold: Hold,
    reporter: ProgressReporter,
    goal: Timeline | None = None,
) -> list[Database]:
    """Hold databases against the refs, and act on it, as databases of the timeline `goal` if there is one. Returns their
    previous rows."""
    with app_locked(registry, app), registry.change():
        before = _current(registry, found)
        for item in before:
            if item.status is Status.PURGED:
                raise ProvisionerError(f"{item.name} was deleted in the meantime", "See: provisioner status")
        moved = before if goal is None else [_of(registry, app, goal, item) for item in before]
        registry.save_databases(item.with_hold(hold).kept_until(None) for item in moved)
        if hold is Hold.CONNECTED:  # its expiry starts again
            timeline = registry.timeline(moved[0].timeline_id)
            gone_at = None if timeline.preview else timeline.gone_at
            doubt = " ".join(item for item in timeline.doubt.split() if item not in _ids(moved))
            registry.save_timelines([replace(timeline, active_at=now_ms(), gone_at=gone_at, doubt=doubt)])
        for item in before:
            registry.record(now_ms(), f"database.hold-{hold}", registry.who, app_id=app.id, database_id=item.id)
    verb = "archive" if hold is Hold.ARCHIVED else "recover"
    run(registry, app, f"database {verb}", reporter, retry=_ids(found))
    return before


def _of(registry: Registry, app: App, timeline: Timeline, database: Database) -> Database:
    """The database as one of a timeline's."""
    if database.timeline_id == timeline.id:
        return database
    name = name_of(app, timeline, registry.instance_of(database.instance_id), registry.first_assigned(app.id))
    return replace(database, timeline_id=timeline.id, name=name)


def _take_back(registry: Registry, app: App, before: Sequence[Database], reporter: ProgressReporter) -> None:
    """Restore the databases' previous rows: one of them could not be archived."""
    holds = {item.id: item.hold for item in before}
    with app_locked(registry, app), registry.change():
        current = _current(registry, before)
        registry.save_databases(item.with_hold(holds[item.id] or Hold.CONNECTED) for item in current)
    run(registry, app, "database archive", reporter, retry=_ids(before))
    with app_locked(registry, app), registry.change():
        registry.save_databases(item.with_hold(holds[item.id]) for item in _current(registry, before))


def _current(registry: Registry, found: Sequence[Database]) -> list[Database]:
    rows = (registry.database(item.id) for item in found)
    return [row for row in rows if row is not None]


def _ids(databases: Sequence[Database]) -> frozenset[DatabaseId]:
    return frozenset(item.id for item in databases)


def _names(databases: Sequence[Database]) -> str:
    return ", ".join(item.name for item in databases)


def _states(registry: Registry, found: Sequence[Database]) -> Iterator[str]:
    for item in _current(registry, found):
        if item.error:
            raise ProvisionerError(
                f"{item.name}: {item.error}", f"Resolve this, then run: provisioner database fix {item.name}"
            )
        until = f" until {rfc3339(item.purge_at)}" if item.status is Status.ARCHIVED and item.purge_at else ""
        yield f"{item.name} is {item.status}{until}"
