"""A database as it was at one moment: keeping it, going back to it, forgetting it."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.model import App, Database, Snapshot, Status
from provisioner.engines.protocol.engine import Source
from provisioner.operations.fork_reset import pause, shared_by, was_kept
from provisioner.operations.proposal import Proposal, Told
from provisioner.reconcile.changes import replace
from provisioner.reconcile.changes.revision_snapshots import REVISION
from provisioner.registry import snapshots
from provisioner.registry.queries import app_of
from provisioner.registry.store import Registry

SHORTEST_ID = 8
SHORTEST_REVISION = 7


def keep(registry: Registry, app: App, database: Database, label: str) -> Proposal:
    """Keep a database as it is now, while others write to it."""

    def do(_: Told) -> Iterator[str]:
        made = replace.take_snapshot(registry, app, database, now_ms(), label=label, cause=replace.BY_HAND)
        yield f"snapshot {made.id} of {database.name}, {made.size} bytes"

    return Proposal(do)


def restore(registry: Registry, app: App, goal: Database, kept: Snapshot, *, with_queue: bool = False) -> Proposal:
    """Make a database what it was when a snapshot of it was taken."""
    if kept.database_id != goal.id:
        raise ProvisionerError(
            f"snapshot {kept.id} is not one of {goal.name}", f"See: provisioner database snapshot list {goal.name}"
        )
    at = rfc3339(kept.created_at)

    def do(_: Told) -> Iterator[str]:
        source = Source(goal, kept.id)
        made, replaced = replace.put_in_place(
            registry, app, goal, source, now_ms(), action="restore", detail=f"as it was at {at}", with_queue=with_queue
        )
        yield f"{goal.name} is as it was at {at}{pause(made)}"
        yield was_kept(registry, goal, replaced)

    users = shared_by(registry, goal)
    return Proposal(do, f"Make {goal.name} what it was at {at}?{users} What it holds now becomes a snapshot")


def delete(registry: Registry, app: App, database: Database, kept: Snapshot) -> Proposal:
    def do(_: Told) -> Iterator[str]:
        replace.delete_snapshot(registry, app, database, kept, now_ms())
        yield f"deleted snapshot {kept.id}"

    at = rfc3339(kept.created_at)
    return Proposal(do, f"Delete snapshot {kept.id} of {database.name}, taken {at}? It is gone then")


def find(registry: Registry, identity: str) -> Snapshot:
    """A snapshot by its id, or by the beginning of one."""
    found = snapshots.find_snapshots(registry, identity) if len(identity) >= SHORTEST_ID else []
    if len(found) == 1:
        return found[0]
    if found:
        raise NotResolved(f"{len(found)} snapshots begin with {identity!r}", "Give more of the id")
    raise NotResolved(f"there is no snapshot {identity!r}", "See 'provisioner database snapshot list'")


def at_revision(registry: Registry, database: Database, revision: str) -> Snapshot:
    """The data as it was at a commit, or at the one whose id begins so."""
    kept = [item for item in snapshots.snapshots(registry, database.id) if item.cause == REVISION]
    found = [item for item in kept if item.revision.startswith(revision.lower())]
    if len(revision) < SHORTEST_REVISION or not found:
        there = ", ".join(dict.fromkeys(item.revision[:12] for item in kept)) or "none"
        raise NotResolved(
            f"of {database.name} no data is kept at revision {revision!r}, but at: {there}",
            "'provisioner app set --snapshot-revisions N' keeps it from now on",
        )
    if len({item.revision for item in found}) > 1:
        raise NotResolved(f"several revisions begin with {revision!r}", "Give more of it")
    return found[0]


def owner(registry: Registry, kept: Snapshot) -> tuple[App, Database]:
    """The app and the database that a snapshot is of."""
    database = registry.database(kept.database_id)
    app = app_of(registry, database) if database is not None and database.status is not Status.PURGED else None
    if app is not None and database is not None:
        return app, database
    raise NotResolved(f"the database of snapshot {kept.id} is gone", "Its app was removed: add it again")
