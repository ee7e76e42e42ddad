"""Revoking the credentials that programs were given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from provisioner.core.clock import now_ms
from provisioner.core.counts import counted
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Database
from provisioner.hosting.router.access import PreviewAccess
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.reconcile.apply import renewals
from provisioner.registry import tokens
from provisioner.registry.home.follower_guard import must_lead
from provisioner.registry.store import Registry
from provisioner.system import secret_key


def revoke_injected(registry: Registry, database: Database) -> None:
    """Revoke what `exec` and `env` have injected for a database. Raises ProvisionerError."""
    tokens.raise_generation(registry, database.id, now_ms())
    renew(registry, [database])


def revoke(registry: Registry, databases: Iterable[Database]) -> Proposal:
    """Revoke what was injected for databases."""

    def do(_: ProgressReporter) -> Iterator[str]:
        for found in databases:
            revoke_injected(registry, found)
            yield f"Revoked the injected credentials of {found.name}. Restart its apps"

    return Proposal(do)


def rotate_key(registry: Registry) -> None:
    """Replace the home's key. Raises ProvisionerError if something that is derived from it could not be replaced."""
    must_lead(registry.home)
    secret_key.rotate(registry.home)
    PreviewAccess(registry.home).sweep(now_ms())
    renewals.settle_rotation(registry, now_ms())
    renew(registry, [database for app in registry.apps() for database in registry.databases(app.id)])


def renew(registry: Registry, databases: list[Database]) -> None:
    """Apply the currently valid credentials. Raises ProvisionerError if a database could not be changed."""
    problems = [(database, renewals.renew(registry, database.id, now_ms())) for database in databases]
    failed = [(database, problem) for database, problem in problems if problem]
    if failed:
        database, problem = failed[0]
        raise ProvisionerError(
            f"{counted(len(failed), 'database')} could not get a new password; {database.name}: {problem}",
            "Resolve this, then run: provisioner database fix --all",
        )
