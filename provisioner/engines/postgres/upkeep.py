"""What older versions have left on a server, brought to what this one would have made."""

from __future__ import annotations

from psycopg import sql

from provisioner.core.model import Instance
from provisioner.engines.postgres import names, roles
from provisioner.engines.postgres.session import Session


def bring_up_to_date(instance: Instance, session: Session) -> None:
    """One question where there is nothing to do."""
    named = session.execute(_COMMENTED, (f"^pv[a-z]?_{instance.id[:8]}_", names.NOTE)).fetchall()
    for (name,) in named:
        session.execute(sql.SQL("comment on database {} is null").format(roles.named(name)))


# Older versions put the names of apps and branches there.
_COMMENTED = """
  select datname from pg_database join pg_shdescription on objoid = oid and classoid = 'pg_database'::regclass
  where datname ~ %s and not starts_with(description, %s)
"""
