"""The check at the start of a daemon: whether the stored databases are those in the registry."""

from __future__ import annotations

from functools import partial

from provisioner.core.clock import now_ms
from provisioner.core.errors import summary
from provisioner.daemon.looks import Log
from provisioner.engines.catalog import engine_of
from provisioner.reconcile.changes import found_databases
from provisioner.registry.store import Registry


def look_through(registry: Registry, log: Log) -> None:
    """Disconnect databases whose owner record contradicts the registry, and log those that are missing from the registry."""
    for instance in registry.instances():
        unknown: list[str] = []
        try:
            for line in found_databases.disconnect(registry, instance, now_ms()):
                log("error", line, instance=instance.slug)
            if not instance.moving:  # the databases there are checked when all have moved
                unknown = engine_of(instance).sweep(instance, partial(registry.database_ids, instance.id))
        except Exception as error:  # of one instance: the others are watched all the same
            log("warning", summary(error), instance=instance.slug)
            continue
        for path in unknown:
            log("warning", f"{path} is not in the registry and stays as it is", instance=instance.slug)
