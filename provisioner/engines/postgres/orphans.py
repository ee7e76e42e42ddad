"""What a power cut of the home can leave on a server: databases and roles that the registry does not know.

A row of a new database is written first, but not synced alone: nothing was acknowledged yet. Such a database is empty, and
no program was ever connected to it. Any other database that the registry does not know holds data and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from provisioner.core.model import Instance
from provisioner.engines.postgres import databases, names, roles
from provisioner.engines.postgres.session import Session

_KINDS = (names.LIVE, names.BESIDE, names.ARCHIVED)


IsEmpty = Callable[[Instance, str], bool]


def sweep(instance: Instance, session: Session, known: Callable[[], Collection[str]], is_empty: IsEmpty) -> list[str]:
    """Drop the unknown empty databases of an instance, and roles without any; the unknown others by their names."""
    databases.remove_unfinished(instance, session)
    starts = tuple(f"{kind}_{instance.id[:8]}_" for kind in _KINDS)
    there = [name for start in starts for name in databases.named_like(session, start)]
    rows = session.execute("select rolname from pg_roles where starts_with(rolname, 'pv')").fetchall()
    lonely = [row[0] for row in rows if row[0].startswith(starts) and row[0] not in there]
    ids = set(known())  # asked last: a row is written before its database is made
    kept = []
    for name in there:
        if names.id_of(name) in ids:
            continue
        if databases.sessions(session, name) or not is_empty(instance, name):
            kept.append(f"{name} on {instance.location}")
            continue
        databases.wait_until_left(session, name)
        databases.drop(session, name)
        roles.drop(session, name)
    for role in lonely:
        if names.id_of(role) not in ids and names.ARCHIVED + role[len(names.LIVE) :] not in there:
            roles.drop(session, role)
    return kept
