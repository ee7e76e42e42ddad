"""Making worthless what was handed out to open databases."""

from __future__ import annotations

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Database, Status
from provisioner.engines.catalog import engine_of
from provisioner.registry import tokens
from provisioner.registry.follower_guard import must_lead
from provisioner.registry.store import Registry
from provisioner.system import secret_key


def revoke_injected(registry: Registry, database: Database) -> None:
    """What `exec` and `env` have injected for a database opens nothing any more. Raises ProvisionerError."""
    tokens.raise_generation(registry, database.id, now_ms())
    renew(registry, [database])


def rotate_key(registry: Registry) -> None:
    """Replace the home's key. Raises ProvisionerError where not everything that is derived from it could be replaced."""
    must_lead(registry.home)
    secret_key.rotate(registry.home)
    registry.record(now_ms(), "token.rotate-key", registry.who)
    renew(registry, [database for app in registry.apps() for database in registry.databases(app.id)])


def renew(registry: Registry, databases: list[Database]) -> None:
    """Let in who has what is valid now, and nobody else. Raises ProvisionerError where some could not be changed."""
    failed = []
    for database in databases:
        current = registry.database(database.id)
        if current is None or current.status is not Status.CONNECTED:
            continue  # it gets what is valid when it is connected
        instance = registry.storage_of(current)
        try:
            engine_of(instance).renew(instance, current)
        except ProvisionerError as refused:
            failed.append((current, refused))
    if failed:
        database, error = failed[0]
        raise ProvisionerError(
            f"{len(failed)} databases keep their old passwords; {database.name}: {error}",
            f"Mend that, then run: provisioner token revoke --database {database.id}",
        )
