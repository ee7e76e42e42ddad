"""Where the database with an id is, and how it is: what the server asks before it opens one."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.model import Intent, Status
from provisioner.registry.store import Registry


@dataclass(frozen=True, slots=True)
class Place:
    """`location` is the instance's. `archived_at` in milliseconds since 1970, None where it is not archived."""

    name: str
    engine: str
    location: str
    status: Status
    intent: Intent | None
    error: str | None
    archived_at: int | None


def place_of(registry: Registry, database_id: str) -> Place | None:
    """None where the registry never had such a database."""
    rows = registry.rows(
        "select database.name, engine, location, status, intent, error, archived_at from database"
        " join instance on instance.id = instance_id where database.id = ?",
        database_id,
    )
    if not rows:
        return None
    name, engine, location, status, intent, error, archived_at = rows[0]
    return Place(
        str(name),
        str(engine),
        str(location),
        Status(str(status)),
        Intent(str(intent)) if intent else None,
        None if error is None else str(error),
        None if archived_at is None else int(str(archived_at)),
    )
