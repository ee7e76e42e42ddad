"""Ends statements that run longer than their instance allows, because a role can raise its own time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from provisioner.core.errors import ProvisionerError
from provisioner.engines.catalog import engine_of
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.service_thread import ServiceThread

EVERY_SECONDS: Final = 5.0


class LimitMonitor:
    """A thread. `log` gets what was ended, and the servers that do not answer."""

    def __init__(self, home: Home, log: Callable[..., None]) -> None:
        self._home, self._log = home, log
        self._thread = ServiceThread("limits", self._run)
        self._stopping = threading.Event()
        self._silent: set[str] = set()  # ids of instances that do not answer, which is logged once

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.stop()

    def _run(self) -> None:
        with Registry.open(self._home) as registry:
            while not self._stopping.wait(EVERY_SECONDS):
                for instance in registry.instances():
                    try:
                        ended = engine_of(instance).end_overlong(instance)
                    except ProvisionerError as error:
                        if instance.id not in self._silent:
                            self._log("warning", str(error), instance=instance.slug)
                        self._silent.add(instance.id)
                        continue
                    self._silent.discard(instance.id)
                    for line in ended:
                        self._log("warning", line, instance=instance.slug)
