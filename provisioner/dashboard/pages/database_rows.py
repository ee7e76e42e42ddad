"""Databases as rows of a page: a hundred at a time, each in its current state on its instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from provisioner.core.ids import AppId, DatabaseId, InstanceId
from provisioner.core.model import Database, Timeline
from provisioner.dashboard.pages.states import StatusLabel, state_of
from provisioner.dashboard.web.context import PageContext
from provisioner.operations import documents
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry import queries
from provisioner.registry.store import Registry

AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Use:
    """A shared database that a timeline uses instead of one that belongs to it."""

    owner: Timeline
    database: Database
    since: int


@dataclass(frozen=True, slots=True)
class DatabaseRow:
    """`document` is its document in `provisioner database list --json`; `expires_at` in milliseconds since 1970."""

    app: str
    timeline: Timeline
    database: Database
    document: documents.Document
    expires_at: int | None
    state: StatusLabel
    use: Use | None
    users: list[Timeline]
    """The other timelines that use it."""

    @property
    def away(self) -> bool:
        """Whether no program may connect to this row's database."""
        return not self.database.live and self.use is None


@dataclass(frozen=True, slots=True)
class DatabasePage:
    """`skip` of each neighboring page; None if there is none."""

    rows: list[DatabaseRow]
    text: str
    before: int | None
    after: int | None


def rows(visit: PageContext, *, app_id: AppId | None = None, instance_id: InstanceId | None = None) -> DatabasePage:
    """The rows that the page's query selects: `q` is part of the branch's name, `skip` are omitted in front."""
    registry, text = visit.registry, visit.query("q")[:200]
    skip = int(visit.query("skip")) if visit.query("skip").isdecimal() and len(visit.query("skip")) < 9 else 0
    found = registry.listed(app_id=app_id, instance_id=instance_id, text=text, skip=skip, most=AT_ONCE + 1)
    apps = {app.id: app for app in registry.apps()}
    reaches: dict[str, documents.Reach] = {}
    sharing = _Shares(registry, [(timeline, database) for _, timeline, database in found[:AT_ONCE]])
    made = []
    for slug, timeline, database in found[:AT_ONCE]:
        app = apps.get(timeline.app_id)
        reach = reaches.get(timeline.app_id)
        if reach is None:
            reach = reaches[timeline.app_id] = documents.Reach(registry, timeline.app_id)
        document = documents.document(database, reach)
        over = expires_at(app, timeline) if app is not None and timeline.gone_at is None else None
        use, users = sharing.use(timeline, database), sharing.users(database)
        state = state_of(app, timeline, database, use.database if use is not None else None)
        made.append(DatabaseRow(slug, timeline, database, document, over, state, use, users))
    return DatabasePage(
        made,
        text,
        max(0, skip - AT_ONCE) if skip else None,
        skip + AT_ONCE if len(found) > AT_ONCE else None,
    )


def use_of(registry: Registry, timeline: Timeline, database: Database) -> Use | None:
    """The database that the timeline uses instead of this one."""
    return _Shares(registry, [(timeline, database)]).use(timeline, database)


class _Shares:
    """Which of these databases other timelines use, and what their own timelines use instead: read once."""

    def __init__(self, registry: Registry, rows: Sequence[tuple[Timeline, Database]]) -> None:
        self._registry = registry
        used = queries.shares_of_all(registry, {timeline.id for timeline, _ in rows})
        self._by_place = {(share.timeline_id, share.instance_id): share for share in used}
        self._shares = queries.shares_in(registry, {database.id for _, database in rows})

    def use(self, timeline: Timeline, database: Database) -> Use | None:
        """What is used instead of this one, which was archived for it."""
        share = self._by_place.get((timeline.id, database.instance_id))
        if share is None or database.live or database.purge_at is not None:
            return None
        used = self._registry.database(share.database_id)
        return None if used is None else Use(self._registry.timeline(used.timeline_id), used, share.created_at)

    def users(self, database: Database) -> list[Timeline]:
        return [self._registry.timeline(each.timeline_id) for each in self._shares if each.database_id == database.id]


def database_of(registry: Registry, database_id: DatabaseId) -> Database | None:
    """A database by its id, as long as it is not purged."""
    found = registry.database(database_id)
    return found if found is not None and found.status != "purged" else None
