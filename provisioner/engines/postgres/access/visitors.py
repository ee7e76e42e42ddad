"""Roles that work in one database for a while, as its owner: to load a dump into it, or to run a command on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from provisioner.core.model import Instance
from provisioner.engines.postgres import databases, roles
from provisioner.engines.postgres.administration import administering_in
from provisioner.engines.postgres.roles import statement
from provisioner.engines.postgres.session import (
    Session,
    admin_url,
    connected,
    patiently,
    refusals,
    variables_for_tools,
)
from provisioner.kv.stores.postgres.connection import FOR_EVER


@contextmanager
def visited(instance: Instance, session: Session, database: str, owner: str) -> Iterator[dict[str, str]]:
    """Variables of a role for this block that may do in a database what its owner may, and has its password for itself.

    All that it makes is the owner's.
    """
    try:
        password = let_in(session, database, owner)
        yield variables_for_tools(instance, database) | {"PGUSER": database, "PGPASSWORD": password}
    finally:
        databases.wait_until_left(session, database)
        remove_visitor(instance, session, database, owner)


@contextmanager
def visiting(instance: Instance, session: Session, database: str, owner: str) -> Iterator[Session]:
    """A session of such a role, for this block."""
    with visited(instance, session, database, owner) as variables, connected_as(instance, variables) as visitor:
        yield visitor


@contextmanager
def connected_as(instance: Instance, variables: dict[str, str]) -> Iterator[Session]:
    """A session of the role that these variables name, whose statements may take as long as they like."""
    names = {"dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD"}
    options = {word: variables[name] for word, name in names.items()}
    with refusals(instance):
        visitor = connected(admin_url(instance), instance.location, **options)
    with closing(visitor):
        visitor.longest = FOR_EVER
        yield visitor


def let_in(session: Session, database: str, owner: str) -> str:
    """Make a role of the database's name that acts as its owner there: its password."""
    password = roles.make_visitor(session, database, owner)
    acts_as = statement("alter role {role} in database {role} set role to {owner}", role=database, owner=owner)
    grants = [roles.granted(database, database), roles.granted(database, owner), roles.kept_out(database, owner)]
    roles.at_once(session, [acts_as, *grants])
    return password


def remove_visitor(instance: Instance, session: Session, database: str, owner: str) -> None:
    """Drop the role that was let in to a database; what it made there is the owner's."""
    if not roles.exists(session, database):
        return
    if databases.there(session, [database]):
        with administering_in(instance, database) as inside, patiently(inside):
            roles.at_once(
                inside,
                [
                    statement("reassign owned by {visitor} to {owner}", visitor=database, owner=owner),
                    statement("drop owned by {visitor}", visitor=database),
                ],
            )
    roles.drop(session, database)
