"""Databases on a server: made, looked for, emptied of sessions, dropped."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId
from provisioner.core.model import Instance
from provisioner.engines.postgres import names, roles
from provisioner.engines.postgres.access import limits
from provisioner.engines.postgres.administration import administering_in
from provisioner.engines.postgres.roles import named, statement
from provisioner.engines.postgres.session import Session, patiently
from provisioner.system import failpoints

_LEAVE_SECONDS = 10.0
_DROP_SECONDS = (2, 4, 8, 16, 32, 64, 600)  # the next one drops the rest of an interrupted one
_SILENT_LOOKS, _SILENT_SECONDS = 6, 0.05
_LOOK_SECONDS = 0.005
_RESERVE_SECONDS, _HOLDER_SECONDS = 60.0, 2.0
_NO_OPTIONS = sql.SQL("")


def there(session: Session, wanted: Collection[str]) -> set[str]:
    """Which of these databases exist."""
    found = session.execute("select datname from pg_database where datname = any(%s)", (list(wanted),)).fetchall()
    return {row[0] for row in found}


def named_like(session: Session, start: str) -> list[str]:
    """The databases whose names begin so."""
    found = session.execute(
        "select datname from pg_database where starts_with(datname, %s) order by datname", (start,)
    ).fetchall()
    return [row[0] for row in found]


def size(session: Session, name: str) -> int:
    """Bytes; 0 where there is none."""
    row = session.execute("select pg_database_size(datname) from pg_database where datname = %s", (name,)).fetchone()
    return int(row[0]) if row else 0


Furnish = Callable[[Session, str, str], None]
"""Makes what every new database of an instance has, in a session in it: of this name, with this owner."""


def bare(inside: Session, name: str, owner: str) -> None:
    """Nothing but what PostgreSQL has in a new database."""


def make_empty(instance: Instance, session: Session, name: str, owner: str, furnish: Furnish = bare) -> None:
    """Create an empty database whose schema `public` is `owner`'s, and which only the administrator can connect to."""
    with reserved(session, name):
        try:
            create(session, name)
        except psycopg.errors.ObjectInUse:  # a program is connected to template1
            create(session, name, sql.SQL("template template0"))
    failpoints.point("postgres.created")
    give_public(instance, session, name, owner, furnish)


def create(session: Session, name: str, options: sql.Composable = _NO_OPTIONS) -> None:
    """Create a database that only the administrator can connect to, at no moment anyone else. The name is `reserved`."""
    words = sql.SQL("create database {} {} allow_connections false").format(named(name), options)
    with patiently(session):
        session.execute(words)
    failpoints.point("postgres.closed")
    roles.at_once(session, [roles.locked_up(name), roles.connectable(name)])


def give_public(instance: Instance, session: Session, name: str, owner: str, furnish: Furnish = bare) -> None:
    """Make the schema `public` of a database `owner`'s."""
    with administering_in(instance, name) as inside:
        try:
            inside.execute(statement("alter schema public owner to {owner}", owner=owner))
        except psycopg.errors.InsufficientPrivilege:
            # before PostgreSQL 15 it is the superuser's, and every role may write to it
            inside.execute(statement("grant all on schema public to {owner}", owner=owner))
        except psycopg.errors.InvalidSchemaName:
            pass  # without it in template1, no program expects it
        furnish(inside, name, owner)
    wait_until_left(session, name)


def drop(session: Session, name: str) -> None:
    """Drop a database, whatever is connected to it. Raises StorageFailed where sessions of others prevent that.

    From PostgreSQL 15 on, all sessions of the server have to take notice first, which one does not that waits for its client
    in the middle of a statement: those of timelines are ended.
    """
    with reserved(session, name):
        for seconds in _DROP_SECONDS:
            try:
                with patiently(session, seconds):
                    session.execute(statement("drop database if exists {name} with (force)", name=name))
            except psycopg.errors.QueryCanceled:
                _end_silent(session)
            else:
                return
    raise StorageFailed(
        f"the database {name} could not be dropped in {_DROP_SECONDS[-1]} s",
        "See pg_stat_activity for sessions that wait for their clients",
    )


def _end_silent(session: Session) -> None:
    """End sessions of timelines that have stood still for a while, waiting for their clients within a statement."""
    silent = _silent(session)
    for _ in range(_SILENT_LOOKS):
        time.sleep(_SILENT_SECONDS)
        silent &= _silent(session)
    session.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) pid", ([pid for pid, _ in silent],))


def _silent(session: Session) -> set[tuple[int, object]]:
    """Processes, with when they began what they do."""
    return {(row[0], row[1]) for row in session.execute(_SILENT, (names.OURS,)).fetchall()}


_SILENT = """
  select pid, query_start from pg_stat_activity
  where usename ~ %s and state = 'active' and wait_event in ('ClientRead', 'ClientWrite')
"""


def sessions(session: Session, name: str) -> int:
    """How many programs are connected to a database."""
    row = session.execute(
        "select count(*) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
        " and backend_type is distinct from 'autovacuum worker'",
        (name,),
    ).fetchone()
    return int(row[0]) if row else 0


def wait_until_left(session: Session, name: str, seconds: float = _LEAVE_SECONDS) -> None:
    """Until the sessions that were closed have ended: for a moment a server still takes them for open."""
    patience = time.monotonic() + seconds
    while sessions(session, name) and time.monotonic() < patience:
        time.sleep(_LOOK_SECONDS)


