"""Instances in the registry: what is changed of them, what is on them, and those that were deleted."""

from __future__ import annotations

from provisioner.model import Database, Instance
from provisioner.registry.store import Registry


def databases_of(registry: Registry, instance_id: str) -> list[Database]:
    """The databases on an instance that still have, or are to have, data; of every app, registered or not."""
    rows = registry.rows(
        "select id from database where instance_id = ? and status <> 'purged' order by rowid", instance_id
    )
    found = (registry.database(str(row[0])) for row in rows)
    return [database for database in found if database is not None]


def save_instance(registry: Registry, instance: Instance, now: int, detail: str) -> None:
    """Change the name or the place of an instance."""
    with registry.change():
        registry.write(
            "update instance set slug = ?, location = ? where id = ?", instance.slug, instance.location, instance.id
        )
        registry.record(now, "instance.edit", "user", detail=detail)
