"""Changing what programs are connected to: nothing waits for what they keep locked, for they are ended first.

A program can lock the rows of its role and of its database (`ALTER ROLE … SET`, `DROP OWNED`), and keep them locked when its
session has ended, by a transaction that it has prepared.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import psycopg
from psycopg import sql

from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines.postgres import databases, roles
from provisioner.engines.postgres.administration import administering_in
from provisioner.engines.postgres.roles import Statement, statement
from provisioner.engines.postgres.session import Session

_TRIES = 20
_LOCK_MS = 250  # the sessions that were ended need some milliseconds to leave
_LEAVE_SECONDS = 10.0
_IN_THE_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.ObjectInUse,
    psycopg.errors.DeadlockDetected,
)


def insist(instance: Instance, session: Session, database: str, statements: Sequence[Statement]) -> None:
    """Run statements in one transaction. Where programs in `database` are in their way, they are ended, and roll back.

    Raises StorageFailed where that does not help.
    """
    prompt = sql.SQL("set local lock_timeout to {}").format(_LOCK_MS)
    for _ in range(_TRIES):
        try:
            roles.at_once(session, [prompt, *statements])
        except _IN_THE_WAY:
            end_programs(instance, session, database)
        else:
            return
    raise StorageFailed(f"programs keep {database} locked", "End them, then try again")


def end_programs(instance: Instance, session: Session, database: str) -> None:
    """End the sessions in a database, and roll back what was prepared there to be committed later."""
    databases.end_sessions(session, database)
    if roll_back_prepared(instance, session, database):
        databases.wait_until_left(session, database)


def roll_back_prepared(
    instance: Instance, session: Session, database: str, owners: Collection[str] | None = None
) -> bool:
    """Roll back what was prepared in a database, by these roles or by any. Was there something?"""
    query = "select gid, owner from pg_prepared_xacts where database = %s and (%s::text[] is null or owner = any(%s))"
    wanted = None if owners is None else list(owners)
    prepared = session.execute(query, (database, wanted, wanted)).fetchall()
    if not prepared:
        return False
    with administering_in(instance, database) as inside:
        for gid, owner in prepared:
            try:
                if not roles.is_superuser(inside):
                    inside.execute(statement("set role {owner}", owner=owner))
                inside.execute(sql.SQL("rollback prepared {}").format(sql.Literal(gid)))
            except psycopg.errors.UndefinedObject:
                continue  # it has been committed in the meantime
    return True


def empty(instance: Instance, session: Session, database: str, first: Sequence[Statement] = ()) -> None:
    """Admit no further program, after the `first` statements, and end the sessions there are. Raises StorageFailed."""
    closed = statement("alter database {database} allow_connections false", database=database)
    patience = time.monotonic() + _LEAVE_SECONDS
    while True:
        end_programs(instance, session, database)
        insist(instance, session, database, [*first, closed])
        databases.end_sessions(session, database)
        databases.wait_until_left(session, database)
        prepared = session.execute("select 1 from pg_prepared_xacts where database = %s", (database,)).fetchall()
        if not prepared and not databases.sessions(session, database):
            return
        if time.monotonic() >= patience:
            raise StorageFailed(f"programs stay connected to {database}", "End them, then try again")
        session.execute(roles.connectable(database))
