"""Instances in the registry: what is changed of them, what is on them, and those that were deleted."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from provisioner.core.ids import DatabaseId, InstanceId
from provisioner.core.model import Database, Instance
from provisioner.registry.schema.rows import INSTANCE
from provisioner.registry.store import Registry
from provisioner.registry.tables.connection import printable


@dataclass(frozen=True, slots=True)
class Deleted:
    """An instance that was deleted at `deleted_at` and can be recovered until `purge_at` (ms) at least. `backup` is a path.
    `waits_from` is the observed time at which that began to be waited for."""

    instance: Instance
    deleted_at: int
    purge_at: int
    backup: str | None
    waits_from: int | None


def held_on(registry: Registry, instance_id: InstanceId, most: int = -1) -> list[DatabaseId]:
    """The databases that have held data on an instance, `most` of them at most."""
    rows = registry.rows(
        "select id from database where instance_id = ? and connected_at is not null and status <> 'purged' limit ?",
        *(instance_id, most),
    )
    return [DatabaseId(str(row[0])) for row in rows]


def databases_of(registry: Registry, instance_id: InstanceId) -> list[Database]:
    """The databases on an instance that still have, or are to have, data; of every app, registered or not."""
    return registry.databases_where("instance_id = ? and status <> 'purged' order by rowid", instance_id)


def save_instance(registry: Registry, instance: Instance, now: int, detail: str) -> None:
    """Change the name, the place or the allowance of an instance. `detail` is for the audit log, and holds no password."""
    with registry.change():
        registry.write(
            "update instance set slug = ?, location = ?, url = ?, require_quorum = ?, connections = ?, temp_bytes = ?,"
            " statement_ms = ?, trusted_extensions = ? where id = ?",
            *(instance.slug, registry.home.recorded(instance.location), instance.url, instance.require_quorum),
            *astuple(instance.allowance),
            instance.id,
        )
        registry.record(now, "instance.edit", registry.who, detail=detail)


def call_broken(registry: Registry, instance: Instance, now: int, why: str, *, moved: bool = False) -> None:
    """No database on an instance stays connected, until the next retry; during a move, only the `moved` ones, or only the
    others."""
    with registry.change():
        registry.write(
            "update database set status = 'error', error = ? where instance_id = ? and status = 'connected' and intent is null"
            " and moved = ?",
            *(printable(why), instance.id, moved),
        )
        registry.record(now, "instance.error", "watch", detail=f"{instance.slug}: {why}")


def retry_now(registry: Registry, instance: Instance) -> None:
    """What failed on an instance is tried again at the next look, however often it has failed."""
    with registry.change():
        registry.write("update database set retry_at = null where instance_id = ? and status = 'error'", instance.id)


def mark_deleted(registry: Registry, instance: Instance, now: int, purge_at: int, backup: str | None) -> None:
    with registry.change():
        registry.write(
            "update instance set deleted_at = ?, purge_at = ?, backup = ?, waits_from = null where id = ?",
            *(now, purge_at, printable(backup and registry.home.recorded(backup)), instance.id),
        )
        registry.record(now, "instance.delete", registry.who, detail=f"{instance.slug}, backup {backup or 'none'}")


def mark_recovered(registry: Registry, instance: Instance, now: int) -> None:
    with registry.change():
        registry.write(
            "update instance set deleted_at = null, purge_at = null, backup = null where id = ?", instance.id
        )
        registry.record(now, "instance.recover", registry.who, detail=instance.slug)


def deleted(registry: Registry) -> list[Deleted]:
    """The instances that were ever deleted, the last one first."""
    rows = registry.named(
        f"select deleted_at, purge_at, backup, waits_from, {INSTANCE} from instance where deleted_at is not null"
        " order by deleted_at desc, rowid desc"
    )
    return [
        Deleted(
            registry.instance(row),
            row["deleted_at"],
            row["purge_at"] or row["deleted_at"],
            registry.home.absolute(row["backup"]) if row["backup"] else None,
            row["waits_from"],
        )
        for row in rows
    ]


def emptied(registry: Registry) -> list[Instance]:
    """The instances that were deleted, have no databases left, and whose locations no other instance uses."""
    rows = registry.named(
        f"select {INSTANCE} from instance where deleted_at is not null and {_NO_DATA.format('instance')}"
        " and not exists (select 1 from instance other where other.id <> instance.id"
        " and (instance.location = other.location"
        " or exists (select 1 from instance_move where instance_id = other.id and location = instance.location)"
        " or exists (select 1 from instance_left where instance_id = other.id and location = instance.location))"
        f" and not (deleted_at is not null and {_NO_DATA.format('other')}))"
    )
    return [registry.instance(row) for row in rows]


_NO_DATA = "not exists (select 1 from database where instance_id = {}.id and status <> 'purged')"


def locations(registry: Registry) -> list[tuple[str, str, str]]:
    """The locations with data of instances, including deleted ones that may be recovered: id, slug, directory or URL.

    Of one that is being moved, and of one whose old place was not forgotten, both places.
    """
    rows = registry.rows(
        "select id, slug, place.location from instance join (select id as instance_id, location from instance"
        " union all select instance_id, location from instance_move"
        " union all select instance_id, location from instance_left) as place on place.instance_id = id"
        " where deleted_at is null"
        " or exists (select 1 from database where database.instance_id = instance.id and status <> 'purged')"
    )
    return [(str(each), str(slug), registry.home.absolute(str(place))) for each, slug, place in rows]
