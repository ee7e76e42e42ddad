"""Queries about one timeline, or a few among many: none of them reads all of an app's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from provisioner.core.ids import AppId, DatabaseId, RunId, TimelineId
from provisioner.core.model import App, Database, Instance, Run, Share, Timeline
from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX, PRODUCTION
from provisioner.registry.runs import runs
from provisioner.registry.store import Registry

SHORTEST_ID = 7
_AT_ONCE = 500  # values in one statement

_T = TypeVar("_T")

# timelines


def timeline_by_id(registry: Registry, timeline_id: TimelineId) -> Timeline | None:
    return _one(registry.timelines_where("id = ?", timeline_id))


def production(registry: Registry, app_id: AppId) -> Timeline | None:
    return _one(registry.timelines_where("app_id = ? and production", app_id))


def timeline_called(registry: Registry, app_id: AppId, name: bytes) -> Timeline | None:
    """The timeline with this name: ``production``, ``git-branch/<branch>`` or ``preview/<revision>``."""
    if name == PRODUCTION:
        return production(registry, app_id)
    if name.startswith(PREVIEW_PREFIX):
        return preview(registry, app_id, name.removeprefix(PREVIEW_PREFIX))
    if not name.startswith(BRANCH_PREFIX):
        return None
    return _one(
        registry.timelines_where(
            "app_id = ? and branch = ? and not production and not preview", app_id, name.removeprefix(BRANCH_PREFIX)
        )
    )


def preview(registry: Registry, app_id: AppId, revision: bytes) -> Timeline | None:
    return _one(registry.timelines_where("app_id = ? and branch = ? and not production and preview", app_id, revision))


def previews_like(registry: Registry, app_id: AppId, beginning: str) -> list[Timeline]:
    """The previews of revisions whose ids begin so."""
    return registry.timelines_where(
        "app_id = ? and not production and preview = 1 and branch >= ? and branch < ?",
        *(app_id, beginning.encode(), beginning.encode() + b"g"),
    )


def timelines_of(registry: Registry, ids: Iterable[TimelineId]) -> list[Timeline]:
    """The timelines with these ids."""
    found = (registry.timelines_where(f"id in ({marks})", *batch) for marks, batch in _batches(ids))
    return [timeline for some in found for timeline in some]


def of_branches(registry: Registry, app_id: AppId, branches: Iterable[bytes]) -> list[Timeline]:
    """The timelines of these branches; production's too, if its branch is one of them."""
    condition = "app_id = ? and branch in ({}) and not preview"
    found = (registry.timelines_where(condition.format(marks), app_id, *batch) for marks, batch in _batches(branches))
    return [timeline for some in found for timeline in some]


def branches_with_data(registry: Registry, app_id: AppId, names: Iterable[bytes] | None = None) -> set[bytes]:
    """The branches of an app that have or use a live database; of those with one of these `names`, if they are given."""
    question = (
        "select branch from timeline where app_id = ?{} and not preview and (exists (select 1 from database"
        " where timeline_id = timeline.id and status not in ('archived', 'purged'))"
        " or exists (select 1 from share where share.timeline_id = timeline.id))"
    )
    if names is None:
        rows = registry.rows(question.format(""), app_id)
    else:
        parts = ((f" and branch in ({marks})", batch) for marks, batch in _batches(names))
        rows = [row for part, batch in parts for row in registry.rows(question.format(part), app_id, *batch)]
    return {bytes(row[0]) for row in rows}  # type: ignore[call-overload]


def previews(registry: Registry, app_id: AppId, skip: int, most: int) -> list[Timeline]:
    """Those that are there, or have data, the latest first."""
    return registry.timelines_where(
        "app_id = ? and not production and preview = 1 and (gone_at is null"
        " or exists (select 1 from database where timeline_id = timeline.id and status <> 'purged'))"
        " order by gone_at is not null, active_at desc limit ? offset ?",
        *(app_id, most, skip),
    )


