"""What a daemon looks at once, when it starts: is what is stored what the registry has?"""

from __future__ import annotations

from functools import partial

from provisioner.core.clock import now_ms
from provisioner.core.errors import summary
from provisioner.daemon.looks import Log
from provisioner.engines.catalog import engine_of
from provisioner.reconcile.changes import found_databases
from provisioner.registry.store import Registry


def look_through(registry: Registry, log: Log) -> None:
    """Disconnect what the registry has otherwise than it says of itself, and tell of what the registry does not have."""
    for instance in registry.instances():
        unknown: list[str] = []
        try:
            for line in found_databases.disconnect(registry, instance, now_ms()):
                log("error", line, instance=instance.slug)
            if not instance.moving:  # what lies there is accounted for when it is all moved
                unknown = engine_of(instance).sweep(instance, partial(registry.database_ids, instance.id))
        except Exception as error:  # of one instance: the others are watched all the same
            log("warning", summary(error), instance=instance.slug)
            continue
        for path in unknown:
            log("warning", f"the registry does not know {path}; it is left alone", instance=instance.slug)
