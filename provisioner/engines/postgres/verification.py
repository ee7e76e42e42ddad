"""Whether the pages of a database can be read: some of them before its files are copied, all of them on request.

PostgreSQL looks at the head of each page that it reads, and at its checksum where the server keeps checksums. Nothing of
what a tenant has made is run: rows are counted, not shown.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final

import psycopg
from psycopg import sql

from provisioner.core.model import Instance
from provisioner.engines.postgres.session import Session, admin_url, connect, patiently, refusals

SAMPLE: Final = 16 << 20  # bytes of tables that are read before a copy
_DAMAGE: Final = (
    psycopg.errors.DataCorrupted,
    psycopg.errors.IndexCorrupted,
    psycopg.errors.InternalError_,
    psycopg.errors.IoError,
    psycopg.errors.UndefinedFile,
)


def damage(instance: Instance, database: str, most: int | None = None, on: Callable[[], None] | None = None) -> str:
    """The damage of a database, by its name on the server; empty if none is found. At most `most` bytes are read,
    of tables in proportion to their sizes; None: everything. `on` is called now and then. Raises StorageFailed."""
    with (
        closing(connect(instance, admin_url(instance), dbname=database)) as session,
        refusals(instance),
        patiently(session),
    ):
        session.execute("set row_security to off")  # a policy is a tenant's code: it is not run, but refused
        tables = session.execute(_TABLES).fetchall()
        whole = sum(size for *_, size in tables)
        percent = 100.0 if most is None or whole <= most else 100.0 * most / whole
        for schema, name, kind, _ in tables:
            if on is not None:
                on()
            if kind == "t" and percent < 100:  # of what is stored apart from its rows no sample can be taken
                continue
            if problem := _read(session, schema, name, percent):
                return problem
        return _indexes(session, on) if most is None else ""


_TABLES = """
  select nspname, relname, relkind::text, pg_relation_size(pg_class.oid)
  from pg_class join pg_namespace on pg_namespace.oid = relnamespace
  where relkind in ('r', 'm', 't') and relpersistence <> 't' order by 4 desc, 1, 2
"""


def _read(session: Session, schema: str, name: str, percent: float) -> str:
    """What is wrong with a table's pages, if all or some percent of them are read."""
    words = sql.SQL("select count(*) from {}.{}").format(sql.Identifier(schema), sql.Identifier(name))
    if percent < 100:
        words += sql.SQL(" tablesample system ({})").format(percent)
    try:
        session.execute(words)
    except _DAMAGE as error:
        return " ".join(str(error).split())
    except psycopg.errors.InsufficientPrivilege:
        return ""  # rows that the administrator may not see, on a server that was linked
    return ""


def _indexes(session: Session, on: Callable[[], None] | None) -> str:
    """What amcheck says of the indexes, if the database has that extension."""
    row = session.execute(_AMCHECK).fetchone()
    if row is None:
        return ""
    check = sql.SQL("select {}.bt_index_check(%s::oid::regclass)").format(sql.Identifier(row[0]))
    for (index,) in session.execute(_INDEXES).fetchall():
        if on is not None:
            on()
        try:
            with suppress(psycopg.errors.InsufficientPrivilege):
                session.execute(check, (index,))
        except _DAMAGE as error:
            return " ".join(str(error).split())
    return ""


_AMCHECK = """
  select nspname from pg_extension join pg_namespace on pg_namespace.oid = extnamespace where extname = 'amcheck'
"""
_INDEXES = """
  select pg_class.oid from pg_class join pg_index on indexrelid = pg_class.oid join pg_am on pg_am.oid = relam
  where amname = 'btree' and indisvalid and relkind = 'i' and relpersistence <> 't' order by 1
"""
