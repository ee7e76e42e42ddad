"""Looks again and again whether servers keep what was asked of them, so that nobody has to wait for the next event."""

from __future__ import annotations

import threading
from collections.abc import Callable

from provisioner.clock import now_ms
from provisioner.config import Home
from provisioner.engines.table import engine_of
from provisioner.errors import ProvisionerError, StorageFailed
from provisioner.model import Instance
from provisioner.registry.instances import call_broken, retry_now
from provisioner.registry.store import Registry

EVERY_SECONDS = 5.0


class Watch(threading.Thread):
    """`wake` is called with each app of an instance that has begun, or ceased, to keep its promise; `log` is told of it."""

    def __init__(self, home: Home, wake: Callable[[str], None], log: Callable[..., None]) -> None:
        super().__init__(
            name="promises", daemon=True
        )  # a server that does not answer must not keep the daemon from ending
        self._home, self._wake, self._log = home, wake, log
        self._broken: set[tuple[str, str]] = set()  # by id and location
        self._stopping = threading.Event()

    def close(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        with Registry.open(self._home) as registry:
            while not self._stopping.wait(EVERY_SECONDS):
                try:
                    self._look(registry)
                except ProvisionerError as error:
                    self._log("warning", str(error))

    def _look(self, registry: Registry) -> None:
        ends = [(each, moved) for each in registry.instances() for moved in (False, True) if each.moving or not moved]
        for whole, moved in ends:
            instance = whole.storage(moved=moved)
            place = (instance.id, instance.location)
            if not instance.require_quorum and place not in self._broken:
                continue
            problem = _problem(instance)
            if bool(problem) == (place in self._broken):
                continue
            if problem:
                self._broken.add(place)
                call_broken(registry, instance, now_ms(), problem, moved=moved)
                self._log("error", problem, instance=instance.slug)
            else:
                self._broken.discard(place)
                retry_now(registry, instance)
                self._log("info", "keeps every write on enough nodes again", instance=instance.slug)
            for app in registry.apps():
                if any(item.id == instance.id for item in registry.assigned(app.id)):
                    self._wake(app.id)


def _problem(instance: Instance) -> str:
    if not instance.require_quorum:
        return ""
    try:
        kept = engine_of(instance).kept(instance)
    except StorageFailed as error:
        return str(error)
    return kept.problem if kept is not None else ""
