"""The registry: the only writer of rows. Every change and its audit event are one durable transaction."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from provisioner.core.allowance import Allowance
from provisioner.core.connection import Location, parse_location
from provisioner.core.ids import AppId, DatabaseId, InstanceId, TimelineId
from provisioner.core.model import (
    App,
    ConnectMode,
    Database,
    Instance,
    InstanceMove,
    LeftStorage,
    Organization,
    Scrub,
    Status,
    Timeline,
    detached,
)
from provisioner.registry.connection import Tables, printable
from provisioner.registry.errors import member
from provisioner.registry.schema.rows import APP, DATABASE, INSTANCE, LIMITS, PLACES, TIMELINE, instance_values


class Registry(Tables):
    """The organization's instances, apps, assignments, timelines and databases."""

    # organization, instances, apps, assignments

    def organization(self) -> Organization:
        """There is one since the registry was made; its id is the home's."""
        (row,) = self.named("select id, slug from organization")
        return Organization(row["id"], row["slug"])

    def instances(self) -> list[Instance]:
        rows = self.named(f"select {INSTANCE} from instance where deleted_at is null order by created_at, slug")
        return [self.instance(row) for row in rows]

    def instance_called(self, slug: str) -> Instance | None:
        rows = self.named(f"select {INSTANCE} from instance where slug = ? and deleted_at is null", slug)
        return self.instance(rows[0]) if rows else None

    def instance_of(self, instance_id: InstanceId) -> Instance:
        """The instance with this id, deleted or not."""
        return self.instance(self.named(f"select {INSTANCE} from instance where id = ?", instance_id)[0])

    def storage_of(self, database: Database) -> Instance:
        """The database's instance, storing where this database is by now: it may be on its way to another place."""
        rows = self.rows("select moved from database where id = ?", database.id)
        moved = bool(rows[0][0]) if rows else database.moved
        return self.instance_of(database.instance_id).storage(moved=moved)

    def instance(self, row: sqlite3.Row) -> Instance:
        """An instance from a row that has its columns."""
        allowance = Allowance(**{name: row[name] for name in LIMITS})
        found = {name: row[name] for name in PLACES} | {"location": self._location(row["location"])}
        move, left = row["move_location"], row["left_location"]
        return Instance(
            **found,
            home=self.home.path,
            move=InstanceMove(self._location(move), row["move_url"], row["move_require_quorum"]) if move else None,
            left=LeftStorage(self._location(left), row["left_url"]) if left else None,
            allowance=allowance,
        )

    def _location(self, recorded: str) -> Location:
        return parse_location(self.home.absolute(recorded))

    def add_instance(self, instance: Instance) -> None:
        with self.change():
            recorded = parse_location(self.home.recorded(instance.location))
            values = instance_values(replace(instance, location=recorded))
            columns = ", ".join((*PLACES, *LIMITS))
            self.write(f"insert into instance ({columns}) values ({', '.join('?' * len(values))})", *values)
            self.record(instance.created_at, "instance.add", self.who, detail=instance.slug)

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

    def assigned(self, app_id: AppId) -> list[Instance]:
        """The app's instances, the first assigned first."""
        rows = self.named(
            f"select {INSTANCE} from assignment join instance"
            " on instance.id = instance_id where app_id = ? and removed_at is null and deleted_at is null"
            " order by assignment.id",
            app_id,
        )
        return [self.instance(row) for row in rows]

    def first_assigned(self, app_id: AppId) -> InstanceId:
        """The id of the instance that the app was assigned first, whether it still is or not; empty where it had none."""
        rows = self.rows("select instance_id from assignment where app_id = ? order by id limit 1", app_id)
        return InstanceId(str(rows[0][0]) if rows else "")

    def assignments(self) -> list[tuple[str, str]]:
        """Pairs of instance slug and app slug that are in force."""
        rows = self.rows(
            "select instance.slug, app.slug from assignment join instance on instance.id = instance_id"
            " join app on app.id = app_id where assignment.removed_at is null and app.removed_at is null"
            " and deleted_at is null order by assignment.id"
        )
        return [(str(a), str(b)) for a, b in rows]

    def connect_modes(self, app_id: AppId) -> dict[InstanceId, ConnectMode]:
        """How the databases of each of the app's instances, by its id, are connected to."""
        rows = self.rows("select instance_id, connect from assignment where app_id = ? and removed_at is null", app_id)
        return {InstanceId(str(instance_id)): member(ConnectMode, mode) for instance_id, mode in rows}

    def new_branches(self, app_id: AppId) -> dict[InstanceId, str]:
        """What the database of a new branch starts from on each of the app's instances, by its id: ``empty``,
        ``fork:production``, ``fork:parent`` or ``fork:<branch>``."""
        rows = self.rows(
            "select instance_id, new_branch from assignment where app_id = ? and removed_at is null", app_id
        )
        return {InstanceId(str(instance_id)): str(new_branch) for instance_id, new_branch in rows}

    def scrubs(self, app_id: AppId) -> dict[InstanceId, Scrub]:
        """The scrub commands for copies on the app's instances, by their ids; only instances that have one."""
        rows = self.rows(
            "select instance_id, scrub, scrub_ms from assignment"
            " where app_id = ? and removed_at is null and scrub <> ''",
            app_id,
        )
        return {InstanceId(str(each)): Scrub(str(command), int(str(limit))) for each, command, limit in rows}

    def assign(
        self,
        instance: Instance,
        app: App,
        now: int,
        mode: ConnectMode | None = None,
        new_branch: str | None = None,
        *,
        scrub: str | None = None,
        scrub_ms: int | None = None,
    ) -> None:
        """Assign it, or change how its databases are connected to, what new branches start from, and the scrub command of
        copies. None keeps a setting (at first ``auto``, ``empty``, and none with ten minutes)."""
        with self.change():
            self.write(
                "insert into assignment (app_id, instance_id, created_at, connect, new_branch, scrub, scrub_ms)"
                " values (?1, ?2, ?3, ifnull(?4, 'auto'), ifnull(?5, 'empty'), ifnull(?6, ''), ifnull(?7, 600000))"
                " on conflict (app_id, instance_id) do update set removed_at = null, connect = ifnull(?4, connect),"
                " new_branch = ifnull(?5, new_branch), scrub = ifnull(?6, scrub), scrub_ms = ifnull(?7, scrub_ms)",
                app.id,
                instance.id,
                now,
                mode,
                None if new_branch is None else printable(new_branch),
                None if scrub is None else printable(scrub),
                scrub_ms,
            )
            said = (("connect", mode), ("new-branch", new_branch), ("scrub", scrub and "a command"))
            words = [f"{name} {value or 'none'}" for name, value in said if value is not None]
            self.record(now, "assign", self.who, app_id=app.id, detail=", ".join([instance.slug, *words]))

    def unassign(self, instance: Instance, app: App, now: int) -> None:
        with self.change():
            self.write(
                "update assignment set removed_at = ? where app_id = ? and instance_id = ?", now, app.id, instance.id
            )
            self.record(now, "unassign", self.who, app_id=app.id, detail=instance.slug)

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
        """Until these databases are saved again in the same transaction, they count as purged: others can have their names
        and places."""
        self.write_all("update database set status = 'purged' where id = ?", ((each,) for each in database_ids))

    def save_databases(self, databases: Iterable[Database]) -> None:
        kept = (
            *("id", "instance_id", "created_at", "forked_snapshot", "token_generation"),
            *("moved", "renewals", "renewed"),
        )
        waits = "waits_from = iif(purge_at is excluded.purge_at, waits_from, null)"
        self.write_all(DATABASE.upsert(DATABASE.all_but(*kept), waits), map(DATABASE.values, databases))
