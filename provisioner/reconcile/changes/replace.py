"""Putting other data in the place of a database's, and keeping snapshots: begun by a person, finished or undone here.

A database goes on while its replacement is built beside it, which may take as long as the disk does; nobody waits for
that but who asked. From ``ready`` on, it is finished whatever happens.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import replace

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.core.model import (
    App,
    Database,
    Instance,
    Intent,
    Replacement,
    Scrub,
    Snapshot,
    SnapshotState,
    Status,
)
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import Copied, Engine, Source
from provisioner.reconcile.apply.locks import app_locked, database_if_free, database_locked
from provisioner.reconcile.changes.move_recovery import settle_move
from provisioner.reconcile.changes.scrub import scrubbed
from provisioner.registry import snapshots
from provisioner.registry.store import Registry
from provisioner.system import failpoints

RETRY_MS = 10_000
BY_HAND = "user"
"""The cause of a snapshot that somebody asked for."""


def put_in_place(
    registry: Registry,
    app: App,
    database: Database,
    source: Source | None,
    now: int,
    *,
    action: str,
    detail: str,
    with_queue: bool = False,
    scrub: Scrub | None = None,
    build: Callable[[], Copied] | None = None,
) -> tuple[Copied, str]:
    """Replace a connected database's data by a copy of the source, or by nothing; the id of the snapshot it becomes.

    Where `build` is given, that builds beside it what is to take the place. `action` is what it is called in the audit log,
    and the cause of that snapshot. Raises StorageFailed, Busy, NotScrubbed where the copy did not pass `scrub`, and
    ProvisionerError where the database is not connected; then its data is as it was.
    """
    with database_locked(registry, database):
        engine, instance = _storage(registry, database)
        kept_as = str(uuid.uuid4())
        begun = Replacement(database.id, action, detail, kept_as, False, None, None, None, now)
        with app_locked(registry, app):
            settle_move(registry, app, database.id, now)  # whose lock is held, as below
            for left in snapshots.replacements(registry, app.id):
                if left.database_id == database.id:  # whose lock is held: who began it is gone
                    _settle(registry, app, left, now)
            _must_have_data(registry, database)
            if source is not None:
                _must_be_beside(registry, database, source.database)
            with registry.change(synced=False):  # cut off with the power, what was built waits for the next attempt
                snapshots.save_replacement(registry, begun)
        failpoints.point("replace.intended")
        try:
            made = scrubbed(
                *(registry, app, database, scrub),
                build or (lambda: engine.build(instance, database, source, with_queue=with_queue)),
            )
            failpoints.point("replace.built")
            with app_locked(registry, app):
                current = _must_have_data(registry, database)
                fork = source is not None and source.database.id != database.id
                if fork and source is not None:
                    begun = replace(begun, forked_from=source.database.id, forked_at=now, fork_version=made.version)
                elif source is not None:  # its own past: it stays what it was a fork of
                    begun = replace(
                        begun,
                        forked_from=current.forked_from,
                        forked_at=current.forked_at,
                        fork_version=current.fork_version,
                    )
                begun = replace(begun, ready=True)
                with registry.change():
                    snapshots.save_replacement(registry, begun)
                    registry.save_databases([replace(current, intent=Intent.REPLACE, retry_at=None)])
                failpoints.point("replace.ready")
                _finish(registry, app, begun, now)
        except ProvisionerError:
            if not begun.ready:
                _undo(registry, app, begun, now)
            raise
    return made, kept_as


def take_snapshot(registry: Registry, app: App, database: Database, now: int, *, label: str, cause: str) -> Snapshot:
    """Keep a database as it is. Raises StorageFailed and Busy."""
    with database_locked(registry, database):
        engine, instance = _storage(registry, database)
        revision = registry.timeline(database.timeline_id).revision
        making = SnapshotState.MAKING
        snapshot = Snapshot(str(uuid.uuid4()), database.id, label, cause, revision, making, None, None, now, None)
        snapshots.save_snapshot(registry, snapshot)
        failpoints.point("snapshot.intended")
        try:
            made = engine.snapshot(instance, database, snapshot.id)
        except ProvisionerError:
            _remove(registry, snapshot, now)
            raise
        snapshot = replace(snapshot, state=SnapshotState.KEPT, version=made.version, size=made.size)
        with registry.change():
            snapshots.save_snapshot(registry, snapshot)
            _record(
                registry,
                app,
                database,
                now,
                "database.snapshot",
                registry.who if cause == BY_HAND else cause,
                snapshot.id,
            )
        failpoints.point("snapshot.recorded")
    return snapshot


def keep_newest(registry: Registry, app: App, database: Database, cause: str, most: int, now: int) -> None:
    """Of a database's snapshots of one cause delete all but the newest. Raises StorageFailed and Busy."""
    kept = [snapshot for snapshot in snapshots.snapshots(registry, database.id) if snapshot.cause == cause]
    for snapshot in kept[most:]:
        delete_snapshot(registry, app, database, snapshot, now, cause="superseded")


