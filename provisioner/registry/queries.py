"""What is asked of one timeline, or of a few among many: nothing here reads all of an app's."""

from __future__ import annotations

from provisioner.core.model import Database, Run, Timeline
from provisioner.registry.runs import runs
from provisioner.registry.store import Registry


def timeline_by_id(registry: Registry, timeline_id: str) -> Timeline | None:
    found = registry.rows("select 1 from timeline where id = ?", timeline_id)
    return registry.timeline(timeline_id) if found else None


def databases_of(registry: Registry, timeline: Timeline) -> list[Database]:
    """Its own that have, or are to have, data; live ones first."""
    rows = registry.rows(
        "select id from database where timeline_id = ? and status <> 'purged' order by status = 'archived', rowid",
        timeline.id,
    )
    return _databases(registry, rows)


def used_of_others(registry: Registry, timeline: Timeline) -> list[Database]:
    """The databases of other timelines that it uses."""
    return _databases(
        registry,
        registry.rows("select database_id from share where timeline_id = ? order by created_at, rowid", timeline.id),
    )


def users_of(registry: Registry, database: Database) -> list[Timeline]:
    """The timelines that use this database of another one's."""
    rows = registry.rows("select timeline_id from share where database_id = ? order by created_at, rowid", database.id)
    return [registry.timeline(str(row[0])) for row in rows]


def previews(registry: Registry, app_id: str, skip: int, most: int) -> list[Timeline]:
    """Those that are there, or have data, the latest first."""
    rows = registry.rows(
        "select id from timeline where app_id = ? and not production and preview = 1 and (gone_at is null"
        " or exists (select 1 from database where timeline_id = timeline.id and status <> 'purged'))"
        " order by gone_at is not null, active_at desc limit ? offset ?",
        *(app_id, most, skip),
    )
    return [registry.timeline(str(row[0])) for row in rows]


def timelines_like(registry: Registry, app_id: str, text: str, most: int) -> list[Timeline]:
    """Some that are there and have `text` in the name of their branch; production first, then the latest."""
    rows = registry.rows(
        "select id from timeline where app_id = ? and gone_at is null"
        " and (? = '' or instr(lower(cast(branch as text)), lower(?)))"
        " order by not production, active_at desc, branch limit ?",
        *(app_id, text, text, most),
    )
    return [registry.timeline(str(row[0])) for row in rows]


def run_of(registry: Registry, timeline: Timeline, run_id: str) -> Run | None:
    return next((run for run in runs(registry, timeline.id) if run.id == run_id), None)


def _databases(registry: Registry, rows: list[tuple[object, ...]]) -> list[Database]:
    found = (registry.database(str(row[0])) for row in rows)
    return [database for database in found if database is not None]
