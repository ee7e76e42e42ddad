"""Snapshots, and data that is to take the place of other data, in the registry."""

from __future__ import annotations

import json
from collections.abc import Iterable

from provisioner.core.ids import AppId, DatabaseId, TimelineId
from provisioner.core.model import Replacement, Snapshot, SnapshotState
from provisioner.registry.schema.row_type import RowType, one_of
from provisioner.registry.tables.connection import Tables, printable

SNAPSHOT = RowType(
    Snapshot,
    "snapshot",
    (
        *("id", "database_id", "label", "cause", "revision", "state", "version", "size", "created_at", "deleted_at"),
        "set_id",
    ),
    parse={"state": one_of(SnapshotState)},
    stored={"label": printable},
)
REPLACEMENT = RowType(
    Replacement,
    "replacement",
    (
        *("database_id", "action", "detail", "kept_as", "ready", "forked_from", "forked_at", "fork_version"),
        *("begun_at", "set_id", "deploy"),
    ),
    parse={"ready": bool, "deploy": bool},
)


def snapshots(registry: Tables, database_id: DatabaseId) -> list[Snapshot]:
    """Those of a database that can be restored, the newest first."""
    rows = registry.rows(
        f"select {SNAPSHOT.select} from snapshot where database_id = ? and state = 'kept' order by rowid desc",
        database_id,
    )
    return [SNAPSHOT.read(row) for row in rows]


def find_snapshots(registry: Tables, beginning: str) -> list[Snapshot]:
    """The snapshots that can be restored whose id begins so."""
    rows = registry.rows(
        f"select {SNAPSHOT.select} from snapshot where state = 'kept'"
        " and id >= ?1 and id < ?1 || '~' and substr(id, 1, length(?1)) = ?1",
        beginning,
    )
    return [SNAPSHOT.read(row) for row in rows]


def at_revision(registry: Tables, app_id: AppId, revision: str) -> list[Snapshot]:
    """The snapshots that were taken when a timeline of the app left this revision, the first database's first."""
    rows = registry.rows(
        f"select {SNAPSHOT.select} from snapshot cross join database on database.id = database_id cross join timeline"
        " on timeline.id = timeline_id where snapshot.revision = ? and cause = 'revision' and state = 'kept'"
        " and app_id = ? and status <> 'purged' order by database.rowid, snapshot.rowid desc",
        *(revision, app_id),
    )
    return [SNAPSHOT.read(row) for row in rows]


def taken_with(registry: Tables, snapshot: Snapshot) -> list[Snapshot]:
    """The snapshots that can be restored and were taken by the same command, this one among them."""
    if not snapshot.set_id:
        return [snapshot]
    rows = registry.rows(f"select {SNAPSHOT.select} from snapshot where set_id = ? and state = 'kept'", snapshot.set_id)
    return [SNAPSHOT.read(row) for row in rows]


def unfinished_snapshots(registry: Tables, app_id: AppId) -> list[Snapshot]:
    """Those of an app's databases that are being made or deleted."""
    rows = registry.rows(
        f"select {SNAPSHOT.select} from snapshot cross join database on database.id = database_id cross join timeline"
        " on timeline.id = timeline_id where state in ('making', 'deleting') and app_id = ?",
        app_id,
    )
    return [SNAPSHOT.read(row) for row in rows]


def save_snapshot(registry: Tables, snapshot: Snapshot) -> None:
    registry.write(SNAPSHOT.upsert(("state", "version", "size", "deleted_at")), *SNAPSHOT.values(snapshot))


def forget_snapshot(registry: Tables, snapshot: Snapshot) -> None:
    """It was never made."""
    registry.write("delete from snapshot where id = ?", snapshot.id)


def end_snapshots(registry: Tables, database_ids: list[DatabaseId], now: int) -> None:
    """The databases were permanently deleted, and their snapshots with them."""
    registry.write_all(
        "update snapshot set state = 'deleted', deleted_at = ifnull(deleted_at, ?)"
        " where database_id = ? and state <> 'deleted'",
        [(now, database_id) for database_id in database_ids],
    )


def replacements(registry: Tables, app_id: AppId) -> list[Replacement]:
    """The unfinished replacements of an app's databases."""
    rows = registry.rows(
        f"select {REPLACEMENT.select} from replacement cross join database on database.id = database_id"
        " cross join timeline on timeline.id = timeline_id where app_id = ?",
        app_id,
    )
    return [REPLACEMENT.read(row) for row in rows]


def save_replacement(registry: Tables, replacement: Replacement) -> None:
    changed = REPLACEMENT.all_but("database_id")
    registry.write(REPLACEMENT.upsert(changed, key="database_id"), *REPLACEMENT.values(replacement))


def replacements_of(registry: Tables, database_ids: Iterable[DatabaseId]) -> list[Replacement]:
    """The unfinished replacements of these databases."""
    rows = registry.rows(
        f"select {REPLACEMENT.select} from replacement where database_id in (select value from json_each(?))",
        json.dumps(list(database_ids)),
    )
    return [REPLACEMENT.read(row) for row in rows]


def mark_changed(registry: Tables, database_id: DatabaseId, *, deploy: bool) -> None:
    """The database holds other data now: what has run on its old data does not count, and with `deploy` the timeline's
    pre-deploy command is run again."""
    with registry.change():
        registry.write("update database set replaced = replaced + 1 where id = ?", database_id)
        if deploy:
            registry.write(
                "update timeline set deployed = '', failure = null"
                " where id = (select timeline_id from database where id = ?)",
                database_id,
            )


def replaced_counts(registry: Tables, timeline_id: TimelineId) -> dict[DatabaseId, int]:
    """How often the data of each of a timeline's databases was replaced, by their ids."""
    rows = registry.rows("select id, replaced from database where timeline_id = ? and status <> 'purged'", timeline_id)
    return {DatabaseId(str(database_id)): int(str(count)) for database_id, count in rows}


def end_replacement(registry: Tables, replacement: Replacement) -> None:
    registry.write("delete from replacement where database_id = ?", replacement.database_id)
