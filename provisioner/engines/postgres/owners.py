"""Owner records of the databases on a server: rows of a table that only the administrator can read.

Not in comments, for every role reads those of all databases. The table is in a schema of the instance's in the database that
the administrator's URL names; an administrator who may make none there makes a database for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from provisioner.core.connection import ServerLocation
from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId
from provisioner.core.model import Database, Instance
from provisioner.core.owner import InstanceMark, Owner
from provisioner.engines.postgres import databases, names
from provisioner.engines.postgres.administration import administering, administering_in
from provisioner.engines.postgres.schema_setup import SchemaSetup
from provisioner.engines.postgres.session import Session
from provisioner.engines.protocol import instance_mark
from provisioner.engines.protocol.engine import Failures, StoredDatabase
from provisioner.engines.protocol.stopped import NothingStored
from provisioner.system.looking import may_start

_SCHEMA = "pv_owners_"
_MISSING = (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable)


class OwnedRows:
    """See `provisioner.engines.protocol.engine.Engine`."""

    contents: SchemaSetup

    def record_owners(self, instance: Instance, owners: Sequence[Owner], *, durable: bool) -> Failures:
        return record(instance, owners, durable=durable)

    def find(self, instance: Instance, database_ids: Sequence[DatabaseId]) -> dict[DatabaseId, StoredDatabase]:
        return _there(instance, database_ids)

    def lost(self, instance: Instance, database_ids: Sequence[DatabaseId]) -> set[DatabaseId]:
        return lost(instance, database_ids)

    def claims(self, instance: Instance, keys: Collection[str]) -> dict[str, StoredDatabase]:
        return claims(instance, keys)

    def stored(self, instance: Instance, known: Callable[[], Collection[str]]) -> list[StoredDatabase]:
        return stored(instance, known, self.contents.is_empty)

    def mark(self, instance: Instance, home_id: str) -> None:
        found = InstanceMark(home_id, instance.id, instance.slug, instance.engine)
        if isinstance(instance.location, ServerLocation):
            with _opened(instance) as session:
                _mark(session, instance, found)
            return
        try:
            instance_mark.write(instance.location, found)
        except OSError as error:
            raise StorageFailed(f"cannot write to {instance.location}: {error.strerror}", "Make room there") from error

    def marked(self, instance: Instance, home_id: str) -> InstanceMark | None:
        if isinstance(instance.location, ServerLocation):
            return marked(instance, home_id)
        return instance_mark.read(instance.location)


def record(instance: Instance, owners: Sequence[Owner], *, durable: bool) -> Failures:
    """A row of a database that is not there is made, too: it says nothing of what is."""
    if not owners:
        return {}
    rows = ([item.database_id for item in owners], [item.key for item in owners], [item.text() for item in owners])
    try:
        with _opened(instance) as session:
            if not durable:
                session.execute("set synchronous_commit to off")
            _written(session, instance, _INSERT, rows)
            if isinstance(instance.location, ServerLocation):
                _mark(session, instance, owners[0].instance)
            session.execute("set synchronous_commit to on")
    except StorageFailed as error:
        return {item.database_id: str(error) for item in owners}
    return {}


def marked(instance: Instance, home_id: str) -> InstanceMark | None:
    """The instance of this home with this one's name and engine that has stored on the server. Raises StorageFailed."""
    with administering(instance) as session:
        found = session.execute(_SCHEMAS, (_SCHEMA,)).fetchall()
        marks = [each for (schema,) in found for each in _marks(session, schema)]
        apart = databases.named_like(session, f"{names.OWNERS}_")
    for name in apart:
        try:
            with administering_in(instance, name) as inside:
                marks += _marks(inside, _SCHEMA + name.partition("_")[2])
        except StorageFailed:  # another administrator's
            continue
    wanted = (home_id, instance.slug, instance.engine)
    return next((each for each in marks if (each.home_id, each.slug, each.engine) == wanted), None)


def claims(instance: Instance, keys: Collection[str]) -> dict[str, StoredDatabase]:
    with _opened(instance) as session:
        rows = _asked(
            session, instance, "select timeline, database_id from {table} where timeline = any(%s)", list(keys)
        )
    there = _there(instance, [DatabaseId(row[1]) for row in rows]) if rows else {}
    # of several that were this timeline's one after the other, the live one is its own
    claimed = [(key, there[found]) for key, text in rows if (found := DatabaseId(text)) in there]
    claimed.sort(key=lambda each: not each[1].archived)
    return dict(claimed)


def _there(instance: Instance, database_ids: Sequence[DatabaseId]) -> dict[DatabaseId, StoredDatabase]:
    """Those of these databases that are on the server."""
    kinds = {
        names.name(kind, instance.id, each): (each, kind)
        for kind in (names.ARCHIVED, names.LIVE)
        for each in database_ids
    }
    with administering(instance) as session:
        found = databases.there(session, kinds)
    owned = _owners(instance, database_ids)
    return {
        each: StoredDatabase(each, kind == names.ARCHIVED, f"{name} on {instance.location}", owned.get(each))
        for name, (each, kind) in kinds.items()
        if name in found
    }


