"""What older versions, or other settings, have left on a server, brought to what this one would have made."""

from __future__ import annotations

import psycopg
from psycopg import sql

from provisioner.core.model import Instance
from provisioner.engines.postgres import names, roles
from provisioner.engines.postgres.access import limits
from provisioner.engines.postgres.session import Session


def bring_up_to_date(instance: Instance, session: Session, *, limited: bool) -> None:
    """A question or two where there is nothing to do. What a program keeps locked is left for the next time."""
    named = session.execute(_COMMENTED, (f"^pv[a-z]?_{instance.id[:8]}_", names.NOTE)).fetchall()
    for (name,) in named:
        session.execute(sql.SQL("comment on database {} is null").format(roles.named(name)))
    if limited:
        wanted = limits.of(session, instance.allowance)
        for role, known in limits.unlimited(session, instance, wanted):
            _impose(session, limits.statements(role, wanted, known))


def _impose(session: Session, statements: list[roles.Statement]) -> None:
    try:
        roles.at_once(session, [sql.SQL("set local lock_timeout to 100"), *statements])
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedObject):
        return


# Older versions put the names of apps and branches there.
_COMMENTED = """
  select datname from pg_database join pg_shdescription on objoid = oid and classoid = 'pg_database'::regclass
  where datname ~ %s and not starts_with(description, %s)
"""