def timelines_like(registry: Registry, app_id: AppId, text: str, most: int) -> list[Timeline]:
    """Some that are there and have `text` in the name of their branch; production first, then the latest."""
    return registry.timelines_where(
        "app_id = ? and gone_at is null and (? = '' or instr(lower(cast(branch as text)), lower(?)))"
        " order by not production, active_at desc, branch limit ?",
        *(app_id, text, text, most),
    )


def timelines_at(registry: Registry, app_id: AppId, revision: str) -> list[Timeline]:
    """Those with a live database that are at the commit whose id begins so."""
    return registry.timelines_where(
        "app_id = ?1 and revision >= ?2 and revision < ?2 || 'g' and (exists (select 1 from database"
        " where timeline_id = timeline.id and status not in ('archived', 'purged'))"
        " or exists (select 1 from share where timeline_id = timeline.id))",
        *(app_id, revision),
    )


def undeployed(registry: Registry, app_id: AppId) -> list[Timeline]:
    """The timelines on which the pre-deploy command has failed."""
    return registry.timelines_where("app_id = ? and failure is not null order by not production, rowid", app_id)


# databases


def branches_there(registry: Registry, app_id: AppId) -> int:
    """How many branches but production's have a timeline, and are not gone."""
    rows = registry.rows(
        "select count(*) from timeline where app_id = ? and not production and not preview and gone_at is null", app_id
    )
    return int(str(rows[0][0]))


def moved_together(registry: Registry, timeline: Timeline, within_ms: int) -> int:
    """How many timelines of its app moved at about the same time as this one, which is among them: by one push, for example."""
    rows = registry.rows(
        "select count(*) from timeline where app_id = ? and active_at between ? and ? and gone_at is null",
        *(timeline.app_id, timeline.active_at - within_ms, timeline.active_at + within_ms),
    )
    return int(str(rows[0][0]))


def has_room(registry: Registry, app: App, new: int) -> bool:
    """May this number of new branches of an app have databases? The branches are counted only if the registry ever had that many
    timelines, whose rows are never deleted."""
    if not app.max_branches:
        return True
    ever = int(str(registry.rows("select ifnull(max(rowid), 0) from timeline")[0][0]))
    return ever + new <= app.max_branches or branches_there(registry, app.id) + new <= app.max_branches


def databases_of(registry: Registry, timeline: Timeline) -> list[Database]:
    """Its own that have, or are to have, data; live ones first."""
    return registry.databases_where(
        "timeline_id = ? and status <> 'purged' order by status = 'archived', rowid", timeline.id
    )


def databases_of_all(registry: Registry, timeline_ids: Iterable[TimelineId]) -> list[Database]:
    """The databases of the timelines with these ids that have, or are to have, data."""
    condition = "timeline_id in ({}) and status <> 'purged' order by rowid"
    found = (registry.databases_where(condition.format(marks), *batch) for marks, batch in _batches(timeline_ids))
    return [database for some in found for database in some]


def live_databases(registry: Registry, app: App, instance: Instance | None = None) -> list[tuple[Database, Timeline]]:
    """An app's live databases, of all of its instances or of one, with their timelines."""
    live = "status not in ('archived', 'purged')"
    if instance is None:
        found = registry.databases_where(
            f"timeline_id in (select id from timeline where app_id = ?) and {live} order by rowid", app.id
        )
    else:
        found = registry.databases_where(
            f"instance_id = ? and {live} and exists (select 1 from timeline where timeline.id = timeline_id and app_id = ?)"
            " order by rowid",
            *(instance.id, app.id),
        )
    return with_timelines(registry, found)


def with_timelines(registry: Registry, databases: Sequence[Database]) -> list[tuple[Database, Timeline]]:
    """Each database with its timeline."""
    timelines = {item.id: item for item in timelines_of(registry, {item.timeline_id for item in databases})}
    return [(database, timelines[database.timeline_id]) for database in databases]


def databases_by_ids(registry: Registry, ids: Iterable[DatabaseId]) -> list[Database]:
    """The databases with these ids, whatever became of them."""
    found = (registry.databases_where(f"id in ({marks})", *batch) for marks, batch in _batches(ids))
    return [database for some in found for database in some]


