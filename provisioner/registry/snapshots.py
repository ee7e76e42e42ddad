"""Snapshots, and data that is to take the place of other data, in the registry."""

from __future__ import annotations

from operator import attrgetter

from provisioner.core.model import Replacement, Snapshot, SnapshotState
from provisioner.registry.connection import Tables, printable

_SNAPSHOT = "id, database_id, label, cause, revision, state, version, size, created_at, deleted_at"
_REPLACEMENT = "database_id, action, detail, kept_as, ready, forked_from, forked_at, fork_version, begun_at"
_snapshot_values = attrgetter(*_SNAPSHOT.split(", "))
_replacement_values = attrgetter(*_REPLACEMENT.split(", "))


def _snapshot(row: tuple[object, ...]) -> Snapshot:
    return Snapshot(*row[:5], SnapshotState(str(row[5])), *row[6:])  # type: ignore[arg-type, call-arg]


def snapshots(registry: Tables, database_id: str) -> list[Snapshot]:
    """Those of a database that can be restored, the newest first."""
    rows = registry.rows(
        f"select {_SNAPSHOT} from snapshot where database_id = ? and state = 'kept' order by created_at desc, rowid desc",
        database_id,
    )
    return [_snapshot(row) for row in rows]


def find_snapshots(registry: Tables, beginning: str) -> list[Snapshot]:
    """The snapshots that can be restored whose id begins so."""
    rows = registry.rows(
        f"select {_SNAPSHOT} from snapshot where state = 'kept' and substr(id, 1, ?) = ?", len(beginning), beginning
    )
    return [_snapshot(row) for row in rows]


def unfinished_snapshots(registry: Tables, app_id: str) -> list[Snapshot]:
    """Those of an app's databases that are being made or deleted."""
    columns = ", ".join(f"snapshot.{name}" for name in _SNAPSHOT.split(", "))
    rows = registry.rows(
        f"select {columns} from snapshot cross join database on database.id = database_id cross join timeline"
        " on timeline.id = timeline_id where state in ('making', 'deleting') and app_id = ?",
        app_id,
    )
    return [_snapshot(row) for row in rows]


def save_snapshot(registry: Tables, snapshot: Snapshot) -> None:
    registry.write(
        f"insert into snapshot ({_SNAPSHOT}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set"
        " state = excluded.state, version = excluded.version, size = excluded.size, deleted_at = excluded.deleted_at",
        *_snapshot_values(snapshot)[:2],
        printable(snapshot.label),
        *_snapshot_values(snapshot)[3:],
    )


def forget_snapshot(registry: Tables, snapshot: Snapshot) -> None:
    """It was never made."""
    registry.write("delete from snapshot where id = ?", snapshot.id)


def end_snapshots(registry: Tables, database_ids: list[str], now: int) -> None:
    """The databases were deleted for good, and their snapshots with them."""
    registry.write_all(
        "update snapshot set state = 'deleted', deleted_at = ifnull(deleted_at, ?)"
        " where database_id = ? and state <> 'deleted'",
        [(now, database_id) for database_id in database_ids],
    )


def replacements(registry: Tables, app_id: str) -> list[Replacement]:
    """Those of an app's databases that were begun and are not finished."""
    columns = ", ".join(f"replacement.{name}" for name in _REPLACEMENT.split(", "))
    rows = registry.rows(
        f"select {columns} from replacement cross join database on database.id = database_id"
        " cross join timeline on timeline.id = timeline_id where app_id = ?",
        app_id,
    )
    return [Replacement(*row[:4], bool(row[4]), *row[5:]) for row in rows]  # type: ignore[arg-type, call-arg]


def save_replacement(registry: Tables, replacement: Replacement) -> None:
    registry.write(
        f"insert or replace into replacement ({_REPLACEMENT}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *_replacement_values(replacement),
    )


def end_replacement(registry: Tables, replacement: Replacement) -> None:
    registry.write("delete from replacement where database_id = ?", replacement.database_id)
