"""The logins of a database: its own role, and one for each timeline that shares it, which acts as the first.

So a share can end without those who use the database otherwise being disconnected.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import ShareId
from provisioner.core.model import Database, Instance
from provisioner.engines.postgres import lifecycle, names, roles
from provisioner.engines.postgres.access import eviction, limits
from provisioner.engines.postgres.administration import administering_in
from provisioner.engines.postgres.roles import Statement, statement
from provisioner.engines.postgres.schema_setup import SchemaSetup
from provisioner.engines.postgres.session import Session, admin_url, connected

_LEAVE_SECONDS = 10.0
_LOOK_SECONDS = 0.01


def renew(
    contents: SchemaSetup, instance: Instance, session: Session, database: Database, shares: Sequence[ShareId]
) -> None:
    """Let in who has what is valid now. End the sessions of all others, and roll back what their roles have prepared.

    Raises StorageFailed.
    """
    live = names.live(instance.id, database.id)
    passwords = {live: contents.password(instance, database)}
    for share in shares:
        role = names.of_share(instance.id, database.id, share)
        passwords[role] = roles.password(instance, database, database.token_generation, share)
    known = lifecycle.sharers(session, instance, database)
    gone = [role for role in known if role not in passwords]
    changed = [
        role for role in (live, *known) if role in passwords and not _opens(instance, live, role, passwords[role])
    ]
    statements = lifecycle.settled(contents, instance, session, database)
    for role, password in passwords.items():
        if role != live:
            statements += _let_in(session, instance, role, password, live)
    eviction.insist(instance, session, live, [*statements, *(roles.closed(role) for role in gone)])
    ended = [*changed, *gone]
    _end_sessions(session, live, ended, passwords)
    eviction.roll_back_prepared(instance, session, live, ended)  # it would keep its locks, as a session does
    for role in gone:
        _remove(instance, session, role, live)


def _opens(instance: Instance, database: str, role: str, password: str) -> bool:
    """Whether one can log in with it. If not, the password must change, or a program that could act as the role has changed
    it: its sessions must end."""
    try:
        connected(
            make_conninfo(admin_url(instance), dbname=database, user=role, password=password), instance.location
        ).close()
    except psycopg.Error:
        return False
    return True


def _let_in(session: Session, instance: Instance, role: str, password: str, live: str) -> list[Statement]:
    roles.make(session, role)
    return [
        statement("grant {live} to {role}", live=live, role=role),
        roles.opened(session, role, password),
        roles.granted(live, role),
        statement("alter role {role} in database {live} set role to {live}", role=role, live=live),
        *limits.imposed(session, instance, role),
    ]


def _end_sessions(session: Session, database: str, ended: Collection[str], allowed: Collection[str]) -> None:
    """Those of roles that were let in with something else, and of those that are not let in at all."""
    values = {"database": database, "ended": list(ended), "ours": names.OURS, "allowed": list(allowed)}
    session.execute(f"select pg_terminate_backend(pid) {_OTHERS}", values)
    patience = time.monotonic() + _LEAVE_SECONDS
    while session.execute(f"select 1 {_OTHERS}", values).fetchall():
        if time.monotonic() > patience:
            raise StorageFailed(f"programs stay connected to {database}", "End them, then try again")
        time.sleep(_LOOK_SECONDS)
        values["ended"] = [role for role in ended if role not in allowed]  # others may have come with what is valid


def _remove(instance: Instance, session: Session, role: str, live: str) -> None:
    """Its objects go to the other role. If that is locked, or they are elsewhere, the role stays without a login."""
    with administering_in(instance, live) as inside:
        try:
            roles.at_once(
                inside,
                [
                    sql.SQL("set local lock_timeout to 250"),
                    statement("reassign owned by {role} to {live}", role=role, live=live),
                    statement("drop owned by {role}", role=role),
                ],
            )
        except psycopg.errors.LockNotAvailable:
            return
    roles.retire(session, role)


_OTHERS = """
  from pg_stat_activity where datname = %(database)s
    and (usename = any(%(ended)s) or (usename ~ %(ours)s and usename <> all(%(allowed)s)))
"""
