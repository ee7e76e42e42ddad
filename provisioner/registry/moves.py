"""Moves of instances in the registry: where to, which databases are there by now, and which one is on its way."""

from __future__ import annotations

from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import AppId, DatabaseId
from provisioner.core.model import Database, Instance, InstanceMove
from provisioner.registry.schema.row_type import upsert
from provisioner.registry.store import Registry
from provisioner.registry.tables.connection import Tables

MAKING, FENCED = 1, 2
"""The progress of a database in a move: its snapshots may be fenced; no program can use it. In the latter case, the data
at its old location is to be archived if it was `moved`."""
_END = ("location", "url", "require_quorum")


def begin_move(registry: Registry, instance: Instance, target: InstanceMove, now: int) -> None:
    """From here on, new databases are made in the new place."""
    with registry.change():
        _save_move(registry, instance, target)
        registry.record(now, "instance.move", registry.who, detail=f"{instance.slug} to {target.location}")


def turn_back(registry: Registry, instance: Instance, now: int) -> None:
    """Move to where it came from, and from where it was moved to. Nothing is on its way."""
    move = move_of(instance)
    with registry.change():
        _save_location(registry, instance, move)
        _save_move(registry, instance, InstanceMove(instance.location, instance.url, instance.require_quorum))
        registry.write("update database set moved = not moved where instance_id = ?", instance.id)
        registry.record(now, "instance.move-back", registry.who, detail=f"{instance.slug} to {instance.location}")


def end_move(registry: Registry, instance: Instance, now: int) -> None:
    """All of its databases are in the new place, which is its own from here on."""
    move = move_of(instance)
    with registry.change():
        registry.write(
            upsert("instance_left", ("instance_id", "location", "url"), ("location", "url"), key="instance_id"),
            *(instance.id, registry.home.recorded(instance.location), instance.url),
        )
        keep_end(registry, instance, move)
        registry.write("update database set moved = 0 where instance_id = ?", instance.id)
        registry.record(now, "instance.moved", registry.who, detail=f"{instance.slug} in {move.location}")


def keep_end(registry: Registry, instance: Instance, end: InstanceMove) -> None:
    """The instance stores only at this end of its move, which is over."""
    _save_location(registry, instance, end)
    registry.write("delete from instance_move where instance_id = ?", instance.id)


def forget_left(registry: Registry, instance: Instance, now: int) -> None:
    """Nothing is left where it was before."""
    with registry.change():
        drop_left(registry, instance)
        where = instance.left.location if instance.left is not None else ""
        registry.record(now, "instance.move-forget", registry.who, detail=f"{instance.slug} in {where}")


def drop_left(registry: Registry, instance: Instance) -> None:
    registry.write("delete from instance_left where instance_id = ?", instance.id)


def move_of(instance: Instance) -> InstanceMove:
    """The move in progress. Raises ProvisionerError if another process has ended it."""
    if instance.move is None:
        raise ProvisionerError(
            f"{instance.slug} is no longer being moved", f"See: provisioner instance show {instance.slug}"
        )
    return instance.move


def _save_location(registry: Registry, instance: Instance, end: InstanceMove) -> None:
    registry.write(
        "update instance set location = ?, url = ?, require_quorum = ? where id = ?",
        *(registry.home.recorded(end.location), end.url, end.require_quorum, instance.id),
    )


def _save_move(registry: Registry, instance: Instance, move: InstanceMove) -> None:
    registry.write(
        upsert("instance_move", ("instance_id", *_END), _END, key="instance_id"),
        *(instance.id, registry.home.recorded(move.location), move.url, move.require_quorum),
    )


def set_switching(registry: Tables, database: Database, how_far: int) -> None:
    """0: it is not on its way."""
    registry.write("update database set switching = ? where id = ?", how_far, database.id)


def set_moved(registry: Tables, database: Database, *, moved: bool) -> None:
    registry.write("update database set moved = ? where id = ?", moved, database.id)


def on_their_way(registry: Registry, app_id: AppId) -> list[Database]:
    """An app's databases whose move has started and not ended."""
    rows = registry.rows(
        "select database.id from database cross join timeline on timeline.id = timeline_id"
        " where switching and app_id = ?",
        app_id,
    )
    found = (registry.database(DatabaseId(str(row[0]))) for row in rows)
    return [database for database in found if database is not None]


def waiting(registry: Tables, instance: Instance) -> list[DatabaseId]:
    """The ids of the databases that are not in the new place: production's behind the others, on which what goes wrong
    shows first, and what is archived last."""
    rows = registry.rows(
        "select database.id from database join timeline on timeline.id = timeline_id"
        " where instance_id = ? and status <> 'purged' and not moved"
        " order by status = 'archived', production, database.rowid",
        instance.id,
    )
    return [DatabaseId(str(row[0])) for row in rows]


def counted(registry: Tables, instance: Instance) -> tuple[int, int]:
    """How many of its databases are in the new place, of how many."""
    rows = registry.rows(
        "select count(*) filter (where moved), count(*) from database where instance_id = ? and status <> 'purged'",
        instance.id,
    )
    ((there, total),) = rows
    return int(str(there)), int(str(total))


def unended(registry: Tables, instance: Instance) -> int:
    """How many of its databases are on their way, or are not moved."""
    rows = registry.rows(
        "select count(*) from database where instance_id = ? and (switching or not moved and status <> 'purged')",
        instance.id,
    )
    return int(str(rows[0][0]))
