"""The total size of an instance's databases, measured in the background, a few at a time.

Ten thousand take a second of the interpreter's time. In one go, that would delay apps on the same server.
"""

from __future__ import annotations

import threading
from typing import Final

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import InstanceId
from provisioner.core.model import Instance, Status
from provisioner.engines.catalog import engine_of
from provisioner.registry.store import Registry
from provisioner.system.looking import starting_nothing

AT_ONCE: Final = 25  # some milliseconds
REST_SECONDS: Final = 0.02


class Sizes:
    """Bytes by the ids of instances, without those that do not report a size. For all threads."""

    def __init__(self) -> None:
        self._known: dict[InstanceId, int] = {}
        self._ended = threading.Event()

    def known(self) -> dict[InstanceId, int]:
        """As of the last complete round."""
        return self._known

    def look(self, registry: Registry) -> int:
        """Measure all databases. Returns their total size, up to the point where it was stopped."""
        sizes = {instance.id: self._of_instance(registry, instance) for instance in registry.instances()}
        found = {instance_id: size for instance_id, size in sizes.items() if size is not None}
        if not self._ended.is_set():
            self._known = found
        return sum(found.values())

    def end(self) -> None:
        self._ended.set()

    def _of_instance(self, registry: Registry, instance: Instance) -> int | None:
        try:
            ends = {moved: instance.storage(moved=moved) for moved in (False, True)}
            engines = {moved: engine_of(storage) for moved, storage in ends.items()}
        except StorageFailed:  # its library is not installed, which the instance's page reports
            return None
        sizes = []
        for number, database_id in enumerate(registry.database_ids(instance.id), 1):
            database = registry.database(database_id)
            if database is None or database.status is Status.PURGED or database.connected_at is None:
                continue
            with starting_nothing():
                sizes.append(engines[database.moved].inspect(ends[database.moved], database).size)
            if not number % AT_ONCE and self._ended.wait(REST_SECONDS):
                break
        told = [size for size in sizes if size is not None]
        return sum(told) if told or not sizes else None
