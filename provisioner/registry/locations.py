"""The location and state of a database by its id, which the server looks up before it opens the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from provisioner.core.connection import Location, parse_location
from provisioner.core.ids import DatabaseId, InstanceId
from provisioner.core.model import DatabaseState, Hold, Intent, Status
from provisioner.registry.errors import member
from provisioner.registry.schema.rows import possible_state
from provisioner.registry.store import Registry
from provisioner.system import secret_key
from provisioner.system.home import Home

_NO_INSTANCE = InstanceId("")


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """`location` and `url` are its storage's; `home` the path of the home whose registry this is in, and `key` what is
    another whenever that has a new key.
    `switching`: no program can use it for a moment, because it is being moved."""

    name: str
    engine: str
    location: Location
    state: DatabaseState
    instance_id: InstanceId = _NO_INSTANCE
    url: str = field(default="", repr=False)
    home: str = ""
    key: tuple[int, int] | None = None
    require_quorum: int = 0
    switching: bool = False

    def same_storage(self, other: DatabaseLocation) -> bool:
        """Does what opened the data of the one still open that of the other?"""
        return (self.location, self.url, self.key) == (other.location, other.url, other.key)


def place_of(registry: Registry, database_id: DatabaseId) -> DatabaseLocation | None:
    """None where the registry never had such a database."""
    return places_of(registry, [database_id]).get(database_id)


def places_of(registry: Registry, database_ids: Iterable[DatabaseId]) -> dict[DatabaseId, DatabaseLocation]:
    """Those of these that the registry has ever had, by their ids; a thousand take some milliseconds."""
    key = secret_key.mark(registry.home)
    rows = registry.named(
        "select database.id, database.name, engine, iif(moved, move.location, instance.location) as location, status,"
        " intent, error, attempts, retry_at, hold, archived_at, database.purge_at, instance.id as instance_id,"
        " iif(moved, move.url, instance.url) as url,"
        " iif(moved, move.require_quorum, instance.require_quorum) as require_quorum, switching = 2 as switching"
        " from json_each(?) as wanted join database on database.id = wanted.value"
        " join instance on instance.id = database.instance_id"
        " left join instance_move move on move.instance_id = instance.id",
        json.dumps(list(database_ids)),
    )
    return {row["id"]: _location(registry.home, key, row) for row in rows}


def _location(home: Home, key: tuple[int, int] | None, row: sqlite3.Row) -> DatabaseLocation:
    return DatabaseLocation(
        name=row["name"],
        engine=row["engine"],
        location=parse_location(home.absolute(row["location"])),
        state=possible_state(
            row["id"],
            member(Status, row["status"]),
            member(Intent, row["intent"]) if row["intent"] else None,
            *(row["error"], row["attempts"], row["retry_at"]),
            member(Hold, row["hold"]) if row["hold"] else None,
            *(row["archived_at"], row["purge_at"]),
        ),
        instance_id=row["instance_id"],
        url=row["url"],
        home=home.path,
        key=key,
        require_quorum=row["require_quorum"],
        switching=bool(row["switching"]),
    )