def end_sessions(session: Session, name: str) -> None:
    """End what programs do in a database: what they have committed stays."""
    session.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()", (name,)
    )


def is_empty(instance: Instance, name: str) -> bool:
    """Whether nothing was ever created in it."""
    with administering_in(instance, name) as inside:
        row = inside.execute(_THINGS).fetchone()
    return row is not None and not row[0]


# What PostgreSQL itself has in a new database has lower numbers.
_THINGS = """
  select exists (
    select 1 from pg_class join pg_namespace on pg_namespace.oid = relnamespace
      where nspname <> 'information_schema' and not starts_with(nspname, 'pg_')
    union all select 1 from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
      where nspname <> 'information_schema' and not starts_with(nspname, 'pg_')
    union all select 1 from pg_largeobject_metadata
    union all select 1 from pg_namespace
      where nspname not in ('information_schema', 'public') and not starts_with(nspname, 'pg_')
    union all select 1 from pg_type where oid >= 16384
    union all select 1 from pg_operator where oid >= 16384
    union all select 1 from pg_cast where oid >= 16384
    union all select 1 from pg_extension where oid >= 16384
    union all select 1 from pg_publication
    union all select 1 from pg_ts_config where oid >= 16384
  )
"""


INITIAL_SCHEMAS = ("public", "pg_catalog", "information_schema")


def schemas(instance: Instance, name: str) -> set[str]:
    """The schemas in a database."""
    with administering_in(instance, name) as inside:
        return {row[0] for row in inside.execute("select nspname from pg_namespace").fetchall()}


@contextmanager
def reserved(session: Session, name: str) -> Iterator[None]:
    """While a database is created or dropped. Raises StorageFailed where another session keeps the name.

    A server completes the statement of a client that was killed: its database could appear after the remains have been
    removed. Such a session has the reservation until it ends. It is ended if that takes long, as any other is: two clients
    only meet at the database of owner records, which is created in a moment.
    """
    began = time.monotonic()
    while not held(session, name):
        waited = time.monotonic() - began
        if waited > _RESERVE_SECONDS:
            raise StorageFailed(f"another session is creating or dropping the database {name}", "Try again")
        if waited > _HOLDER_SECONDS:
            with suppress(psycopg.errors.InsufficientPrivilege):
                session.execute(_END_HOLDER, {"name": name})
        time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        with suppress(psycopg.OperationalError):  # the session has ended, and the reservation with it
            let_go(session, name)


_END_HOLDER = """
  select pg_terminate_backend(pid) from pg_locks
  where locktype = 'advisory' and granted and objsubid = 1 and pid <> pg_backend_pid()
    and database = (select oid from pg_database where datname = current_database())
    and (classid::bigint << 32) | objid::bigint = hashtextextended(%(name)s, 0)
"""


def is_ready(session: Session, name: str) -> bool:
    """Is it there, and was its creation completed?"""
    row = session.execute("select 1 from pg_database where datname = %s and datallowconn", (name,)).fetchone()
    return row is not None


def held(session: Session, name: str) -> bool:
    """Try to be the one who works on a database; what a process had held that was killed, is free."""
    row = session.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone()
    return bool(row and row[0])


def let_go(session: Session, name: str) -> None:
    session.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


def make_spare(instance: Instance, session: Session, furnish: Furnish, *, limited: bool) -> str:
    """Make an empty database with a role, which waits for an owner: its name."""
    random = secrets.token_hex(16)
    begun, spare = (
        names.name(names.BEGUN, instance.id, DatabaseId(random)),
        names.name(names.SPARE, instance.id, DatabaseId(random)),
    )
    if not held(session, begun):
        raise StorageFailed(f"the name {begun} is taken", "Try again")
    try:
        roles.make(session, spare)
        make_empty(instance, session, begun, spare, furnish)
        imposed = limits.statements(spare, limits.of(session, instance.allowance)) if limited else []
        rename = statement("alter database {begun} rename to {spare}", begun=begun, spare=spare)
        roles.at_once(session, [*imposed, roles.granted(begun, spare), rename])
    finally:
        let_go(session, begun)
    return spare


def remove_unfinished(instance: Instance, session: Session) -> None:
    """Drop the spares that a killed process has left incomplete, and their roles."""
    for begun in named_like(session, f"{names.BEGUN}_{instance.id[:8]}_"):
        if begun.count("_") == 2 and held(session, begun):
            try:
                drop(session, begun)
            finally:
                let_go(session, begun)
    spares = session.execute(
        "select rolname from pg_roles where starts_with(rolname, %s)", (f"{names.SPARE}_{instance.id[:8]}_",)
    ).fetchall()
    for (spare,) in spares:
        begun = names.BEGUN + spare[len(names.SPARE) :]
        if held(session, begun):
            try:
                if not there(session, (begun, spare)):
                    roles.drop(session, spare)
            finally:
                let_go(session, begun)


def spares(instance: Instance, session: Session) -> list[str]:
    return named_like(session, f"{names.SPARE}_{instance.id[:8]}_")


def renamed(old: str, new: str) -> sql.Composed:
    return statement("alter database {old} rename to {new}", old=old, new=new)
