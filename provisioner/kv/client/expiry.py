"""The collector: deletes what has expired, when it has expired.

Deno looks once a minute; here the next expiry is known, and only what other processes wrote may wait for a minute.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from provisioner.kv.errors import Closed, KvError
from provisioner.kv.rules.queue import seconds_until
from provisioner.kv.store import Store
from provisioner.system.service_thread import ServiceThread

LONGEST_WAIT: Final = 60.0

_log = logging.getLogger("provisioner.kv")


class Collector:
    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._next: int | None = None
        self._woken = threading.Event()
        self._closed = False
        self._thread = ServiceThread("kv expiry", self._run)
        self._thread.start()

    def expect(self, at: int) -> None:
        """Something expires at this time, milliseconds since 1970."""
        if self._next is None or at < self._next:
            self._next = at
            self._woken.set()

    def close(self) -> None:
        self._closed = True
        self._woken.set()
        self._thread.stop()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._woken.clear()
            now = self._clock()
            if self._next is not None and self._next <= now:
                self._next = None
            try:
                _, found = self._store.collect(now)
            except Closed:
                return
            except KvError as error:
                _log.error("expired entries could not be deleted, and will be tried again: %s", error)
                found = None
            if found is not None:
                self._next = found if self._next is None else min(found, self._next)
            self._woken.wait(min(seconds_until(self._clock(), self._next), LONGEST_WAIT))
