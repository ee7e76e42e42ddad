"""The postgres engine: every database one of a server's, with a role of its own; see pg/names.py for what they are called.

Each step looks first at what is there, and changes names in one transaction: a step that was cut off is found done or
undone, and what was only begun is begun anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence

import psycopg

from provisioner import faults
from provisioner.config import DIRECTORY_MODE
from provisioner.engines.base import Check, Copied, Dumps, Failures, Inspection, Source, Where
from provisioner.engines.pg import copying, databases, embedded, locating, names, place, probing, roles, sweeping, tools
from provisioner.engines.pg.databases import renamed
from provisioner.engines.pg.dumps import PgDumps
from provisioner.engines.pg.roles import statement
from provisioner.engines.pg.session import Session, administering, variables_for_tools, why
from provisioner.environment import Reached, ReachedServer
from provisioner.errors import StorageFailed
from provisioner.model import Database, Instance

MOST_SPARES = 8  # each takes 7 MB of the server's disk
AT_ONCE = 2  # spares made at a call


class Postgres:
    """See `provisioner.engines.base.Engine`."""

    first = "DATABASE_URL leads to the databases of"
    kept_in = "database"
    apart = ""
    dumps: Dumps | None = PgDumps()
    anew = (
        "Programs that were connected to it have been disconnected, and find the new data when they connect again; what they"
        " had committed is in that snapshot"
    )

    def locate(self, where: Where, directory: str, known: Instance | None = None) -> tuple[str, str]:
        return locating.locate(where, directory, known)

    def same_place(self, one: Instance, other: Instance) -> bool:
        return locating.same_place(one, other)

    def look(self, instance: Instance) -> Check:
        return probing.look(instance)

    def renew(self, instance: Instance, database: Database) -> None:
        with administering(instance) as session:
            if databases.there(session, [name := self._name(names.LIVE, instance, database)]):
                roles.at_once(session, self._settled(session, instance, database))
                databases.end_sessions(session, name)

    def start(self, location: str) -> None:
        if not place.is_server(location):
            embedded.start(location)

    def stop(self, location: str) -> bool:
        if place.is_server(location):
            raise StorageFailed("this server was linked: it is not for us to stop", "Stop it where it was started")
        return embedded.stop(location)

    def prepare(self, instance: Instance) -> None:
        probing.prepare(instance)

    def test(self, instance: Instance) -> Iterable[Check]:
        return probing.probe(instance, self._furnish)

    def ensure(self, instance: Instance, databases_: Sequence[Database]) -> Failures:
        failures: Failures = {}
        if not databases_:
            return failures
        try:
            with administering(instance) as session:
                wanted = [
                    self._name(kind, instance, item) for kind in (names.LIVE, names.ARCHIVED) for item in databases_
                ]
                found = databases.there(session, wanted)
                spares: list[str] | None = None
                for database in databases_:
                    try:
                        if self._name(names.LIVE, instance, database) in found:
                            roles.at_once(session, self._settled(session, instance, database))
                        elif self._name(names.ARCHIVED, instance, database) in found:
                            self._bring_back(instance, session, database)
                        elif database.connected_at is not None:
                            failures[database.id] = _missing(instance, database)
                        else:
                            spares = databases.spares(instance, session) if spares is None else spares
                            self._take(instance, session, database, spares)
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
                databases.make_spare(instance, session, self._furnish)
            return missing > AT_ONCE

    def fork(self, instance: Instance, database: Database, source: Source) -> Copied:
        live = self._name(names.LIVE, instance, database)
        with administering(instance) as session:
            if databases.there(session, [live]):  # cut off when all was done; nobody was connected since
                made = Copied(None, databases.size(session, live), 0.0)
            else:
                made = self.copy_beside(instance, database, source)
                faults.point("fork.copied")
                self._move_in(instance, session, database)
            faults.point("fork.moved")
            return made

    def build(self, instance: Instance, database: Database, source: Source | None, *, with_queue: bool) -> Copied:
        if source is not None:
            return self.copy_beside(instance, database, source)
        beside = self._name(names.BESIDE, instance, database)
        with administering(instance) as session:
            databases.drop(session, beside)
            owner = self._name(names.LIVE, instance, database)
            roles.make(session, owner)
            databases.make_empty(instance, session, beside, owner, self._furnish)
            return Copied(None, databases.size(session, beside), 0.0)

    def copy_beside(self, instance: Instance, database: Database, source: Source) -> Copied:
        beside = self._name(names.BESIDE, instance, database)
        with administering(instance) as session:
            found = self._data_of(instance, session, source)
        old, new = (self._name(names.LIVE, instance, item) for item in (source.database, database))
        return copying.copy(instance, found, beside, old=old, new=new)

    def beside(self, instance: Instance, database: Database) -> Reached | ReachedServer:
        beside, owner = (self._name(kind, instance, database) for kind in (names.BESIDE, names.LIVE))
        with administering(instance) as session:
            password = copying.let_in(session, beside, owner)
        return ReachedServer(place.variables(instance.location), beside, beside, password)

    def script(self, beside: Reached | ReachedServer, path: str) -> list[str]:
        return [sys.executable, "-I", os.path.join(os.path.dirname(__file__), "scripts", "postgres.py"), path]

    def seal(self, instance: Instance, database: Database) -> None:
        beside, owner = (self._name(kind, instance, database) for kind in (names.BESIDE, names.LIVE))
        with administering(instance) as session:
            databases.empty_of_sessions(session, beside)
            session.execute(statement("alter database {beside} allow_connections true", beside=beside))
            copying.remove_visitor(instance, session, beside, owner)
            databases.wait_until_left(session, beside)

    def swap(self, instance: Instance, database: Database, kept_as: str) -> int | None:
        live, beside = (self._name(kind, instance, database) for kind in (names.LIVE, names.BESIDE))
        kept = names.name(names.SNAPSHOT, instance.id, database.id, kept_as)
        with administering(instance) as session:
            found = databases.there(session, [live, beside, kept])
            if beside in found:
                first = []
                if live in found:
                    databases.empty_of_sessions(session, live)
                    words = "alter database {kept} allow_connections true; revoke all on database {kept} from {live}"
                    first = [renamed(live, kept), statement(words, kept=kept, live=live)]
                faults.point("replace.kept")
                self._move_in(instance, session, database, first)
            faults.point("replace.moved")
            return databases.size(session, kept) if databases.there(session, [kept]) else None

    def discard(self, instance: Instance, database: Database) -> None:
        beside = self._name(names.BESIDE, instance, database)
        with administering(instance) as session:
            databases.drop(session, beside)
            roles.drop(session, beside)

    def copy_out(self, instance: Instance, database: Database, directory: str) -> tuple[str, Copied]:
        path = os.path.join(directory, f"{database.name}.dump")
        with administering(instance) as session:
            found = self._data_of(instance, session, Source(database))
            programs = tools.programs(session.info.server_version // 10000)
        try:
            os.mkdir(directory, DIRECTORY_MODE)
        except OSError as error:
            raise StorageFailed(f"cannot make {directory}: {error.strerror}", "Make room there") from error
        arguments = ("--format=custom", f"--file={path}", "--no-password")
        variables = variables_for_tools(instance, found)
        tools.run(os.path.join(programs, "pg_dump"), arguments, variables, f"dumping {database.name}")
        return path, Copied(None, os.path.getsize(path), 0.0)

    def snapshot(self, instance: Instance, database: Database, snapshot_id: str) -> Copied:
        begun, kept = (
            names.name(kind, instance.id, database.id, snapshot_id) for kind in (names.BEGUN, names.SNAPSHOT)
        )
        with administering(instance) as session:
            found = self._data_of(instance, session, Source(database))
        owner = self._name(names.LIVE, instance, database)
        made = copying.copy(instance, found, begun, old=owner, new=owner)
        with administering(instance) as session:
            session.execute(renamed(begun, kept))
        faults.point("snapshot.made")
        return made

    def delete_snapshot(self, instance: Instance, database: Database, snapshot_id: str) -> None:
        with administering(instance) as session:
            for kind in (names.SNAPSHOT, names.BEGUN):
                name = names.name(kind, instance.id, database.id, snapshot_id)
                databases.drop(session, name)
                roles.drop(session, name)
            faults.point("snapshot.removed")

    def archive(self, instance: Instance, databases_: Sequence[Database]) -> Failures:
        return self._each(instance, databases_, self._put_away)

    def purge(self, instance: Instance, databases_: Sequence[Database]) -> Failures:
        return self._each(instance, databases_, self._delete)

    def sweep(self, instance: Instance, known: Callable[[], Collection[str]]) -> list[str]:
        with administering(instance) as session:
            return sweeping.sweep(instance, session, known, self._is_empty)

    def problem(self, instance: Instance, database: Database) -> str:
        try:
            return self._problem(instance, database, names.LIVE)[0]
        except StorageFailed as error:
            return str(error)

    def inspect(self, instance: Instance, database: Database) -> Inspection:
        kind = names.LIVE if database.live else names.ARCHIVED
        url = place.shown_url(instance.location, self._name(kind, instance, database))
        try:
            problem, size = self._problem(instance, database, kind)
        except StorageFailed as error:
            problem, size = str(error), None
        return Inspection(None, size, problem, None, url)

    def _furnish(self, inside: Session, name: str, owner: str) -> None:
        """Make what every new database has, in a session of the administrator's in it."""

    def _is_empty(self, instance: Instance, name: str) -> bool:
        return databases.is_empty(instance, name)

    def _password(self, instance: Instance, database: Database) -> str:
        """What the role logs in with: apps are given it. Raises StorageFailed."""
        return roles.password(instance, database, database.token_generation)

    def _settled(self, session: Session, instance: Instance, database: Database) -> list[roles.Statement]:
        return roles.settled(session, instance, database, self._password(instance, database))

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

    def _put_away(self, instance: Instance, session: Session, database: Database) -> str:
        live, archived = (self._name(kind, instance, database) for kind in (names.LIVE, names.ARCHIVED))
        found = databases.there(session, [live, archived])
        if live in found:
            roles.make(session, live)
            session.execute(roles.closed(live))
            databases.empty_of_sessions(session, live)
            again = statement("alter database {archived} allow_connections true", archived=archived)
            roles.at_once(session, [renamed(live, archived), again])
            faults.point("archive.moved")
        elif database.connected_at is not None and archived not in found:
            return _missing(instance, database)
        return ""

    def _bring_back(self, instance: Instance, session: Session, database: Database) -> None:
        live, archived = (self._name(kind, instance, database) for kind in (names.LIVE, names.ARCHIVED))
        statements = self._settled(session, instance, database)
        roles.at_once(session, [renamed(archived, live), *statements])
        faults.point("recover.moved")

    def _delete(self, instance: Instance, session: Session, database: Database) -> str:
        role = self._name(names.LIVE, instance, database)
        for kind in (names.ARCHIVED, names.BESIDE):
            databases.drop(session, self._name(kind, instance, database))
        faults.point("purge.moved")
        for kind in (names.SNAPSHOT, names.BEGUN):
            for snapshot in databases.named_like(session, self._name(kind, instance, database) + "_"):
                databases.drop(session, snapshot)
                roles.drop(session, snapshot)
        roles.drop(session, self._name(names.BESIDE, instance, database))
        if not databases.there(session, [role]):
            roles.retire(session, role)
        faults.point("purge.removed")
        return ""

    def _take(self, instance: Instance, session: Session, database: Database, spares: list[str]) -> None:
        """Give a database that waited for an owner to this one, or make one for it."""
        live = self._name(names.LIVE, instance, database)
        while True:
            spare = spares.pop() if spares else databases.make_spare(instance, session, self._furnish)
            faults.point("provision.written")
            try:
                roles.at_once(
                    session,
                    [
                        renamed(spare, live),
                        statement("alter role {spare} rename to {live}", spare=spare, live=live),
                        roles.opened(session, live, self._password(instance, database)),
                        roles.commented(live, database.name),
                    ],
                )
            except psycopg.errors.InvalidCatalogName:  # another process has taken it
                continue
            except psycopg.errors.DuplicateObject:  # a role that was made for a fork, which was then not wanted
                roles.drop(session, live)
                spares.append(spare)
                continue
            faults.point("provision.renamed")
            return

    def _move_in(
        self, instance: Instance, session: Session, database: Database, first: Sequence[roles.Statement] = ()
    ) -> None:
        """Put what was built beside into its place, after what has to be done `first`: all of it or nothing."""
        live, beside = (self._name(kind, instance, database) for kind in (names.LIVE, names.BESIDE))
        statements = self._settled(session, instance, database)
        roles.at_once(session, [*first, renamed(beside, live), *statements])

    def _data_of(self, instance: Instance, session: Session, source: Source) -> str:
        """The database that holds the data, live or archived, or of a snapshot. Raises StorageFailed."""
        of = source.database
        if source.snapshot_id is not None:
            places = [names.name(names.SNAPSHOT, instance.id, of.id, source.snapshot_id)]
        else:
            places = [self._name(kind, instance, of) for kind in (names.LIVE, names.ARCHIVED)]
        found = databases.there(session, places)
        for name in places:
            if name in found:
                return name
        raise StorageFailed(_missing(instance, of))

    def _problem(self, instance: Instance, database: Database, kind: str) -> tuple[str, int | None]:
        """What is wrong with a database, and its bytes; None where it is not there."""
        name, role = self._name(kind, instance, database), self._name(names.LIVE, instance, database)
        with administering(instance) as session:
            row = session.execute(_STATE, {"name": name, "role": role}).fetchone()
        if row is None:
            return f"is missing: there is no database {name} on {instance.location}", None
        allowed, login, connects, size = row
        if kind == names.LIVE and not (allowed and login and connects):
            return f"lets its role in no more: {name} on {instance.location}", size
        return "", size

    def _name(self, kind: str, instance: Instance, database: Database) -> str:
        return names.name(kind, instance.id, database.id)


_STATE = """
  select datallowconn, rolcanlogin, has_database_privilege(pg_roles.oid, pg_database.oid, 'CONNECT'),
    pg_database_size(pg_database.oid)
  from pg_database left join pg_roles on rolname = %(role)s where datname = %(name)s
"""


def _missing(instance: Instance, database: Database) -> str:
    name = names.live(instance.id, database.id)
    return (
        f"its data is missing: there is neither a database {name} on {instance.location} nor an archived one, and an empty"
        " one will not take its place. Restore it there, or archive it"
    )


def _why(error: psycopg.Error, instance: Instance) -> str:
    message, hint = why(error, instance.location, instance.url)
    return f"{message}. {hint}" if hint else message
