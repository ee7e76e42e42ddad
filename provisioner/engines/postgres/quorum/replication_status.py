"""Asks a server what its replication is like, and how long a commit takes that waits for its standbys."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import psycopg

from provisioner.engines.postgres.quorum.quorum_status import Follower, Override, Replica, Replication

Session: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# The session's own value is the one that we have set; `reset_val` is what it began with.
_SERVER = """
  select current_user, pg_has_role(current_user, 'pg_read_all_stats', 'usage'), pg_is_in_recovery(),
    current_setting('fsync')::bool, current_setting('synchronous_standby_names'),
    (select reset_val from pg_settings where name = 'synchronous_commit')
"""
_OVERRIDES = """
  select coalesce(datname, ''), coalesce(rolname, ''), split_part(setting, '=', 2)
  from pg_db_role_setting cross join unnest(setconfig) setting
    left join pg_database on pg_database.oid = setdatabase left join pg_roles on pg_roles.oid = setrole
  where starts_with(lower(setting), 'synchronous_commit=')
    and (setdatabase = 0 or starts_with(datname, 'pv')) and (setrole = 0 or starts_with(rolname, 'pv'))
  order by 1, 2
"""
_REPLICAS = """
  select application_name, coalesce(host(client_addr), ''), slot_type, state, sync_state,
    pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::bigint, extract(epoch from flush_lag)::float
  from pg_stat_replication left join pg_replication_slots on active_pid = pid
  order by application_name, client_addr, client_port
"""
_PROGRAMS = ("pg_receivewal", "pg_basebackup", "pg_recvlogical", "barman_receive_wal")


def replication(session: Session) -> Replication:
    """What the server of the session says of its replication. Raises psycopg.Error."""
    row = session.execute(_SERVER).fetchone()
    if row is None:
        raise AssertionError
    user, sees, in_recovery, fsync, names, commit = row
    if in_recovery:
        return Replication(user, sees, True, fsync, names, commit)
    overrides = tuple(Override(*each) for each in session.execute(_OVERRIDES).fetchall())
    replicas = tuple(map(_replica, session.execute(_REPLICAS).fetchall())) if sees else ()
    return Replication(user, sees, False, fsync, names, commit, overrides, replicas)


def _replica(row: Sequence[Any]) -> Replica:
    name, address, slot, state, sync, behind, late = row
    follower = Follower.STANDBY
    if slot == "logical":
        follower = Follower.SUBSCRIBER
    elif name in _PROGRAMS:
        follower = Follower.RECEIVER
    return Replica(name, address, follower, state, sync, behind, late)


def acknowledged(session: Session, seconds: float) -> float | None:
    """How many seconds a commit takes that changes nothing; None where too few standbys have acknowledged it in time.

    Only that shows a standby that was cut off a moment ago: for a minute the primary takes it for a slow one.
    """
    # A wait that is canceled ends as if it had been acknowledged, with no more than a warning: the time decides.
    ended = threading.Event()

    def cancel() -> None:
        ended.set()
        session.cancel_safe()

    limit = threading.Timer(seconds, cancel)
    begun = time.monotonic()
    limit.start()
    try:
        session.execute("select pg_logical_emit_message(true, 'provisioner', '')")
    except psycopg.errors.QueryCanceled:
        return None
    finally:
        took = time.monotonic() - begun
        limit.cancel()
        limit.join()  # else it might end the next statement
    return None if ended.is_set() else took
