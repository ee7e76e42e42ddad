"""Snapshots of databases: taking, restoring, and deleting them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.confirmation import name_to_type
from provisioner.core.counts import counted
from provisioner.core.errors import Ambiguous, NotResolved
from provisioner.core.model import App, Database, Snapshot, Status
from provisioner.core.naming import shown
from provisioner.core.nearest import nearest
from provisioner.engines.protocol.engine import Source
from provisioner.operations.deploys import after_change
from provisioner.operations.documents import size_text
from provisioner.operations.fork_reset import becomes, own_of, pause, shared_by, was_kept, whose
from provisioner.operations.lookup import timeline_of
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.target import Target, all_used
from provisioner.reconcile.changes.replace import ReplacementData, put_in_place
from provisioner.reconcile.changes.revision_snapshots import REVISION
from provisioner.reconcile.changes.snapshots import BY_HAND, delete_snapshot, take_snapshots
from provisioner.registry import snapshots
from provisioner.registry.queries import app_of
from provisioner.registry.store import Registry

SHORTEST_ID = 7
SHORTEST_REVISION = 7


def keep(registry: Registry, target: Target, label: str) -> Proposal:
    """Take snapshots of the databases that a timeline uses, while programs write to them: of all of them, or none."""
    databases = all_used(target)

    def do(_: ProgressReporter) -> Iterator[str]:
        made = take_snapshots(registry, databases, now_ms(), label=label, cause=BY_HAND)
        for database, snapshot in zip(databases, made, strict=True):
            yield f"Took snapshot {snapshot.id} of {database.name} ({size_text(snapshot.size)})"

    return Proposal(do)


def restore(
    registry: Registry, target: Target, kept: Sequence[Snapshot], *, with_queue: bool = False, deploy: bool = True
) -> Proposal:
    """Restore a timeline's databases from these snapshots, one of each: all of them, or none."""
    goals = {item.id: item for item in own_of(registry, target)}
    pairs = [(goals[snapshot.database_id], snapshot) for snapshot in kept]
    at = rfc3339(min(snapshot.created_at for snapshot in kept))
    app = target.app

    def do(reporter: ProgressReporter) -> Iterator[str]:
        changes = [ReplacementData(goal, Source(goal, snapshot.id), f"as it was at {at}") for goal, snapshot in pairs]
        done = put_in_place(registry, app, changes, now_ms(), action="restore", with_queue=with_queue, deploy=deploy)
        for item in done:
            yield f"Restored {item.database.name} to {at}{pause(item.made)}"
            yield was_kept(registry, item)
        yield from after_change(registry, app, target.timeline, reporter, wanted=deploy)

    databases = [goal for goal, _ in pairs]
    users = shared_by(registry, databases)
    question = f"Restore {whose(target, databases)} data to {at}?{users} {becomes(registry, databases)}"
    return Proposal(do, question, typed=name_to_type(app, target.timeline))


def of_target(registry: Registry, target: Target, kept: Snapshot) -> list[Snapshot]:
    """The snapshots of all of a target's databases that were taken together with this one. Raises NotResolved if one of
    the databases has none."""
    goals = own_of(registry, target)
    found = {item.database_id: item for item in snapshots.taken_with(registry, kept)}
    if kept.database_id not in {goal.id for goal in goals}:
        names = " or ".join(goal.name for goal in goals)
        raise NotResolved(
            f"snapshot {kept.id} does not belong to {names}", f"See: provisioner database snapshot list {goals[0].name}"
        )
    for goal in goals:
        if goal.id not in found:
            slugs = [target.instance_of(each).slug for each in goals if each.id in found]
            raise NotResolved(
                f"snapshot {kept.id} was taken without {goal.name}, so it does not cover all databases of {target.name}",
                f"To restore its data alone, add --instance {slugs[0]}",
            )
    return [found[goal.id] for goal in goals]


def of_revision(registry: Registry, target: Target, revision: str) -> list[Snapshot]:
    """The data of all of a target's databases as it was at a commit. Raises NotResolved if one has none."""
    return [at_revision(registry, goal, revision) for goal in own_of(registry, target)]


