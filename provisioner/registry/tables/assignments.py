"""The instances of a home and their assignments to apps, in the registry."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from provisioner.core.allowance import Allowance
from provisioner.core.connection import Location, parse_location
from provisioner.core.ids import AppId, InstanceId
from provisioner.core.model import App, ConnectMode, Database, Instance, InstanceMove, LeftStorage, Organization, Scrub
from provisioner.registry.errors import member
from provisioner.registry.schema.rows import INSTANCE, LIMITS, PLACES, instance_values
from provisioner.registry.tables.audit_log import AuditLog
from provisioner.registry.tables.connection import printable


class Assignments(AuditLog):
    """The organization, its instances, and what each app has been assigned."""

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
