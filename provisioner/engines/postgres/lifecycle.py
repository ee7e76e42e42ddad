"""The steps of one database's life on a server. Names change in one transaction: each is done, or it has not started."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from provisioner.core.errors import StorageFailed
from provisioner.core.model import Database, Instance
from provisioner.engines.postgres import databases, names, owners, roles
from provisioner.engines.postgres.access import eviction, limits
from provisioner.engines.postgres.administration import administering
from provisioner.engines.postgres.databases import renamed
from provisioner.engines.postgres.roles import statement
from provisioner.engines.postgres.schema_setup import SchemaSetup
from provisioner.engines.postgres.session import Session
from provisioner.engines.protocol.engine import Failures, Source
from provisioner.system import failpoints


def name_of(kind: str, instance: Instance, database: Database) -> str:
    return names.name(kind, instance.id, database.id)


def put_away(instance: Instance, session: Session, database: Database) -> str:
    live, archived = (name_of(kind, instance, database) for kind in (names.LIVE, names.ARCHIVED))
    found = databases.there(session, [live, archived])
    if live in found:
        roles.make(session, live)
        users = [live, *sharers(session, instance, database)]
        eviction.empty(instance, session, live, [roles.closed(role) for role in users])
        again = roles.connectable(archived)
        eviction.insist(instance, session, live, [renamed(live, archived), again])
        failpoints.point("archive.moved")
    elif database.connected_at is not None and archived not in found:
        return missing(instance, database)
    return ""


def settled(contents: SchemaSetup, instance: Instance, session: Session, database: Database) -> list[roles.Statement]:
    """See `roles.settled`; with the limits of the instance, and without members that the role has given itself."""
    statements = roles.settled(session, instance, database, contents.password(instance, database))
    role = name_of(names.LIVE, instance, database)
    for stranger in roles.strangers(session, instance, database):
        statements.append(statement("revoke {role} from {stranger} cascade", role=role, stranger=stranger))
    return statements + (limits.imposed(session, instance, role) if contents.limited else [])


def sharers(session: Session, instance: Instance, database: Database) -> list[str]:
    """The roles that timelines have which share a database."""
    start = f"{name_of(names.SHARER, instance, database)}_"
    found = session.execute("select rolname from pg_roles where starts_with(rolname, %s) order by 1", (start,))
    return [str(row[0]) for row in found.fetchall()]


def bring_back(contents: SchemaSetup, instance: Instance, session: Session, database: Database) -> None:
    live, archived = (name_of(kind, instance, database) for kind in (names.LIVE, names.ARCHIVED))
    statements = settled(contents, instance, session, database)
    eviction.insist(instance, session, archived, [renamed(archived, live), *statements])
    failpoints.point("recover.moved")


def delete(instance: Instance, session: Session, database: Database) -> str:
    role = name_of(names.LIVE, instance, database)
    if databases.there(session, [role]):
        return f"it is in use, though the registry has it as archived: {role} is on {instance.location}"
    for kind in (names.ARCHIVED, names.BESIDE):
        databases.drop(session, name_of(kind, instance, database))
    failpoints.point("purge.moved")
    for kind in (names.SNAPSHOT, names.BEGUN):
        for snapshot in databases.named_like(session, name_of(kind, instance, database) + "_"):
            databases.drop(session, snapshot)
            roles.drop(session, snapshot)
    roles.drop(session, name_of(names.BESIDE, instance, database))
    for sharer in sharers(session, instance, database):
        roles.retire(session, sharer)
    roles.retire(session, role)
    owners.forget(instance, database)
    failpoints.point("purge.removed")
    return ""


def take(contents: SchemaSetup, instance: Instance, session: Session, database: Database, spares: list[str]) -> None:
    """Give a database that waited for an owner to this one, or make one for it."""
    live = name_of(names.LIVE, instance, database)
    while True:
        spare = (
            spares.pop()
            if spares
            else databases.make_spare(instance, session, contents.furnish, limited=contents.limited)
        )
        failpoints.point("provision.written")
        try:
            roles.at_once(
                session,
                [
                    renamed(spare, live),
                    statement("alter role {spare} rename to {live}", spare=spare, live=live),
                    roles.opened(session, live, contents.password(instance, database)),
                ],
            )
        except psycopg.errors.InvalidCatalogName:  # another process has taken it
            continue
        except psycopg.errors.DuplicateObject:  # a role that was made for a fork, which was then not wanted
            roles.drop(session, live)
            spares.append(spare)
            continue
        failpoints.point("provision.renamed")
        return


def move_in(
    contents: SchemaSetup,
    instance: Instance,
    session: Session,
    database: Database,
    first: Sequence[roles.Statement] = (),
) -> None:
    """Move the new database into place, after the statements that come `first`: all of it or nothing."""
    live, beside = (name_of(kind, instance, database) for kind in (names.LIVE, names.BESIDE))
    statements = settled(contents, instance, session, database)
    eviction.insist(instance, session, live, [*first, renamed(beside, live), *statements])


def data_of(instance: Instance, session: Session, source: Source) -> str:
    """The database that holds the data, live or archived, or of a snapshot. Raises StorageFailed."""
    of = source.database
    if source.snapshot_id is not None:
        places = [names.name(names.SNAPSHOT, instance.id, of.id, source.snapshot_id)]
    else:
        places = [name_of(kind, instance, of) for kind in (names.LIVE, names.ARCHIVED)]
    found = databases.there(session, places)
    for name in places:
        if name in found:
            return name
    raise StorageFailed(missing(instance, of))


def problems(instance: Instance, wanted: Sequence[Database]) -> Failures:
    """What is wrong with databases, by their ids. One question, however many they are."""
    values = {
        "ids": [database.id for database in wanted],
        "names": [name_of(kind_of(database), instance, database) for database in wanted],
        "roles": [name_of(names.LIVE, instance, database) for database in wanted],
    }
    with administering(instance) as session:
        rows = session.execute(_STATES, values).fetchall()
    failures: Failures = {}
    live = {database.id for database in wanted if database.live}
    for database_id, name, there, open_to_role in rows:
        if not there:
            failures[database_id] = f"is missing: there is no database {name} on {instance.location}"
        elif database_id in live and not open_to_role:
            failures[database_id] = f"lets its role in no more: {name} on {instance.location}"
    return failures


_STATES = """
  select wanted.id, wanted.name, pg_database.oid is not null,
    datallowconn and rolcanlogin and has_database_privilege(pg_roles.oid, pg_database.oid, 'CONNECT')
  from unnest(%(ids)s::text[], %(names)s::text[], %(roles)s::text[]) as wanted (id, name, role)
  left join pg_database on datname = wanted.name left join pg_roles on rolname = wanted.role
"""


def size(instance: Instance, database: Database) -> int | None:
    """How many bytes a database has; None if it is not there."""
    with administering(instance) as session:
        row = session.execute(_SIZE, {"name": name_of(kind_of(database), instance, database)}).fetchone()
    return int(row[0]) if row else None


_SIZE = "select pg_database_size(oid) from pg_database where datname = %(name)s"


def kind_of(database: Database) -> str:
    """Under which kind of name the database is to be found."""
    return names.LIVE if database.live else names.ARCHIVED


def missing(instance: Instance, database: Database) -> str:
    name = names.live(instance.id, database.id)
    return (
        f"its data is missing: there is neither a database {name} on {instance.location} nor an archived one, and an empty"
        " one will not take its place. Restore it there"
    )
