"""The owners of databases in the registry, and the owner records that are still to be written beside the data.

Triggers set `owner_due` whenever something of it changes, whatever makes the change.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.core.ids import AppId, DatabaseId, InstanceId
from provisioner.core.owner import FORGED, InstanceMark, Owner
from provisioner.registry.schema.row_type import upsert
from provisioner.registry.tables.connection import Tables

CHANGED, NEW = 1, 2
"""What is written beside the data is not true; it is, and may not be on disk yet."""

_OWNERS = """
  select database.owner_was, organization.id as home_id, instance.id as instance_id, instance.slug as instance,
    instance.engine, app.id as app_id, app.slug as app, app.git_dir, timeline.branch, timeline.production,
    timeline.preview, timeline.lineage, database.id as database_id, database.name, database.created_at,
    database.token_generation, ifnull(database.hold, '') = 'orphaned' as orphaned
  from json_each(?) as wanted join database on database.id = wanted.value
  join timeline on timeline.id = timeline_id join app on app.id = app_id
  join instance on instance.id = instance_id join organization
  order by wanted.key
"""
_DUE = """
  select database.id from database join timeline on timeline.id = timeline_id
  where owner_due = {due} and app_id = ? and connected_at is not null and switching = 0 and status <> 'purged'
"""


@dataclass(frozen=True, slots=True)
class RecordedOwner:
    """The owner of a database in the registry, and the timelines that it belonged to at the last owner record."""

    owner: Owner
    past: frozenset[bytes]

    def admits(self, said: Owner) -> bool:
        """May that be written there? Names of apps and instances may be out of date."""
        return said.key == self.owner.key or not self.past.isdisjoint((said.timeline, said.key.encode()))

    def revoked(self, said: Owner) -> bool:
        """Were credentials revoked since, that this registry takes for valid?"""
        return said.generation > self.owner.generation


def known(registry: Tables, database_ids: Sequence[DatabaseId]) -> list[RecordedOwner]:
    """Of the databases with these ids, those that the registry has."""
    rows = registry.named(_OWNERS, json.dumps(list(database_ids)))
    return [RecordedOwner(_owner(row), frozenset(_blob(row["owner_was"]).split(b"\n")) - {b""}) for row in rows]


def owners(registry: Tables, database_ids: Sequence[DatabaseId]) -> list[Owner]:
    return [each.owner for each in known(registry, database_ids)]


def registered(registry: Tables) -> set[DatabaseId]:
    """The ids of all databases that have, or are to have, data."""
    return {DatabaseId(str(row[0])) for row in registry.rows("select id from database where status <> 'purged'")}


def with_data(registry: Tables, instance_id: InstanceId) -> list[DatabaseId]:
    """The ids of an instance's databases that have data."""
    words = "select id from database where instance_id = ? and connected_at is not null and status <> 'purged'"
    return [DatabaseId(str(row[0])) for row in registry.rows(words, instance_id)]


def begin_anew(registry: Tables, said: Owner, now: int) -> None:
    """A database with this owner record was recovered: its record is due again, and injected credentials are invalid.

    The generation is one that no registry has ever come to by counting.
    """
    registry.write(
        "update database set owner_due = ?, owner_was = ?, token_generation = max(token_generation + 1, ?) where id = ?",
        *(CHANGED, said.key.encode(), max(now // 1000, _generation_after(said)), said.database_id),
    )


def _generation_after(said: Owner) -> int:
    """One whose credentials no one has, with room to count on: what is stored is written into the next owner record."""
    if said.generation < FORGED:
        return said.generation + 1
    return FORGED + 1 + secrets.randbelow(FORGED // 2)


def add_alias(registry: Tables, old_id: str, app_id: AppId) -> None:
    """Databases are stored that say that they are of the app `old_id`, which is this one in a registry that was lost."""
    registry.write(upsert("app_alias", ("id", "app_id"), ("app_id",), key="id"), old_id, app_id)


def app_ids(registry: Tables, app_id: AppId) -> list[AppId]:
    """By which ids its databases say whose they are."""
    rows = registry.rows("select id from app_alias where app_id = ?", app_id)
    return [app_id, *(AppId(str(row[0])) for row in rows)]


def due(registry: Tables, app_id: AppId, *, new: bool) -> list[DatabaseId]:
    """The ids of an app's databases beside which it is to be written whose they are: changed ones, or also `new` ones.

    Reads no others.
    """
    kinds = (CHANGED, NEW) if new else (CHANGED,)
    return [DatabaseId(str(row[0])) for kind in kinds for row in registry.rows(_DUE.format(due=kind), app_id)]


def end_due(registry: Tables, database_ids: Sequence[DatabaseId]) -> None:
    """It is written, and on disk."""
    registry.write_all(
        "update database set owner_due = 0, owner_was = null where id = ?", [(each,) for each in database_ids]
    )


def _owner(row: sqlite3.Row) -> Owner:
    return Owner(
        instance=InstanceMark(row["home_id"], row["instance_id"], row["instance"], row["engine"]),
        app_id=row["app_id"],
        app=row["app"],
        repository=_blob(row["git_dir"]),
        branch=_blob(row["branch"]),
        production=bool(row["production"]),
        preview=bool(row["preview"]),
        database_id=row["database_id"],
        name=row["name"],
        created_at=row["created_at"],
        lineage=row["lineage"],
        generation=row["token_generation"],
        orphaned=bool(row["orphaned"]),
    )


def _blob(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""
