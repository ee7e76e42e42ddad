"""The postgres engine: every database is one on a server, with its own role; see pg/names.py for their names.

Each step first reads the current state, and changes names in one transaction: an interrupted step is found done or
undone, and one that had only started starts again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

import psycopg

from provisioner.core.connection import FileLocation, KvEndpoint, Location, PostgresEndpoint, ServerLocation
from provisioner.core.errors import StorageFailed
from provisioner.core.ids import ShareId, SnapshotId
from provisioner.core.model import Database, Instance
from provisioner.engines.postgres import (
    clone,
    connection_string,
    databases,
    lifecycle,
    names,
    orphans,
    preflight,
    roles,
    verification,
)
from provisioner.engines.postgres.access import eviction, limits, logins, upkeep, visitors
from provisioner.engines.postgres.administration import administering
from provisioner.engines.postgres.databases import renamed
from provisioner.engines.postgres.dump import pg_dump
from provisioner.engines.postgres.dump.dumps import PgDumps
from provisioner.engines.postgres.embedded import copied
from provisioner.engines.postgres.embedded import server as embedded
from provisioner.engines.postgres.lifecycle import name_of
from provisioner.engines.postgres.owners import OwnedRows
from provisioner.engines.postgres.quorum import quorum_check
from provisioner.engines.postgres.roles import statement
from provisioner.engines.postgres.schema_setup import EmptySchema, SchemaSetup
from provisioner.engines.postgres.session import POOL, Session, looking, why
from provisioner.engines.protocol import location as place
from provisioner.engines.protocol.engine import (
    CopyResult,
    Dumps,
    Failures,
    HealthCheck,
    Inspection,
    ReplicationStatus,
    Source,
    StorageTarget,
    UsageLimits,
)
from provisioner.engines.protocol.stopped import ServerStopped
from provisioner.system import failpoints
from provisioner.system.home import DIRECTORY_MODE

MOST_SPARES = 8  # each takes 7 MB of the server's disk
AT_ONCE = 2  # spares made at a call


class Postgres(OwnedRows):
    """See `provisioner.engines.protocol.engine.Engine`."""

    contents: SchemaSetup = EmptySchema()
    first = "DATABASE_URL leads to the databases of"
    has_keys = False
    kept_in = "database"
    apart = ""
    dumps: Dumps | None = PgDumps()
    anew = (
        "Programs that are connected to it are disconnected, and find the new data when they connect again; what they have"
        " committed is in that snapshot"
    )

    def locate(self, where: StorageTarget, directory: str, known: Instance | None = None) -> tuple[Location, str]:
        return connection_string.locate(where, directory, known)

    def same_place(self, one: Instance, other: Instance) -> bool:
        return connection_string.same_place(one, other)

    def kept(self, instance: Instance) -> ReplicationStatus | None:
        return quorum_check.kept(instance)

    def look(self, instance: Instance) -> HealthCheck:
        return preflight.look(instance)

    def renew(self, instance: Instance, database: Database, shares: Sequence[ShareId]) -> None:
        with administering(instance) as session:
            if databases.there(session, [name_of(names.LIVE, instance, database)]):
                logins.renew(self.contents, instance, session, database, shares)

    def start(self, location: Location) -> None:
        if isinstance(location, FileLocation):
            embedded.start(location)

    def stop(self, location: Location) -> bool:
        if isinstance(location, ServerLocation):
            raise StorageFailed("provisioner does not run this server", "Stop it where it was started")
        return embedded.stop(location)

    def separate(self, location: Location) -> str:
        return copied.separate(location) if place.is_kept(location) else ""

    def settle_in(self, location: Location) -> None:
        if place.is_kept(location):
            embedded.settle_in(location)

    def close(self) -> None:
        POOL.close()
        quorum_check.forget()

    def prepare(self, instance: Instance) -> None:
        preflight.prepare(instance)
        with administering(instance) as session:
            upkeep.bring_up_to_date(instance, session, limited=self.contents.limited)

    def test(self, instance: Instance) -> Iterable[HealthCheck]:
        return preflight.probe(instance, self.contents)

    def limits(self, instance: Instance) -> UsageLimits | None:
        if not self.contents.limited or not embedded.is_up(instance.location):
            return None
        with looking(instance) as session:
            return limits.shown(session, instance.allowance)

    def end_overlong(self, instance: Instance) -> list[str]:
        if not self.contents.limited or not embedded.is_up(instance.location):
            return []
        with looking(instance) as session:
            return limits.end_overlong(session, instance)

    def ensure(self, instance: Instance, databases_: Sequence[Database]) -> Failures:
        failures: Failures = {}
        if not databases_:
            return failures
        try:
            with administering(instance) as session:
                wanted = [name_of(kind, instance, item) for kind in (names.LIVE, names.ARCHIVED) for item in databases_]
                found = databases.there(session, wanted)
                upkeep.bring_up_to_date(instance, session, limited=self.contents.limited)
                spares: list[str] | None = None
                for database in databases_:
                    try:
                        if (live := name_of(names.LIVE, instance, database)) in found:
                            statements = lifecycle.settled(self.contents, instance, session, database)
                            eviction.insist(instance, session, live, statements)
                        elif name_of(names.ARCHIVED, instance, database) in found:
                            lifecycle.bring_back(self.contents, instance, session, database)
                        elif database.connected_at is not None:
                            failures[database.id] = lifecycle.missing(instance, database)
                        else:
                            spares = databases.spares(instance, session) if spares is None else spares
                            lifecycle.take(self.contents, instance, session, database, spares)
                    except psycopg.Error as error:
                        if session.closed:
                            raise
                        failures[database.id] = _why(error, instance)
        except StorageFailed as error:
            return failures | {item.id: str(error) for item in databases_ if item.id not in failures}
        return failures

    def stock(self, instance: Instance, wanted: int) -> bool:
        with administering(instance) as session:
            missing = min(wanted, MOST_SPARES) - len(databases.spares(instance, session))
            if missing <= 0:
                return False
            databases.remove_unfinished(instance, session)
            for _ in range(min(missing, AT_ONCE)):
                databases.make_spare(instance, session, self.contents.furnish, limited=self.contents.limited)
            return missing > AT_ONCE

    def fork(self, instance: Instance, database: Database, source: Source) -> CopyResult:
        live = name_of(names.LIVE, instance, database)
        with administering(instance) as session:
            if databases.there(session, [live]):  # interrupted at the very end; no program was connected since
                made = CopyResult(None, databases.size(session, live), 0.0)
            else:
                made = self.copy_beside(instance, database, source)
                failpoints.point("fork.copied")
                lifecycle.move_in(self.contents, instance, session, database)
            failpoints.point("fork.moved")
            return made

    def build(self, instance: Instance, database: Database, source: Source | None, *, with_queue: bool) -> CopyResult:
        if source is not None:
            return self.copy_beside(instance, database, source)
        beside = name_of(names.BESIDE, instance, database)
        with administering(instance) as session:
            databases.drop(session, beside)
            owner = name_of(names.LIVE, instance, database)
            roles.make(session, owner)
            databases.make_empty(instance, session, beside, owner, self.contents.furnish)
            return CopyResult(None, databases.size(session, beside), 0.0)

    def copy_beside(self, instance: Instance, database: Database, source: Source) -> CopyResult:
        beside = name_of(names.BESIDE, instance, database)
        with administering(instance) as session:
            found = lifecycle.data_of(instance, session, source)
        old, new = (name_of(names.LIVE, instance, item) for item in (source.database, database))
        return clone.copy(instance, found, beside, old=old, new=new)

    def beside(self, instance: Instance, database: Database) -> KvEndpoint | PostgresEndpoint:
        beside, owner = (name_of(kind, instance, database) for kind in (names.BESIDE, names.LIVE))
        with administering(instance) as session:
            password = visitors.let_in(session, beside, owner)
        return PostgresEndpoint(place.variables(instance.location), beside, beside, password)

    def script(self, beside: KvEndpoint | PostgresEndpoint, path: str) -> list[str]:
        return [
            sys.executable,
            "-I",
            os.path.join(os.path.dirname(os.path.dirname(__file__)), "scripts", "postgres.py"),
            path,
        ]

    def seal(self, instance: Instance, database: Database) -> None:
        beside, owner = (name_of(kind, instance, database) for kind in (names.BESIDE, names.LIVE))
        with administering(instance) as session:
            eviction.empty(instance, session, beside)
            session.execute(roles.connectable(beside))
            visitors.remove_visitor(instance, session, beside, owner)
            databases.wait_until_left(session, beside)

    def swap(self, instance: Instance, database: Database, kept_as: SnapshotId) -> int | None:
        live, beside = (name_of(kind, instance, database) for kind in (names.LIVE, names.BESIDE))
        kept = names.name(names.SNAPSHOT, instance.id, database.id, kept_as)
        with administering(instance) as session:
            found = databases.there(session, [live, beside, kept])
            if beside in found:
                first = []
                if live in found:
                    eviction.empty(instance, session, live)
                    kept_from_it = statement("revoke all on database {kept} from {live}", kept=kept, live=live)
                    first = [renamed(live, kept), roles.connectable(kept), kept_from_it]
                    first += [roles.kept_out(kept, role) for role in lifecycle.sharers(session, instance, database)]
                failpoints.point("replace.kept")
                lifecycle.move_in(self.contents, instance, session, database, first)
            failpoints.point("replace.moved")
            return databases.size(session, kept) if databases.there(session, [kept]) else None

    def discard(self, instance: Instance, database: Database) -> None:
        beside = name_of(names.BESIDE, instance, database)
        with administering(instance) as session:
            databases.drop(session, beside)
            roles.drop(session, beside)

    def copy_out(self, instance: Instance, database: Database, directory: str) -> tuple[str, CopyResult]:
        path = os.path.join(directory, f"{database.name}.dump")
        with administering(instance) as session:
            found = lifecycle.data_of(instance, session, Source(database))
            try:
                os.mkdir(directory, DIRECTORY_MODE)
            except OSError as error:
                raise StorageFailed(f"cannot create {directory}: {error.strerror}", "Make room there") from error
            arguments = ("--format=custom", f"--file={path}")
            pg_dump.run(instance, session, found, arguments, f"dumping {database.name}")
        return path, CopyResult(None, os.path.getsize(path), 0.0)

    def snapshot(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> CopyResult:
        begun, kept = (
            names.name(kind, instance.id, database.id, snapshot_id) for kind in (names.BEGUN, names.SNAPSHOT)
        )
        with administering(instance) as session:
            found = lifecycle.data_of(instance, session, Source(database))
        owner = name_of(names.LIVE, instance, database)
        made = clone.copy(instance, found, begun, old=owner, new=owner)
        with administering(instance) as session:
            session.execute(renamed(begun, kept))
        failpoints.point("snapshot.made")
        return made

    def snapshot_file(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> str | None:
        return None

    def delete_snapshot(self, instance: Instance, database: Database, snapshot_id: SnapshotId) -> None:
        with administering(instance) as session:
            for kind in (names.SNAPSHOT, names.BEGUN):
                name = names.name(kind, instance.id, database.id, snapshot_id)
                databases.drop(session, name)
                roles.drop(session, name)
            failpoints.point("snapshot.removed")

    def archive(self, instance: Instance, databases_: Sequence[Database]) -> Failures:
        return self._each(instance, databases_, lifecycle.put_away)

    def purge(self, instance: Instance, databases_: Sequence[Database]) -> Failures:
        return self._each(instance, databases_, lifecycle.delete)

    def retire(self, instance: Instance) -> None:
        if isinstance(instance.location, FileLocation):
            embedded.remove(instance.location)

    def sweep(self, instance: Instance, known: Callable[[], Collection[str]]) -> list[str]:
        with administering(instance) as session:
            upkeep.bring_up_to_date(instance, session, limited=self.contents.limited)
            return orphans.sweep(instance, session, known, self._is_free)

    def _is_free(self, instance: Instance, name: str) -> bool:
        """Whether it is empty, and has never had an owner."""
        found = self.find(instance, [names.id_of(name)])
        return all(each.owner is None for each in found.values()) and self.contents.is_empty(instance, name)

    def problems(self, instance: Instance, databases: Sequence[Database]) -> Failures:
        try:
            return lifecycle.problems(instance, databases)
        except ServerStopped:
            return {}
        except StorageFailed as error:
            return {database.id: str(error) for database in databases}

    def deep_damage(self, instance: Instance, source: Source, on: Callable[[], None]) -> str:
        if not embedded.is_up(instance.location):
            raise StorageFailed("its server is stopped", f"Start it: provisioner instance start {instance.slug}")
        with looking(instance) as session:
            found = lifecycle.data_of(instance, session, source)
        return verification.damage(instance, found, on=on)

    def inspect(self, instance: Instance, database: Database) -> Inspection:
        size = None
        with suppress(StorageFailed):
            size = lifecycle.size(instance, database)
        kind = lifecycle.kind_of(database)
        return Inspection(None, size, url=place.shown_url(instance.location, name_of(kind, instance, database)))

    def _each(
        self, instance: Instance, todo: Sequence[Database], work: Callable[[Instance, Session, Database], str]
    ) -> Failures:
        """Do something with each: why it failed, by their ids."""
        failures: Failures = {}
        for database in todo:
            try:
                with administering(instance) as session:
                    problem = work(instance, session, database)
            except StorageFailed as error:
                problem = str(error)
            if problem:
                failures[database.id] = problem
        return failures


def _why(error: psycopg.Error, instance: Instance) -> str:
    message, hint = why(error, instance)
    return f"{message}. {hint}" if hint else message
