"""Can a server store databases, each closed to the roles of the others? Found out by storing one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
from psycopg import sql

from provisioner.core.connection import FileLocation, Location, PostgresEndpoint
from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines.postgres import databases, names, programs, roles
from provisioner.engines.postgres.access import limits
from provisioner.engines.postgres.administration import administering, forget_refusals
from provisioner.engines.postgres.embedded import server as embedded
from provisioner.engines.postgres.quorum import quorum_check
from provisioner.engines.postgres.roles import named, statement
from provisioner.engines.postgres.schema_setup import SchemaSetup
from provisioner.engines.postgres.session import Session, connected, looking
from provisioner.engines.protocol import location
from provisioner.engines.protocol.engine import HealthCheck
from provisioner.engines.protocol.stopped import ServerStopped

OLDEST = 13
_MAINTENANCE = ("postgres", "template1")

_OPEN_TO_ALL = """
  select datname from pg_database where datallowconn and exists (
    select 1 from aclexplode(coalesce(datacl, acldefault('d', datdba))) entry
    where entry.grantee = 0 and privilege_type = 'CONNECT')
  order by datname
"""
_USERS = "select rolname from pg_roles where rolcanlogin and not rolsuper and rolname !~ %s and rolname <> current_user"


def prepare(instance: Instance) -> None:
    """Check that provisioner may work there, and close the server's own databases to roles that were not granted access.

    Raises StorageFailed with the reason where that cannot be.
    """
    forget_refusals()
    if isinstance(instance.location, FileLocation):
        embedded.start(instance.location, new=True)
    with administering(instance) as session:
        for check in (_version(session), _rights(session)):
            if not check.well:
                raise StorageFailed(f"the server {instance.location} cannot store databases: {check.text}")
        for name in set(_open_to_all(session)) & {*_MAINTENANCE, session.info.dbname}:
            close(session, name)


def close(session: Session, name: str) -> None:
    """Let only those users connect to a database that there are now, as far as this user may decide that."""
    users = [row[0] for row in session.execute(_USERS, (names.OURS,)).fetchall()]
    grants = [
        statement("grant connect, temporary on database {name} to {user}", name=name, user=user) for user in users
    ]
    try:
        roles.at_once(session, [*grants, sql.SQL("revoke connect on database {} from public").format(named(name))])
    except psycopg.errors.InsufficientPrivilege:
        return  # the check says so


def look(instance: Instance) -> HealthCheck:
    """Does it answer, and does it keep timelines apart?"""
    try:
        with administering(instance) as session:
            if not (check := _isolation(session)).well:
                return check
            return HealthCheck("server", True, _connected(session, instance))
    except ServerStopped as error:
        return HealthCheck("server", True, f"{error.message}; it starts when it is needed")
    except StorageFailed as error:
        return HealthCheck("server", False, str(error))


def probe(instance: Instance, contents: SchemaSetup) -> Iterator[HealthCheck]:
    """One look after another; after one that fails there may be no more."""
    forget_refusals()
    try:
        with looking(instance) as session:
            yield HealthCheck("connection", True, _connected(session, instance))
            yield (version := _version(session))
            yield (rights := _rights(session))
            if not (version.well and rights.well):
                return
            if instance.require_quorum:
                yield (quorum := quorum_check.check(instance, session))
                if not quorum.well:
                    return
            yield _isolation(session)
            yield _programs(session)
            if contents.limited:
                yield _limits(session, instance)
            yield from _database(instance, session, contents)
    except StorageFailed as error:
        yield HealthCheck("connection", False, str(error))


def _connected(session: Session, instance: Instance) -> str:
    row = session.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
    tls = f"with {row[1]}" if row and row[0] else "without TLS"
    return f"{instance.location} as {session.info.user}, {tls}"


def _version(session: Session) -> HealthCheck:
    found = session.info.server_version // 10000
    text = f"PostgreSQL {session.info.parameter_status('server_version')}"
    return HealthCheck("version", found >= OLDEST, text if found >= OLDEST else f"{text}: {OLDEST} or newer is needed")


def _rights(session: Session) -> HealthCheck:
    row = session.execute(
        "select rolsuper, rolcreatedb, rolcreaterole from pg_roles where rolname = current_user"
    ).fetchone()
    assert row is not None  # noqa: S101 - it has logged in
    missing = [word for word, has in (("CREATEDB", row[1]), ("CREATEROLE", row[2])) if not has and not row[0]]
    user = session.info.user
    if missing:
        text = f"{user} lacks {' and '.join(missing)}: as superuser run: ALTER ROLE {user} {' '.join(missing)}"
        return HealthCheck("rights", False, text)
    return HealthCheck("rights", True, f"{user} {'is a superuser' if row[0] else 'may create databases and roles'}")


def _open_to_all(session: Session) -> list[str]:
    return [row[0] for row in session.execute(_OPEN_TO_ALL).fetchall()]


def _isolation(session: Session) -> HealthCheck:
    found = _open_to_all(session)
    if found:
        text = f"{', '.join(found)} let every role connect, those of timelines too. As their owner run: " + "; ".join(
            f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC' for name in found
        )
        return HealthCheck("isolation", False, f"{text}; and grant it to the roles that need it")
    return HealthCheck("isolation", True, "no database lets every role connect")


def _programs(session: Session) -> HealthCheck:
    try:
        found = programs.programs(session.info.server_version // 10000)
    except StorageFailed as error:
        return HealthCheck(
            "programs", False, f"{error.message}: without them, databases in use cannot be copied. {error.hint}"
        )
    return HealthCheck("programs", True, f"{found}, version {programs.version(found)}")


def _limits(session: Session, instance: Instance) -> HealthCheck:
    found = limits.shown(session, instance.allowance)
    return HealthCheck("limits", True, f"a database may use {found.text()}")


def _database(instance: Instance, session: Session, contents: SchemaSetup) -> Iterator[HealthCheck]:
    """Create one as for a timeline, use it as its role, try to get out of it, and drop it."""
    spare = databases.make_spare(instance, session, contents.furnish, limited=contents.limited)
    try:
        password = secrets.token_hex(32)
        session.execute(roles.opened(session, spare, password))
        server = location.variables(instance.location)
        try:
            with connected(PostgresEndpoint(server, spare, spare, password).url(), instance.location) as own:
                own.execute("create table probe (value text)")
                own.execute("insert into probe values ('here')")
                found = own.execute("select value from probe").fetchall()
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            yield HealthCheck(
                "database", False, f"its role cannot work in it: {said}. Let roles log in by password in pg_hba.conf"
            )
            return
        yield HealthCheck("database", found == [("here",)], "created, written, read, and deleted one")
        yield _confined(session, instance.location, spare, password)
    finally:
        databases.drop(session, spare)
        roles.drop(session, spare)


def _confined(session: Session, where: Location, role: str, password: str) -> HealthCheck:
    """Does the server let it in anywhere else? Asked by trying, not of its tables."""
    others = session.execute(
        "select datname from pg_database where datallowconn and datname <> %s order by datname limit 50", (role,)
    ).fetchall()
    for (name,) in others:
        try:
            connected(PostgresEndpoint(location.variables(where), name, role, password).url(), where).close()
        except psycopg.Error:
            continue
        return HealthCheck("confinement", False, f"the role of a timeline can connect to {name}; see isolation")
    return HealthCheck("confinement", True, "the role of a database can connect to no other")