def lost(instance: Instance, database_ids: Sequence[DatabaseId]) -> set[DatabaseId]:
    """Those that are not on the server, which is the one that has been stored on. Raises StorageFailed."""
    there = _there(instance, database_ids).keys()
    if not there:
        with _opened(instance) as session:
            row = session.execute("select to_regnamespace(%s) is not null", (_schema(instance),)).fetchone()
        if row is None or not row[0]:
            raise NothingStored(
                f"{instance.location} has nothing of the instance {instance.slug}: it is the wrong server, or it was wiped",
                f"If it is the wrong one, run: provisioner instance edit {instance.slug} --url URL."
                f" If its data is gone, run: provisioner instance edit {instance.slug} --wiped",
            )
    return set(database_ids) - there


def stored(
    instance: Instance, known: Callable[[], Collection[str]], is_empty: Callable[[Instance, str], bool]
) -> list[StoredDatabase]:
    with administering(instance) as session:
        there = [
            (names.id_of(name), kind == names.ARCHIVED, name)
            for kind in (names.LIVE, names.ARCHIVED)
            for name in databases.named_like(session, f"{kind}_{instance.id[:8]}_")
        ]
    ids = set(known())  # asked last: a row is written before its database is made
    unknown = [each for each in there if each[0] not in ids]
    owners = _owners(instance, [each[0] for each in unknown]) if unknown else {}
    return [
        StoredDatabase(database_id, archived, f"{name} on {instance.location}", owners.get(database_id))
        for database_id, archived, name in unknown
        if database_id in owners or not is_empty(instance, name)
    ]


def forget(instance: Instance, database: Database) -> None:
    """It was deleted. Raises StorageFailed."""
    with _opened(instance) as session:
        _asked(session, instance, "delete from {table} where database_id = %s returning timeline", database.id)


def drop(instance: Instance) -> None:
    """Remove the instance's last traces from the server. Raises StorageFailed."""
    with administering(instance) as session:
        session.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(_schema(instance))))
        databases.drop(session, _apart(instance))


def _owners(instance: Instance, database_ids: Sequence[DatabaseId]) -> dict[str, Owner]:
    with _opened(instance) as session:
        rows = _asked(
            session, instance, "select database_id, owner from {table} where database_id = any(%s)", list(database_ids)
        )
    return {row[0]: owner for row in rows if (owner := Owner.parse(row[1])) is not None}


_INSERT = """
  insert into {table} (database_id, timeline, owner) select * from unnest(%s::text[], %s::text[], %s::text[])
  on conflict (database_id) do update set timeline = excluded.timeline, owner = excluded.owner
"""
_MARK = """
  insert into {mark} (id, mark) values (%s, %s) on conflict (id) do update set mark = excluded.mark
  where mark.mark is distinct from excluded.mark
"""
_MADE = """
  create schema if not exists {schema};
  create table if not exists {table} (database_id text primary key, timeline text not null, owner text not null);
  create index if not exists owner_timeline on {table} (timeline);
  create table if not exists {mark} (id text primary key, mark text not null)
"""
_SCHEMAS = "select nspname from pg_namespace where starts_with(nspname, %s) order by nspname"


def _mark(session: Session, instance: Instance, instance_mark: InstanceMark) -> None:
    _written(session, instance, _MARK, (instance_mark.id, instance_mark.text()))


def _marks(session: Session, schema: str) -> list[InstanceMark]:
    try:
        rows = session.execute(sql.SQL("select mark from {}").format(sql.Identifier(schema, "mark"))).fetchall()
    except (*_MISSING, psycopg.errors.InsufficientPrivilege):
        return []
    return [found for row in rows if (found := InstanceMark.parse(row[0])) is not None]


def _written(session: Session, instance: Instance, words: str, values: Sequence[object]) -> None:
    """Do it, with the tables made first where they are missing."""
    statement = _named(instance, words)
    try:
        session.execute(statement, values)
    except _MISSING:
        session.execute(_named(instance, _MADE))
        session.execute(statement, values)


def _asked(session: Session, instance: Instance, words: str, value: object) -> list[tuple[str, ...]]:
    try:
        return session.execute(_named(instance, words), (value,)).fetchall()
    except _MISSING:
        return []


def _named(instance: Instance, words: str) -> sql.Composed:
    schema = _schema(instance)
    return sql.SQL(words).format(
        schema=sql.Identifier(schema), table=sql.Identifier(schema, "owner"), mark=sql.Identifier(schema, "mark")
    )


def _schema(instance: Instance) -> str:
    return _SCHEMA + instance.id[:8]


def _apart(instance: Instance) -> str:
    return f"{names.OWNERS}_{instance.id[:8]}"


@contextmanager
def _opened(instance: Instance) -> Iterator[Session]:
    """A session in the database that has the tables, or is to have them. Raises StorageFailed."""
    with administering(instance) as session:
        row = session.execute(_MAY, {"schema": _schema(instance), "apart": _apart(instance)}).fetchone()
        assert row is not None  # noqa: S101 - it selects no table
        here, apart = row
        if here:
            yield session
            return
        if not apart and not may_start():  # only looking: what is not there has no rows
            yield session
            return
        if not apart:
            _make_apart(instance, session)
    with administering_in(instance, _apart(instance)) as inside:
        yield inside


def _make_apart(instance: Instance, session: Session) -> None:
    """Create the database of the tables, unless another process just has. One whose creation was cut off has none yet."""
    name = _apart(instance)
    with databases.reserved(session, name):
        if not databases.is_ready(session, name):
            databases.drop(session, name)
            databases.make_empty(instance, session, name, session.info.user)


_MAY = """
  select exists (select from pg_namespace where nspname = %(schema)s)
    or has_database_privilege(current_database(), 'create'),
    exists (select from pg_database where datname = %(apart)s and datallowconn)
"""
