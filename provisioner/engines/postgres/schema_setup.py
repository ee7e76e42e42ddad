"""What the databases of an instance on a server have in them from the start, and what their roles log in with."""

from __future__ import annotations

from typing import Protocol

from provisioner.core.model import Database, Instance
from provisioner.engines.postgres import databases, roles
from provisioner.engines.postgres.session import Session


class SchemaSetup(Protocol):
    limited: bool
    """Apps log in to the databases themselves, so that their roles have to have limits."""

    def furnish(self, inside: Session, name: str, owner: str) -> None:
        """See `databases.Furnish`."""

    def is_empty(self, instance: Instance, name: str) -> bool:
        """Whether nothing was ever stored in the database of this name. Raises StorageFailed."""

    def password(self, instance: Instance, database: Database) -> str:
        """What its role logs in with. Raises StorageFailed where the home's key cannot be read."""


class EmptySchema:
    """Nothing but what PostgreSQL has in a new database."""

    limited = True

    def furnish(self, inside: Session, name: str, owner: str) -> None:
        databases.bare(inside, name, owner)

    def is_empty(self, instance: Instance, name: str) -> bool:
        return databases.is_empty(instance, name)

    def password(self, instance: Instance, database: Database) -> str:
        return roles.password(instance, database, database.token_generation)