def delete(registry: Registry, found: Sequence[Snapshot]) -> Proposal:
    """Permanently delete snapshots, of one or of several databases."""
    owners = [owner(registry, kept) for kept in found]

    def do(_: ProgressReporter) -> Iterator[str]:
        for kept, (_app, database) in zip(found, owners, strict=True):
            delete_snapshot(registry, database, kept, now_ms())
            yield f"Permanently deleted snapshot {kept.id}"

    each = [
        f"{kept.id} of {item.name}, taken {rfc3339(kept.created_at)}"
        for kept, (_, item) in zip(found, owners, strict=True)
    ]
    what = f"snapshot {each[0]}" if len(each) == 1 else counted(len(each), "snapshot")
    words = {name_to_type(app, timeline_of(registry, database)) for app, database in owners} - {""}
    return Proposal(
        do,
        f"Permanently delete {what}? This cannot be undone.",
        () if len(each) == 1 else tuple(each),
        typed=" ".join(sorted(words)),  # the name of each app whose production loses one
    )


def find_each(registry: Registry, names: Sequence[str], app: Callable[[], App | None]) -> list[Snapshot]:
    """Snapshots by their ids, or by their labels in the app, if one is meant. Raises NotResolved, Ambiguous."""
    found: dict[str, Snapshot] = {}
    for name in names:
        try:
            kept = find(registry, name)
        except Ambiguous:
            raise
        except NotResolved:
            meant = app()
            if meant is None:
                raise
            kept = _with_label(registry, name, meant)
        found[kept.id] = kept
    return list(found.values())


def _with_label(registry: Registry, label: str, app: App) -> Snapshot:
    every = [kept for database in registry.databases(app.id) for kept in snapshots.snapshots(registry, database.id)]
    found = [kept for kept in every if kept.label == label]
    if len(found) == 1:
        return found[0]
    if found:
        raise Ambiguous(
            f"{shown(label)!r} means {counted(len(found), 'snapshot')} of {app.slug}",
            "Use their ids: provisioner database snapshot list",
            candidates=[item.id for item in found],
        )
    raise NotResolved(
        f"{app.slug} has no snapshot {shown(label)!r}",
        "List snapshots: provisioner database snapshot list",
        candidates=nearest(label, {item.label for item in every if item.label}),
    )


def find(registry: Registry, identity: str) -> Snapshot:
    """A snapshot by its id, or by the first characters of one."""
    found = snapshots.find_snapshots(registry, identity) if len(identity) >= SHORTEST_ID else []
    if len(found) == 1:
        return found[0]
    if found:
        raise Ambiguous(
            f"{counted(len(found), 'snapshot id')} start with {identity!r}",
            "Enter more of the id",
            candidates=[item.id for item in found],
        )
    raise NotResolved(f"no snapshot {identity!r}", "List snapshots: provisioner database snapshot list")


def at_revision(registry: Registry, database: Database, revision: str) -> Snapshot:
    """The data as it was at a commit, or at the one whose id starts so."""
    kept = [item for item in snapshots.snapshots(registry, database.id) if item.cause == REVISION]
    found = [item for item in kept if item.revision.startswith(revision.lower())]
    if len(revision) < SHORTEST_REVISION or not found:
        there = ", ".join(dict.fromkeys(item.revision[:12] for item in kept)) or "none"
        raise NotResolved(
            f"{database.name} has no snapshot at revision {revision!r}, but at: {there}",
            "To keep them from now on: provisioner app set --snapshot-revisions N",
        )
    if len({item.revision for item in found}) > 1:
        several = dict.fromkeys(item.revision for item in found)
        raise Ambiguous(f"several revisions start with {revision!r}", "Enter more of it", candidates=list(several))
    return found[0]


def owner(registry: Registry, kept: Snapshot) -> tuple[App, Database]:
    """The app and the database of a snapshot."""
    database = registry.database(kept.database_id)
    app = app_of(registry, database) if database is not None and database.status is not Status.PURGED else None
    if app is not None and database is not None:
        return app, database
    raise NotResolved(f"the database of snapshot {kept.id} is gone", "If its app was removed, add it again")
