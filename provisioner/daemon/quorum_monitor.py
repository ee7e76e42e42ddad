"""Checks regularly whether servers keep writes on enough nodes, so that recovery does not wait for the next event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.core.ids import AppId
from provisioner.core.model import Instance
from provisioner.engines.catalog import engine_of
from provisioner.registry.instances import call_broken, retry_now
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.service_thread import ServiceThread

EVERY_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0  # while a quorum is missing
BROKEN_SECONDS: Final = 10.0  # a standby needs some of them to follow a new primary
SILENT_SECONDS: Final = 60.0  # a server that no one can reach keeps no quorum; another node may be about to take over

Place = tuple[str, str]
"""An instance's id, and one of the locations that it has during a move."""


class QuorumMonitor:
    """A thread. `wake` is called with each app of an instance whose quorum is lost or back; `log` gets that too.


    A short loss during a takeover in a cluster does not count.
    """

    def __init__(self, home: Home, wake: Callable[[AppId], None], log: Callable[..., None]) -> None:
        self._home, self._wake, self._log = home, wake, log
        self._thread = ServiceThread("quorum monitor", self._run)
        self._broken: set[Place] = set()
        self._since: dict[Place, float] = {}  # when a problem was first found
        self._stopping = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """It ends on its own: a server that does not answer must not keep the daemon from ending."""
        self._stopping.set()
        self._thread.stop()

    def _run(self) -> None:
        with Registry.open(self._home) as registry:
            while not self._stopping.wait(AGAIN_SECONDS if self._since else EVERY_SECONDS):
                try:
                    self._look(registry)
                except ProvisionerError as error:
                    self._log("warning", str(error))

    def _look(self, registry: Registry) -> None:
        looked_at = {
            (one.id, one.storage(moved=moved).location): (one.storage(moved=moved), moved)
            for one in registry.instances()
            for moved in (False, True)
            if one.moving or not moved
        }
        for forgotten in self._since.keys() - looked_at.keys():
            del self._since[forgotten]
        for place, (instance, moved) in looked_at.items():
            problem, patience = _problem(instance)
            if not problem:
                self._since.pop(place, None)
            elif time.monotonic() - self._since.setdefault(place, time.monotonic()) < patience:
                continue
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


def _problem(instance: Instance) -> tuple[str, float]:
    """The problem, empty if there is none; and for how many seconds it may last."""
    if not instance.require_quorum:
        return "", 0
    try:
        kept = engine_of(instance).kept(instance)
    except StorageFailed as error:
        return str(error), SILENT_SECONDS
    return (kept.problem, BROKEN_SECONDS) if kept is not None else ("", 0)
