"""Taking and deleting snapshots: started by a person, finished or undone by a reconcile."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import DatabaseId, SnapshotId
from provisioner.core.model import App, Database, Instance, Snapshot, SnapshotState
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import Engine
from provisioner.reconcile.apply.isolation import problem_of
from provisioner.reconcile.apply.locks import database_if_free, database_locked
from provisioner.registry import snapshots
from provisioner.registry.store import Registry
from provisioner.system import failpoints

BY_HAND = "user"
"""The cause of a snapshot that a person has taken."""


def take_snapshots(
    registry: Registry, databases: Sequence[Database], now: int, *, label: str, cause: str
) -> list[Snapshot]:
    """Keep databases as they are: all of them, or none if one cannot be copied. Raises StorageFailed and Busy."""
    with ExitStack() as locks:
        for database in sorted(databases, key=lambda item: item.id):
            locks.enter_context(database_locked(registry, database))
        set_id = str(uuid.uuid4())
        begun = [_begun(registry, database, label, cause, now, set_id) for database in databases]
        with registry.change():
            for snapshot in begun:
                snapshots.save_snapshot(registry, snapshot)
        failpoints.point("snapshot.intended")
        try:
            made = [_made(registry, *pair) for pair in zip(databases, begun, strict=True)]
        except ProvisionerError:
            for snapshot in begun:
                remove(registry, snapshot, now)
            raise
        by = registry.who if cause == BY_HAND else cause
        with registry.change():
            for database, snapshot in zip(databases, made, strict=True):
                snapshots.save_snapshot(registry, snapshot)
                registry.audit_database(now, "database.snapshot", database, snapshot.id, cause=by)
        failpoints.point("snapshot.recorded")
    return made


def _begun(registry: Registry, database: Database, label: str, cause: str, now: int, set_id: str) -> Snapshot:
    revision = registry.timeline(database.timeline_id).revision
    making = SnapshotState.MAKING
    return Snapshot(
        SnapshotId(str(uuid.uuid4())), database.id, label, cause, revision, making, None, None, now, None, set_id
    )


def _made(registry: Registry, database: Database, snapshot: Snapshot) -> Snapshot:
    engine, instance = storage(registry, database)
    made = engine.snapshot(instance, database, snapshot.id)
    return replace(snapshot, state=SnapshotState.KEPT, version=made.version, size=made.size)


def keep_newest(registry: Registry, database: Database, cause: str, most: int, now: int) -> None:
    """Delete all but the newest of a database's snapshots of one cause. Raises StorageFailed and Busy."""
    kept = [snapshot for snapshot in snapshots.snapshots(registry, database.id) if snapshot.cause == cause]
    for snapshot in kept[most:]:
        delete_snapshot(registry, database, snapshot, now, cause="superseded")


def delete_snapshot(registry: Registry, database: Database, snapshot: Snapshot, now: int, cause: str = "") -> None:
    """Delete it permanently. `cause` None is a person. Raises StorageFailed and Busy."""
    with database_locked(registry, database):
        with registry.change():
            snapshot = replace(snapshot, state=SnapshotState.DELETING, deleted_at=now)
            snapshots.save_snapshot(registry, snapshot)
            registry.audit_database(now, "database.snapshot-delete", database, snapshot.id, cause=cause)
        failpoints.point("snapshot.deleting")
        remove(registry, snapshot, now)


def settle_snapshots(registry: Registry, app: App, now: int) -> list[str]:
    """Remove the snapshots that a process that is gone was making or deleting: which could not be removed, and why. The
    caller holds the app's lock."""
    problems = []
    for snapshot in snapshots.unfinished_snapshots(registry, app.id):
        with database_if_free(registry, snapshot.database_id) as free:
            if free and (why := problem_of(partial(remove, registry, snapshot, now))):
                problems.append(f"a snapshot of database {row_of(registry, snapshot.database_id).name}: {why}")
    return problems


def remove(registry: Registry, snapshot: Snapshot, now: int) -> None:
    """Delete a snapshot's data; of one that was never made nothing is remembered."""
    database = row_of(registry, snapshot.database_id)
    engine, instance = storage(registry, database)
    engine.delete_snapshot(instance, database, snapshot.id)
    if snapshot.state is SnapshotState.MAKING:
        snapshots.forget_snapshot(registry, snapshot)
    else:
        snapshots.save_snapshot(
            registry, replace(snapshot, state=SnapshotState.DELETED, deleted_at=snapshot.deleted_at or now)
        )


def row_of(registry: Registry, database_id: DatabaseId) -> Database:
    """The database's row as it is now."""
    found = registry.database(database_id)
    assert found is not None  # noqa: S101 - rows of databases are never deleted
    return found


def storage(registry: Registry, database: Database) -> tuple[Engine, Instance]:
    """What works on the database's data, and where that is now."""
    instance = registry.storage_of(database)
    return engine_of(instance), instance
