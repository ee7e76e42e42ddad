"""Databases that are created ahead, in idle moments, so that new branches have theirs at once."""

from __future__ import annotations

from provisioner.core.errors import summary
from provisioner.core.ids import InstanceId
from provisioner.daemon.looks import Log
from provisioner.engines.catalog import engine_of
from provisioner.reconcile.apply.ownership import settle_everywhere
from provisioner.registry.store import Registry

LEAST_SPARES, MOST_SPARES = 16, 1024  # also for repositories with pushes: a push may bring any number of branches


class SpareStock:
    """In proportion to the databases that exist. `pushed_to`: a hook has handed a push over since the start."""

    def __init__(self, log: Log) -> None:
        self.pushed_to = False
        self._log = log
        self._short: dict[InstanceId, int] = {}  # the live databases of the instances that may lack spares
        self._uncounted = False

    @property
    def due(self) -> bool:
        """May any be missing?"""
        return bool(self._short) or self._uncounted

    def recount(self) -> None:
        """Databases were created, perhaps from spares. They are counted when nothing waits for it."""
        self._uncounted = True

    def stock(self, registry: Registry) -> None:
        """Create some."""
        if self._uncounted:
            self._short, self._uncounted = registry.live_databases(), False
        if not self._short:
            return
        instance_id, live = self._short.popitem()
        instance = registry.instance_of(instance_id).storage(moved=True)
        wanted = MOST_SPARES if self.pushed_to else min(max(live, LEAST_SPARES), MOST_SPARES)
        try:
            if engine_of(instance).stock(instance, wanted):
                self._short[instance_id] = live
            elif not self._short:
                settle_everywhere(registry)
        except Exception as error:  # of one instance: the others are looked after all the same
            self._log("warning", summary(error), instance=instance.slug)