def ids_of(registry: Registry, timeline: Timeline) -> frozenset[DatabaseId]:
    """The ids of the databases that belong to it and have data, or will have it."""
    return frozenset(database.id for database in databases_of(registry, timeline))


def databases_called(registry: Registry, name: str, beginning: str) -> list[tuple[App, Database]]:
    """The databases of this name, or whose id has this `beginning`, that have or are to have data, with their apps."""
    if not name.isascii():  # as all names and ids are
        return []
    found = registry.databases_where("name = ? and status <> 'purged' order by rowid", name)
    if len(beginning) >= SHORTEST_ID:
        found += registry.databases_where(
            "id >= ?1 and id < ?1 || '~' and substr(id, 1, length(?1)) = ?1 and name <> ?2 and status <> 'purged'"
            " order by rowid",
            *(beginning, name),
        )
    pairs = ((app_of(registry, database), database) for database in found)
    return [(app, database) for app, database in pairs if app is not None]


def app_of(registry: Registry, database: Database) -> App | None:
    """The app that a database is of; None if it was removed."""
    return registry.app(registry.timeline(database.timeline_id).app_id)


def failed(registry: Registry, app_id: AppId) -> list[Database]:
    """An app's databases that have an error."""
    return registry.databases_where(
        "error is not null and status <> 'purged'"
        " and exists (select 1 from timeline where timeline.id = timeline_id and app_id = ?) order by rowid",
        app_id,
    )


def to_renew(registry: Registry, app_id: AppId) -> list[Database]:
    """An app's connected databases whose server has old logins."""
    return registry.databases_where(
        "renewals <> renewed and status = 'connected' and intent is null"
        " and exists (select 1 from timeline where timeline.id = timeline_id and app_id = ?) order by rowid",
        app_id,
    )


# shares


def shares_of(registry: Registry, timeline: Timeline) -> list[Share]:
    """What a timeline uses of others, the first first."""
    return shares_of_all(registry, [timeline.id])


def shares_of_all(registry: Registry, timeline_ids: Iterable[TimelineId]) -> list[Share]:
    """What the timelines with these ids use of others, the first of each first."""
    return _shares(registry, "timeline_id", timeline_ids)


def _shares(registry: Registry, column: str, values: Iterable[str]) -> list[Share]:
    question = (
        f"select timeline_id, instance_id, database_id, created_at, id from share where {column} in ({{}})"
        " order by created_at, rowid"
    )
    found = (registry.rows(question.format(marks), *batch) for marks, batch in _batches(values))
    return [Share(*row) for some in found for row in some]  # type: ignore[arg-type]


def shares_in(registry: Registry, database_ids: Iterable[DatabaseId]) -> list[Share]:
    """The uses of the databases with these ids by other timelines, the first of each first."""
    return _shares(registry, "database_id", database_ids)


def used_of_others(registry: Registry, timeline: Timeline) -> list[Database]:
    """The databases of other timelines that it uses."""
    found = (registry.database(share.database_id) for share in shares_of(registry, timeline))
    return [database for database in found if database is not None]


def users_of(registry: Registry, database: Database) -> list[Timeline]:
    """The timelines that use this database of another one's."""
    rows = registry.rows("select timeline_id from share where database_id = ? order by created_at, rowid", database.id)
    return [registry.timeline(TimelineId(str(row[0]))) for row in rows]


def run_of(registry: Registry, timeline: Timeline, run_id: RunId) -> Run | None:
    return next((run for run in runs(registry, timeline.id) if run.id == run_id), None)


def _batches(values: Iterable[_T]) -> Iterator[tuple[str, tuple[_T, ...]]]:
    """The values in groups that one statement can have, each with as many question marks."""
    left = iter(values)
    while batch := tuple(islice(left, _AT_ONCE)):
        yield ", ".join("?" * len(batch)), batch


def _one(found: list[Timeline]) -> Timeline | None:
    return found[0] if found else None
