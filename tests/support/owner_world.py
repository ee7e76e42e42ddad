"""Whether what is written beside the data says whose it is, and a registry that is lost or put back."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from provisioner.core.ids import DatabaseId
from provisioner.core.owner import Owner
from provisioner.engines.catalog import engine_of
from provisioner.registry.home import owners
from provisioner.registry.store import Registry
from provisioner.system.home import Home


def said(home: Path) -> dict[DatabaseId, Owner | None]:
    """Whose each database that has data says it is, by its id."""
    with Registry.open(Home(str(home))) as registry:
        found: dict[DatabaseId, Owner | None] = {}
        for row in registry.rows("select id from database where connected_at is not null and status <> 'purged'"):
            database = registry.database(DatabaseId(str(row[0])))
            assert database is not None
            storage = registry.storage_of(database)
            there = engine_of(storage).find(storage, [database.id])
            found[database.id] = there[database.id].owner if there else None
        return found


def must_be_true(home: Path) -> dict[DatabaseId, Owner]:
    """What is written beside each database is what the registry has; and it is found by its timeline."""
    with Registry.open(Home(str(home))) as registry:
        known = {owner.database_id: owner for owner in owners.owners(registry, list(said(home)))}
        assert said(home) == known
        for database_id, owner in known.items():
            database = registry.database(database_id)
            assert database is not None
            if database.live:
                storage = registry.storage_of(database)
                claimed = engine_of(storage).claims(storage, [owner.key])
                assert [item.database_id for item in claimed.values()] == [database_id]
    return known


def lose_registry(home: Path) -> None:
    for path in home.glob("registry.db*"):
        path.unlink()


def keep_registry(home: Path) -> Path:
    """A copy of the registry as it is now, as a backup has it."""
    kept = home.parent / "kept.db"
    with closing(sqlite3.connect(home / "registry.db")) as source, closing(sqlite3.connect(kept)) as target:
        source.backup(target)
    return kept


def put_registry_back(home: Path, kept: Path) -> None:
    lose_registry(home)
    shutil.copy(kept, home / "registry.db")
