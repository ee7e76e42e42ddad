"""Moving an instance's databases to another place, one by one, while programs use them.

Each is copied to its new location. Then it is fenced, and from there on no write to it is acknowledged. Later writes are
added to the copy, which is compared with it; the copy becomes the database there; and one transaction of the registry
records the new location. If interrupted before that, it stays at the old location; after it, at the new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provisioner.core.errors import LockTimeout, ProvisionerError
from provisioner.core.ids import DatabaseId
from provisioner.core.model import App, Database, Instance, InstanceMove, Status
from provisioner.engines.protocol.engine import Source
from provisioner.engines.protocol.move import end_of
from provisioner.kv import bulk_copy
from provisioner.reconcile.apply.locks import all_locked, app_locked, database_locked
from provisioner.reconcile.apply.ownership import settle_owners
from provisioner.reconcile.changes.move_recovery import settle_move, settle_moves
from provisioner.reconcile.changes.replace import settle
from provisioner.reconcile.changes.run_records import settle_runs
from provisioner.registry import moves
from provisioner.registry.snapshots import snapshots
from provisioner.registry.store import Registry
from provisioner.system import failpoints, inbox

TRIES = 5

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Moved:
    """`late` entries were written while it was copied; `paused`: for how many seconds no program could use it."""

    name: str
    entries: int
    late: int
    paused: float


class NotMoved(ProvisionerError):  # noqa: N818 - what it is
    """This database cannot be moved as it is; others can."""


def begin(registry: Registry, instance: Instance, target: Instance, now: int) -> None:
    """Record the target of a move. The caller holds the instance's lock."""
    with all_locked(registry):
        moves.begin_move(registry, instance, InstanceMove(target.location, target.url, target.require_quorum), now)
    failpoints.point("move.begun")


def turn_back(registry: Registry, instance: Instance, now: int) -> None:
    """From here on, it goes to where it came from. The caller holds its lock. Raises ProvisionerError."""
    with all_locked(registry):
        for app in registry.apps(removed=True):
            settle_moves(registry, app, now)
        if any(moves.on_their_way(registry, app.id) for app in registry.apps(removed=True)):
            raise ProvisionerError("not every database could be released from the move", "Try again")
        moves.turn_back(registry, registry.instance_of(instance.id), now)
    failpoints.point("move.turned")


def end(registry: Registry, instance: Instance, now: int) -> bool:
    """All is in the new place: call it the instance's. False where not all is. The caller holds the instance's lock."""
    with all_locked(registry):
        for app in registry.apps(removed=True):
            settle_moves(registry, app, now)
        if moves.unended(registry, instance):
            return False
        moves.end_move(registry, registry.instance_of(instance.id), now)
    failpoints.point("move.recorded")
    return True


def move(registry: Registry, app: App, database_id: DatabaseId, clock: Clock, heard: bulk_copy.Heard) -> Moved | None:
    """Move one database with its snapshots; None where there was nothing of it to move.

    Raises NotMoved, StorageFailed and Busy; then it stays at the old location.
    """
    found = registry.database(database_id)
    assert found is not None  # noqa: S101 - rows of databases are never deleted
    with database_locked(registry, found):
        for _ in range(TRIES):
            with app_locked(registry, app):
                settle_move(registry, app, found.id, clock())
                settle_runs(registry, app, clock())
                settle(registry, app, clock())
                current = _to_be_moved(registry, found.id)
                if current is not None:
                    moves.set_switching(registry, current, moves.MAKING)
            if current is None:
                return None
            if (done := _move(registry, app, current, clock, heard)) is not None:
                return done
    raise LockTimeout(
        f"database {found.name} is changed again and again", "To continue, run: provisioner instance move INSTANCE"
    )


def _to_be_moved(registry: Registry, database_id: DatabaseId) -> Database | None:
    """The database as it is now; None where there is nothing to copy, and all that there is to say was said."""
    database = registry.database(database_id)
    assert database is not None  # noqa: S101 - rows of databases are never deleted
    if not registry.instance_of(database.instance_id).moving:
        raise NotMoved(f"database {database.name} is where it belongs", "Nothing is to be done")
    if database.moved or database.status is Status.PURGED:
        return None
    if database.connected_at is None:
        moves.set_moved(registry, database, moved=True)
        return None
    if database.intent is not None or database.status not in (Status.CONNECTED, Status.ARCHIVED):
        state = f"busy ({database.intent})" if database.error is None else f"failed: {database.error}"
        raise NotMoved(
            f"database {database.name} is not moved, because it is {state}",
            f"See: provisioner database show {database.name}. Then run: provisioner instance move INSTANCE",
        )
    return database


def _move(registry: Registry, app: App, database: Database, clock: Clock, heard: bulk_copy.Heard) -> Moved | None:
    """None where it is another one than it was when it was copied."""
    instance = registry.instance_of(database.instance_id)
    old, new = instance.storage(moved=False), instance.storage(moved=True)
    kept = [each.id for each in snapshots(registry, database.id)]
    items = [Source(database, each) for each in (*kept, None)]
    try:
        entries = sum(_copy(old, new, item, heard) for item in items)
        failpoints.point("move.copied")
        with app_locked(registry, app):
            if registry.database(database.id) != database:
                settle_move(registry, app, database.id, clock())
                return None
            inbox.leave(
                registry.home.inbox, app.id
            )  # the process that takes it waits for this lock, and finds the rest
            for item in items[:-1]:
                _switch(old, new, item, clock())
            moves.set_switching(registry, database, moves.FENCED)
            failpoints.point("move.intended")
            begun = time.monotonic()
            late = _switch(old, new, items[-1], clock())
            failpoints.point("move.placed")
            with registry.change():
                moves.set_moved(registry, database, moved=True)
                moves.set_switching(registry, database, moves.MAKING)
                registry.audit_database(clock(), "database.move", database, new.location)
            paused = time.monotonic() - begun
            failpoints.point("move.flipped")
    except BaseException:
        with app_locked(registry, app):
            settle_move(registry, app, database.id, clock())
        raise
    settle_move(registry, app, database.id, clock())
    with app_locked(registry, app):
        settle_owners(registry, app)
    failpoints.point("move.put-away")
    return Moved(database.name, entries, late, paused)


def _copy(old: Instance, new: Instance, item: Source, heard: bulk_copy.Heard) -> int:
    source, target = end_of(old), end_of(new)
    target.make(new, item)
    with source.original(old, item) as original, target.copy(new, item) as copy:
        return bulk_copy.copy(original, copy, heard)


def _switch(old: Instance, new: Instance, item: Source, now: int) -> int:
    source, target = end_of(old), end_of(new)
    source.fence(old, item)
    failpoints.point("move.fenced")
    with source.original(old, item) as original, target.copy(new, item) as copy:
        late = bulk_copy.settle(original, copy, now)
    failpoints.point("move.settled")
    target.put_in_place(new, item)
    return late


def owners(registry: Registry, database_ids: Sequence[DatabaseId]) -> list[tuple[App, DatabaseId]]:
    """Each database's id with its app, registered or not."""
    apps = {app.id: app for app in registry.apps(removed=True)}
    found = []
    for database_id in database_ids:
        database = registry.database(database_id)
        assert database is not None  # noqa: S101 - rows of databases are never deleted
        found.append((apps[registry.timeline(database.timeline_id).app_id], database_id))
    return found
