"""The registry: the only writer of rows. Every change and its audit event are one durable transaction."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from provisioner.core.ids import AppId, DatabaseId, InstanceId, TimelineId
from provisioner.core.model import (
    App,
    Database,
    Status,
    Timeline,
    detached,
)
from provisioner.registry.errors import member
from provisioner.registry.schema.rows import APP, DATABASE, TIMELINE
from provisioner.registry.tables.assignments import Assignments


class Registry(Assignments):
    """The organization's instances, apps, assignments, timelines and databases."""

    # apps

    def audit(
        self,
        at: int,
        action: str,
        timeline: Timeline,
        database_id: DatabaseId | None = None,
        detail: str = "",
        *,
        cause: str | None = None,
    ) -> None:
        """Record what was done on a timeline, or to a database on it. Without a `cause`, `who` is."""
        name = os.fsdecode(timeline.name)
        self.record(
            *(at, action, cause or self.who),
            app_id=timeline.app_id,
            timeline=name,
            database_id=database_id,
            detail=detail,
        )

    def audit_database(
        self, at: int, action: str, database: Database, detail: str = "", *, cause: str | None = None
    ) -> None:
        """The same for a database, whose timeline is looked up."""
        self.audit(at, action, self.timeline(database.timeline_id), database.id, detail, cause=cause)

    def apps(self, *, removed: bool = False) -> list[App]:
        """Those that are registered; with `removed` also those that were."""
        rows = self.rows(f"select {APP.select} from app where ? or removed_at is null order by slug", removed)
        return [APP.read(row) for row in rows]

    def app(self, app_id: AppId) -> App | None:
        rows = self.rows(f"select {APP.select} from app where id = ? and removed_at is null", app_id)
        return APP.read(rows[0]) if rows else None

    def app_called(self, slug: str) -> App | None:
        rows = self.rows(f"select {APP.select} from app where slug = ? and removed_at is null", slug)
        return APP.read(rows[0]) if rows else None

    def save_app(self, app: App, now: int) -> App:
        """Add an app, change it, or bring back one that was removed with the same repository (it keeps its id)."""
        with self.change():
            known = self.rows("select id from app where git_dir in (?, ?)", app.git_dir, detached(app.git_dir))
            app_id = AppId(str(known[0][0])) if known else app.id
            self.write(
                APP.upsert(APP.all_but("id", "created_at"), "removed_at = null"), *APP.values(replace(app, id=app_id))
            )
            # the production timeline is the one whose branch is the production branch: it keeps its data
            self.write("update timeline set branch = ? where app_id = ? and production", app.production, app_id)
            self.record(now, "app.set" if known else "app.add", self.who, app_id=app_id, detail=app.slug)
        saved = self.app(app_id)
        assert saved is not None  # noqa: S101
        return saved

    def exchange_places(self, app: App, other: App, now: int) -> App:
        """Save an app, whose repository is where that of another one was, and the other way round."""
        before = self.app(app.id)
        assert before is not None  # noqa: S101
        with self.change():
            self.write("update app set git_dir = ? where id = ?", b"exchanging:" + other.git_dir, other.id)
            saved = self.save_app(app, now)
            self.write("update app set git_dir = ? where id = ?", before.git_dir, other.id)
            self.record(now, "app.set", self.who, app_id=other.id, detail=other.slug)
        return saved

    def forget_place(self, app: App) -> None:
        """Another repository is where that of an app was which was removed."""
        self.write("update app set git_dir = ? where id = ?", b"removed:" + app.id.encode(), app.id)

    def remove_app(self, app: App, now: int) -> None:
        with self.change():
            self.write("update app set removed_at = ? where id = ?", now, app.id)
            self.record(now, "app.remove", self.who, app_id=app.id, detail=app.slug)

    # timelines and databases

    def timelines(self, app_id: AppId) -> list[Timeline]:
        return self.timelines_where("app_id = ?", app_id)

    def timelines_where(self, condition: str, *values: object) -> list[Timeline]:
        """The timelines, of any app, for which a condition in SQL holds."""
        rows = self.rows(f"select {TIMELINE.select} from timeline where {condition}", *values)
        return [TIMELINE.read(row) for row in rows]

    def databases_where(self, condition: str, *values: object) -> list[Database]:
        """The databases, of any app, for which a condition in SQL holds."""
        rows = self.rows(f"select {DATABASE.select} from database where {condition}", *values)
        return [DATABASE.read(row) for row in rows]

    def timeline(self, timeline_id: TimelineId) -> Timeline:
        """The timeline with this id; their rows are never deleted."""
        return self.timelines_where("id = ?", timeline_id)[0]

    def databases(self, app_id: AppId) -> list[Database]:
        """The app's databases that still have, or are to have, data."""
        rows = self.rows(
            f"select {DATABASE.select} from database join timeline on timeline.id = timeline_id"
            " where app_id = ? and status <> 'purged' order by +database.rowid",  # +: by the app's index, then sorted
            app_id,
        )
        return [DATABASE.read(row) for row in rows]

    def listed(
        self,
        *,
        app_id: AppId | None = None,
        instance_id: InstanceId | None = None,
        text: str = "",
        skip: int = 0,
        most: int = 100,
    ) -> list[tuple[str, Timeline, Database]]:
        """Of the databases that have, or are to have, data, those of an app or an instance whose branch has `text` in its
        name: each with its app's slug and its timeline. By app, production first, live ones before archived ones."""
        rows = self.rows(
            f"select app.slug, {TIMELINE.select}, {DATABASE.select}"
            " from database"
            " join timeline on timeline.id = timeline_id join app on app.id = app_id where status <> 'purged'"
            " and (?1 is null or app_id = ?1) and (?2 is null or instance_id = ?2)"
            " and (?3 = '' or instr(lower(cast(timeline.branch as text)), lower(?3)))"
            " order by app.slug, not timeline.production, status = 'archived' and not exists (select 1 from share"
            " where share.timeline_id = timeline.id and share.instance_id = database.instance_id),"
            " timeline.branch, database.rowid"
            " limit ?4 offset ?5",
            *(app_id, instance_id, text, most, skip),
        )
        split = TIMELINE.width
        return [(str(slug), TIMELINE.read(found[:split]), DATABASE.read(found[split:])) for slug, *found in rows]

    def counted(self) -> list[tuple[InstanceId, AppId, Status, int]]:
        """How many databases each pair of instance and app, by their ids, has of each status."""
        rows = self.rows(
            "select instance_id, app_id, status, count(*) from database join timeline on timeline.id = timeline_id"
            " group by instance_id, app_id, status"
        )
        return [
            (InstanceId(str(instance_id)), AppId(str(app_id)), member(Status, status), int(str(count)))
            for instance_id, app_id, status, count in rows
        ]

    def under_way(self, most: int) -> list[Database]:
        """Databases that something is done with, is to be done with, or has failed; at most so many."""
        return self.databases_where(
            "status <> 'purged' and (status in ('provisioning', 'error') or intent is not null) limit ?",
            most,
        )

    def databases_aside(self, app_id: AppId) -> list[Database]:
        """The app's databases that are to become scrubbed copies."""
        rows = self.rows(
            f"select {DATABASE.select} from database cross join timeline on timeline.id = timeline_id"
            " where app_id = ? and intent = 'scrub' and status <> 'archived'",
            app_id,
        )
        return [DATABASE.read(row) for row in rows]

    def database(self, database_id: DatabaseId) -> Database | None:
        """A database, whatever became of it."""
        return next(iter(self.databases_where("id = ?", database_id)), None)

    def statuses(self, app_id: AppId, branch: bytes) -> list[tuple[Timeline, Status | None, str, str | None]]:
        """A branch's timelines, each with the status, name and error of the databases it has or shares; status None where
        there are none."""
        rows = self.rows(
            f"select {TIMELINE.select}, status, name, error from timeline left join database"
            " on timeline_id = timeline.id and status <> 'purged'"
            " or database.id in (select database_id from share where timeline_id = timeline.id)"
            " where app_id = ? and branch = ? and not preview",
            app_id,
            branch,
        )
        return [
            (TIMELINE.read(found), member(Status, status) if status else None, name, error)  # type: ignore[misc]
            for *found, status, name, error in rows
        ]

    def database_ids(self, instance_id: InstanceId) -> set[DatabaseId]:
        """The ids of all databases that an instance has or ever had."""
        return {
            DatabaseId(str(row[0])) for row in self.rows("select id from database where instance_id = ?", instance_id)
        }

    def live_databases(self) -> dict[InstanceId, int]:
        """How many live databases each instance has, by its id; only instances that have any."""
        rows = self.rows(
            "select instance_id, count(*) from database where status not in ('archived', 'purged') group by instance_id"
        )
        return {InstanceId(str(instance_id)): int(str(count)) for instance_id, count in rows}

    def save_timelines(self, timelines: Iterable[Timeline]) -> None:
        kept = ("id", "app_id", "production", "created_at", "preview")
        self.write_all(TIMELINE.upsert(TIMELINE.all_but(*kept)), map(TIMELINE.values, timelines))

    def give_up_places(self, database_ids: Iterable[DatabaseId]) -> None:
        """Mark these databases as purged, so that others can take their names and places. The caller saves them again in
        the same transaction."""
        self.write_all("update database set status = 'purged' where id = ?", ((each,) for each in database_ids))

    def save_databases(self, databases: Iterable[Database]) -> None:
        kept = (
            *("id", "instance_id", "created_at", "forked_snapshot", "token_generation"),
            *("moved", "renewals", "renewed"),
        )
        waits = "waits_from = iif(purge_at is excluded.purge_at, waits_from, null)"
        self.write_all(DATABASE.upsert(DATABASE.all_but(*kept), waits), map(DATABASE.values, databases))
