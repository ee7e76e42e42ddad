"""Telling the server of a database who may log in."""

from __future__ import annotations

from provisioner.core.errors import summary
from provisioner.core.ids import DatabaseId
from provisioner.core.model import Status, StepFailure
from provisioner.engines.catalog import engine_of
from provisioner.reconcile.plan.retry_delay import retry_at
from provisioner.registry import tokens
from provisioner.registry.store import Registry
from provisioner.system import secret_key


def settle_rotation(registry: Registry, now: int) -> None:
    """Complete the replacement of the home's key: every database needs logins that are derived from the new one."""
    before = secret_key.unfinished_rotation(registry.home)
    if before is None:
        return
    with registry.change():
        tokens.renew_all(registry)
        registry.record(now, "token.rotate-key", registry.who)
    secret_key.rotation_done(registry.home, before)


def renew(registry: Registry, database_id: DatabaseId, now: int) -> str:
    """Let in who has what is valid now, and end the sessions of all others: why not, empty where that is done.

    A database that is not connected gets what is valid when it is.
    """
    database = registry.database(database_id)
    if database is None or database.status is not Status.CONNECTED:
        return ""
    instance = registry.storage_of(database)
    try:
        engine_of(instance).renew(instance, database, tokens.sharers(registry, database_id))
    except Exception as error:  # whatever it is, it is this one's failure
        attempts = database.attempts + 1
        problem = f"programs may still be connected that should not be: {summary(error)}"
        registry.save_databases([database.with_failure(StepFailure(problem, attempts, retry_at(attempts, now)))])
        return problem
    with registry.change():
        tokens.mark_renewed(registry, [database])
        if database.error is not None and database.intent is None:
            registry.save_databases([database.with_failure(None)])
    return ""
