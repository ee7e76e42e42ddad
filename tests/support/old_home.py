"""Homes as older versions left them, and what of a home must stay as it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from provisioner.registry.schema.migrations import MIGRATIONS


def back_to_version_2(registry: Path) -> None:
    """As the version before access tokens would have left it."""
    with closing(sqlite3.connect(registry)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    newer = registry.rename(registry.with_name("newer.db"))
    with closing(sqlite3.connect(registry)) as connection:
        connection.execute("pragma journal_mode = wal")
        for _, script in MIGRATIONS[:2]:
            connection.executescript(script)
        connection.execute("attach ? as newer", (str(newer),))
        made: str = connection.execute(
            "select sql from newer.sqlite_schema where name = '_sqlite_migrations'"
        ).fetchone()[0]
        connection.execute(made)
        for (table,) in connection.execute("select name from main.sqlite_schema where type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in connection.execute(f"pragma main.table_info({table})"))
            connection.execute(f"insert into main.{table} ({columns}) select {columns} from newer.{table}")
        for name, _ in MIGRATIONS[2:]:
            assert connection.execute("delete from main._sqlite_migrations where name = ?", (name,)).rowcount == 1
        connection.commit()
        connection.execute("pragma user_version = 2")
    newer.unlink()
    registry.chmod(0o600)


def back_to_version_22(registry: Path) -> None:
    """As the version before moves had tables would have left it: with columns of the instance in their place."""
    columns = {
        "moving_location": ("instance_move", "location", "text not null default ''"),
        "moving_url": ("instance_move", "url", "text not null default ''"),
        "moving_quorum": ("instance_move", "require_quorum", "integer not null default 0"),
        "left_location": ("instance_left", "location", "text not null default ''"),
        "left_url": ("instance_left", "url", "text not null default ''"),
    }
    with closing(sqlite3.connect(registry)) as connection:
        for name, (table, column, kind) in columns.items():
            connection.execute(f"alter table instance add column {name} {kind}")
            connection.execute(
                f"update instance set {name} = (select {column} from {table} where instance_id = instance.id)"
                f" where id in (select instance_id from {table})"
            )
        connection.execute("drop table instance_move")
        connection.execute("drop table instance_left")
        for trigger in ("lineage_owner", "generation_owner", "hold_owner"):
            connection.execute(f"drop trigger {trigger}")
        for name in ("domain_archived", "domain_branch_recreated", "domain_app_removed", "domain_orphaned"):
            connection.execute(f"drop trigger {name}")
        connection.execute("drop table custom_domain")
        for name, _ in MIGRATIONS[22:]:
            assert connection.execute("delete from _sqlite_migrations where name = ?", (name,)).rowcount == 1
        connection.commit()
        connection.execute("pragma user_version = 22")


def home_files(home: Path) -> dict[str, tuple[int, bytes]]:
    """All but what SQLite itself makes and removes beside a file, depending on who has that open."""
    return {
        str(path.relative_to(home)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }
