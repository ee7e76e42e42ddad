"""How large the databases of an instance are together: looked at in the background, for ten thousand take a second."""

from __future__ import annotations

import threading

from provisioner.engines.table import ENGINES
from provisioner.model import Database, Instance
from provisioner.registry.store import Registry


class Sizes:
    """Bytes by the ids of instances. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, int] = {}

    def known(self) -> dict[str, int]:
        with self._lock:
            return dict(self._known)

    def look(self, registry: Registry) -> int:
        """Look at all databases there are; how large they are together."""
        found = {instance.id: 0 for instance in registry.instances()}
        for app in registry.apps():
            instances: dict[str, Instance] = {}
            for database in registry.databases(app.id):
                if database.instance_id not in instances:
                    instances[database.instance_id] = registry.instance_of(database.instance_id)
                size = size_of(instances[database.instance_id], database)
                found[database.instance_id] = found.get(database.instance_id, 0) + size
        with self._lock:
            self._known = found
        return sum(found.values())


def size_of(instance: Instance, database: Database) -> int:
    if database.connected_at is None:
        return 0
    return ENGINES[instance.engine].inspect(instance, database).size or 0
