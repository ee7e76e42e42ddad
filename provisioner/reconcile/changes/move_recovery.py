"""Databases of an interrupted move: released at the old location, or archived there."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId
from provisioner.core.model import App
from provisioner.engines.protocol.engine import Source
from provisioner.engines.protocol.move import end_of
from provisioner.reconcile.apply.isolation import problem_of
from provisioner.reconcile.apply.locks import database_if_free
from provisioner.registry import moves
from provisioner.registry.snapshots import snapshots
from provisioner.registry.store import Registry


def settle_moves(registry: Registry, app: App, now: int) -> list[str]:
    """Finish or undo the steps of an ended process. Returns the failures. The caller holds the app's lock."""
    problems = []
    for database in moves.on_their_way(registry, app.id):
        with database_if_free(registry, database.id) as free:
            if free and (why := problem_of(partial(_settle_if_possible, registry, app, database.id, now))):
                problems.append(f"database {database.name}, which was being moved: {why}")
    return problems


def _settle_if_possible(registry: Registry, app: App, database_id: DatabaseId, now: int) -> None:
    with suppress(StorageFailed):  # it stays on its way, which exec and status tell, until this goes well
        settle_move(registry, app, database_id, now)


def settle_move(registry: Registry, app: App, database_id: DatabaseId, now: int) -> None:
    """The same of one database, whose lock the caller holds, too. Raises StorageFailed."""
    for database in moves.on_their_way(registry, app.id):
        if database.id != database_id:
            continue
        instance = registry.instance_of(database.instance_id)
        if instance.move is None:  # both ends are then one location, whose data must stay
            raise StorageFailed(
                f"database {database.name} is marked as being moved, but instance {instance.slug} is not"
            )
        old, new = instance.storage(moved=False), instance.storage(moved=True)
        if database.moved:
            end_of(old).put_away(old, database)
            moves.set_switching(registry, database, 0)
            return
        kept = [each.id for each in snapshots(registry, database.id)]
        end_of(old).unfence(old, database, kept)
        with registry.change():
            moves.set_switching(registry, database, 0)
            registry.audit_database(now, "database.move-undone", database, instance.move.location)
        for snapshot_id in (*kept, None):
            with suppress(StorageFailed):  # programs continue; the next move starts with this
                end_of(new).discard(new, Source(database, snapshot_id))