def delete_snapshot(
    registry: Registry, app: App, database: Database, snapshot: Snapshot, now: int, cause: str = ""
) -> None:
    """Delete it for good; without a cause it is who asks. Raises StorageFailed and Busy."""
    with database_locked(registry, database):
        with registry.change():
            snapshot = replace(snapshot, state=SnapshotState.DELETING, deleted_at=now)
            snapshots.save_snapshot(registry, snapshot)
            _record(registry, app, database, now, "database.snapshot-delete", cause or registry.who, snapshot.id)
        failpoints.point("snapshot.deleting")
        _remove(registry, snapshot, now)


def settle(registry: Registry, app: App, now: int) -> None:
    """Finish or undo what a process that is gone had begun. The caller holds the app's lock."""
    for begun in snapshots.replacements(registry, app.id):
        with database_if_free(registry, begun.database_id) as free:
            if free:
                _settle(registry, app, begun, now)
    for snapshot in snapshots.unfinished_snapshots(registry, app.id):
        with database_if_free(registry, snapshot.database_id) as free:
            if free:
                _remove(registry, snapshot, now)


def _settle(registry: Registry, app: App, begun: Replacement, now: int) -> None:
    try:
        if begun.ready:
            _finish(registry, app, begun, now)
        else:
            _undo(registry, app, begun, now)
    except StorageFailed as error:
        database = _database(registry, begun.database_id)
        later = now + RETRY_MS
        failed = replace(database, error=str(error), attempts=database.attempts + 1, retry_at=later)
        if begun.ready:
            failed = replace(failed, status=Status.ERROR, intent=Intent.REPLACE)
        with registry.change():
            registry.save_databases([failed])
            _record(registry, app, database, now, "database.error", begun.action, str(error))


def _finish(registry: Registry, app: App, begun: Replacement, now: int) -> None:
    """Swap the data, and record it. The caller holds the locks of app and database."""
    database = _database(registry, begun.database_id)
    engine, instance = _storage(registry, database)
    size = engine.swap(instance, database, begun.kept_as)
    timeline = registry.timeline(database.timeline_id)
    kept = Snapshot(
        *(begun.kept_as, database.id, "", begun.action, timeline.revision, SnapshotState.KEPT, None, size, now, None)
    )
    done = replace(
        database,
        status=Status.CONNECTED,
        intent=None,
        error=None,
        attempts=0,
        retry_at=None,
        forked_from=begun.forked_from,
        forked_at=begun.forked_at,
        fork_version=begun.fork_version,
    )
    with registry.change():
        registry.save_databases([done])
        if size is not None:
            snapshots.save_snapshot(registry, kept)
        snapshots.end_replacement(registry, begun)
        _record(registry, app, database, now, f"database.{begun.action}", registry.who, begun.detail)
    failpoints.point("replace.recorded")


def _undo(registry: Registry, app: App, begun: Replacement, now: int) -> None:
    database = _database(registry, begun.database_id)
    engine, instance = _storage(registry, database)
    engine.discard(instance, database)
    with registry.change():
        snapshots.end_replacement(registry, begun)
        _record(registry, app, database, now, f"database.{begun.action}-undone", registry.who, begun.detail)


def _remove(registry: Registry, snapshot: Snapshot, now: int) -> None:
    """Delete a snapshot's data; of one that was never made nothing is remembered."""
    database = _database(registry, snapshot.database_id)
    engine, instance = _storage(registry, database)
    engine.delete_snapshot(instance, database, snapshot.id)
    if snapshot.state is SnapshotState.MAKING:
        snapshots.forget_snapshot(registry, snapshot)
    else:
        snapshots.save_snapshot(
            registry, replace(snapshot, state=SnapshotState.DELETED, deleted_at=snapshot.deleted_at or now)
        )


def _must_have_data(registry: Registry, database: Database) -> Database:
    """Connected, or it was and its data was found lost or damaged."""
    current = _database(registry, database.id)
    connected = current.status is Status.CONNECTED and current.intent is None
    damaged = current.status is Status.ERROR and current.intent in (None, Intent.PROVISION)
    if not connected and not (damaged and current.connected_at is not None):
        state = f"busy ({current.intent})" if current.status is Status.CONNECTED else current.status
        raise ProvisionerError(
            f"database {current.name} is {state}, not connected",
            f"See 'provisioner database show {current.name}'",
        )
    return current


def _must_be_beside(registry: Registry, database: Database, source: Database) -> None:
    goal, origin = _database(registry, database.id), _database(registry, source.id)
    if goal.moved != origin.moved:
        slug = registry.instance_of(goal.instance_id).slug
        raise ProvisionerError(
            f"{origin.name} and {goal.name} are in two places, because instance {slug} is being moved",
            f"When it is there, try again; to go on with it: provisioner instance move {slug}",
        )


def _database(registry: Registry, database_id: str) -> Database:
    found = registry.database(database_id)
    assert found is not None  # noqa: S101 - rows of databases are never deleted
    return found


def _storage(registry: Registry, database: Database) -> tuple[Engine, Instance]:
    instance = registry.storage_of(database)
    return engine_of(instance), instance


def _record(registry: Registry, app: App, database: Database, now: int, action: str, cause: str, detail: str) -> None:
    timeline = os.fsdecode(registry.timeline(database.timeline_id).name)
    registry.record(now, action, cause, app_id=app.id, timeline=timeline, database_id=database.id, detail=detail)
