"""Copies of a database on its server while programs use it: none is disconnected, or kept waiting for long.

PostgreSQL copies the files of a database without connections, and admits none during that; that is fast. So it is
tried if no program is connected, and given up when one connects and would wait. Otherwise the copy is a dump, which is
consistent whatever is written at the same time, and restored by a role without other rights, because the dump contains
code (in checks and indexes) of the person who created the source.
"""

from __future__ import annotations

import os
import tempfile
import threading

import psycopg
from psycopg import sql

from provisioner.core.connection import ServerLocation
from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines.postgres import databases, roles, verification
from provisioner.engines.postgres.administration import administering, administering_in
from provisioner.engines.postgres.dump import extensions, pg_dump, restore
from provisioner.engines.postgres.dump.script import Extension
from provisioner.engines.postgres.roles import named, statement
from provisioner.engines.postgres.session import (
    Session,
    patiently,
)
from provisioner.engines.protocol import location
from provisioner.engines.protocol.engine import CopyResult
from provisioner.kv import reflink
from provisioner.system import failpoints, temp_dirs
from provisioner.system.home import Home

BY_FILES = "its files were copied, because no program was connected"
BY_DUMP = "from a dump, because programs are connected, which were not disturbed"

_LONGEST_WAIT = 0.5  # seconds that a connecting program may have to wait
_LOOK_SECONDS = 0.05
_SMALL = 24 << 20  # bytes up to which writing the copy to the log is faster than two checkpoints
_BLOCK = 4096
_JOBS = "2"


def copy(instance: Instance, source: str, target: str, *, old: str, new: str) -> CopyResult:
    """Make the database `target` a copy of `source` in which all that was the role `old`'s is the role `new`'s.

    Only the administrator can connect to it. Raises StorageFailed, and then leaves the rest for the caller to drop.
    """
    with administering(instance) as session:
        databases.drop(session, target)
        size = databases.size(session, source)
        if not databases.there(session, [source]):
            raise StorageFailed(f"the database {source} is missing on {instance.location}", "Restore it there")
        roles.make(session, new)
        with databases.reserved(session, target):
            by_files = _by_files(instance, session, source, target, size)
        if by_files:
            failpoints.point("postgres.copied")
            with administering_in(instance, target) as inside, patiently(inside):
                roles.hand_over(inside, old, new, target)
            how = BY_FILES
        else:
            _by_dump(instance, session, source, target, old=old, new=new)
            how = BY_DUMP
        databases.wait_until_left(session, target)
        failpoints.point("postgres.owned")
        return CopyResult(None, databases.size(session, target), 0.0, how)


def _by_files(instance: Instance, session: Session, source: str, target: str, size: int) -> bool:
    """False if a program is connected, or came and would have waited: nothing is left of the copy then."""
    if databases.sessions(session, source):
        return False
    if problem := verification.damage(instance, source, verification.SAMPLE):
        raise StorageFailed(
            f"the database {source} on {instance.location} is damaged: {problem}. Nothing was changed",
            "Restore a snapshot of it, or a backup of the server. Read all databases: provisioner doctor --deep",
        )
    databases.wait_until_left(session, source)
    options = sql.SQL("template {}").format(named(source))
    if session.info.server_version >= 150000:
        options += sql.SQL(" strategy wal_log" if size < _SMALL else " strategy file_copy")
    if session.info.server_version >= 180000:
        session.execute(f"set file_copy_method to {'clone' if _may_share_blocks(instance) else 'copy'}")
    refused: list[psycopg.Error] = []

    def work() -> None:
        try:
            databases.create(session, target, options)
        except psycopg.Error as error:
            refused.append(error)

    thread = threading.Thread(target=work, name="clone")
    thread.start()
    waited = 0.0
    with administering(instance) as watching:
        thread.join(_LOOK_SECONDS)
        while thread.is_alive():
            waited = waited + _LOOK_SECONDS if _kept_waiting(watching, source) else 0.0
            if waited >= _LONGEST_WAIT:
                session.cancel_safe()
            thread.join(_LOOK_SECONDS)
    if not refused:
        return True
    if isinstance(refused[0], psycopg.errors.ObjectInUse | psycopg.errors.QueryCanceled):
        databases.drop(session, target)
        return False
    raise refused[0]


def _may_share_blocks(instance: Instance) -> bool:
    """On a server elsewhere it is unknown. If blocks cannot be shared, cloning takes a quarter longer than copying."""
    if isinstance(instance.location, ServerLocation):
        return True
    try:
        with tempfile.TemporaryDirectory(
            prefix="probe-", dir=os.path.dirname(location.data_of(instance.location))
        ) as beside:
            with open(os.path.join(beside, "one"), "xb") as one:
                one.write(bytes(_BLOCK))
            with open(one.name, "rb") as written:
                return reflink.copy(written.fileno(), os.path.join(beside, "two"))
    except OSError:
        return False


def _kept_waiting(watching: Session, source: str) -> bool:
    """Whether a program waits for the copy to end; or the copy for a program, while others wait for the copy."""
    row = watching.execute(_WAITING, {"source": source}).fetchone()
    return row is not None and bool(row[0])


_WAITING = """
  select exists (
    select 1 from pg_locks where not granted and locktype = 'object' and classid = 'pg_database'::regclass
      and objid = (select oid from pg_database where datname = %(source)s)
    union all select 1 from pg_stat_activity where datname = %(source)s
      and backend_type is distinct from 'autovacuum worker'
  )
"""


def _by_dump(instance: Instance, session: Session, source: str, target: str, *, old: str, new: str) -> None:
    with temp_dirs.directory(Home(instance.home)) as directory:
        dump = os.path.join(directory, "dump")
        options = ("--format=directory", f"--jobs={_JOBS}", "--compress=0", "--no-sync", f"--file={dump}")
        pg_dump.run(instance, session, source, options, f"copying {source}")
        _make_like(instance, session, source, target, new)
        restore.restore(instance, session, dump, target, owner=new, jobs=_JOBS)
        failpoints.point("postgres.copied")
        with administering_in(instance, target) as inside, patiently(inside):
            roles.hand_over(inside, old, new, target)


def _make_like(instance: Instance, session: Session, source: str, target: str, owner: str) -> None:
    """An empty database with the encoding, the locale and the extensions of another."""
    row = session.execute(
        "select pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(pg_database) from pg_database"
        " where datname = %s",
        (source,),
    ).fetchone()
    assert row is not None  # noqa: S101 - it has just been copied
    encoding, collate, ctype, more = row
    options = sql.SQL("template template0 encoding {} lc_collate {} lc_ctype {}").format(encoding, collate, ctype)
    if more.get("datlocprovider") == "i":
        locale = more.get("datlocale") or more.get("daticulocale")
        options += sql.SQL(" locale_provider icu icu_locale {}").format(locale)
    with databases.reserved(session, target):
        databases.create(session, target, options)
    failpoints.point("postgres.created")
    databases.give_public(instance, session, target, owner)
    with administering_in(instance, source) as inside:
        known = inside.execute(
            "select extname, nspname from pg_extension join pg_namespace on pg_namespace.oid = extnamespace"
            " where extname <> 'plpgsql'"
        ).fetchall()
    with administering_in(instance, target) as inside:
        for schema in {schema for _, schema in known} - {*databases.INITIAL_SCHEMAS}:
            made = "create schema if not exists {schema}; alter schema {schema} owner to {owner}"
            inside.execute(statement(made, schema=schema, owner=owner))
    extensions.make(instance, target, owner, [Extension(name, schema) for name, schema in known], foreign=False)
    databases.wait_until_left(session, target)
