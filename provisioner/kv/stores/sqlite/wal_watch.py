"""Hears of commits by other processes: SQLite appends each one to the write-ahead log beside the database.

The operating system reports that the log was written, which happens a moment before the commit can be read. So after a
report the store is read, again and again with longer pauses, until it knows that nothing is in progress. One
thread and one inotify instance serve all stores of a process, since a user may have 128 instances.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, Protocol

from provisioner.system.service_thread import ServiceThread

FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.016
PATIENCE: Final = 5.0  # seconds without another report, after which looks become rare
RARE: Final = 0.25
POLL: Final = 0.02  # seconds between looks where the operating system reports nothing

_log = logging.getLogger("provisioner.kv")


class WalWatcher:
    """Calls `look` after each write to the log file, until it answers True: that no commit is on the way.

    `look` is given the seconds for which there was no other write. It is called from one thread, which serves all
    watchers, so it must not wait; it may still be running when `close` returns.
    """

    __slots__ = ("_hub", "closed", "due", "handle", "log", "look", "pause", "waited")

    def __init__(self, log: str, look: Callable[[float], bool]) -> None:
        self.log = log
        self.look = look
        self.closed = False
        self.due: float | None = None
        self.pause = self.waited = 0.0
        self.handle: Hashable | None = None
        self._hub = _hub()
        self._hub.add(self)

    @property
    def polls(self) -> bool:
        """The operating system refused to report: the limit of watches or of open files is reached."""
        return self.handle is None

    def close(self) -> None:
        self.closed = True
        self._hub.remove(self)


class Reports(Protocol):
    """What the operating system tells. `fileno` can be read from when there is something to `read`."""

    def fileno(self) -> int: ...

    def add(self, log: str) -> Hashable:
        """What stands for the file in `read`; the same for the same file. Raises OSError."""

    def remove(self, handle: Hashable) -> None: ...

    def read(self) -> Iterable[Hashable] | None:
        """The files that were written to; None where reports were lost, so it may have been any."""


class Hub:
    def __init__(self, reports: Callable[[], Reports]) -> None:
        self.pid = os.getpid()
        self._open_reports = reports
        self._reports: Reports | None = None
        self._lock = threading.Lock()
        self._watchers: dict[Hashable, set[WalWatcher]] = {}
        self._polled: list[WalWatcher] = []  # newly added
        self._looks: list[tuple[float, int, WalWatcher]] = []
        self._numbers = itertools.count()
        self._told, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        self._poller = select.poll()
        self._poller.register(self._told, select.POLLIN)
        ServiceThread("kv watcher", self._run).start()

    def add(self, watcher: WalWatcher) -> None:
        with self._lock:
            try:
                if self._reports is None:
                    self._reports = self._open_reports()
                    self._poller.register(self._reports.fileno(), select.POLLIN)
                    os.write(self._tell, b"\0")  # so that the thread waits for this one, too
                watcher.handle = self._reports.add(watcher.log)
            except OSError:
                self._polled.append(watcher)
                os.write(self._tell, b"\0")
            else:
                self._watchers.setdefault(watcher.handle, set()).add(watcher)

    def remove(self, watcher: WalWatcher) -> None:
        with self._lock:
            others = self._watchers.get(watcher.handle)
            if others is None or watcher not in others:
                return
            others.remove(watcher)
            if not others:
                del self._watchers[watcher.handle]
                if self._reports is not None:
                    self._reports.remove(watcher.handle)

    def _run(self) -> None:
        while True:
            seconds = max(self._looks[0][0] - time.monotonic(), 0) if self._looks else None
            ready = self._poller.poll(None if seconds is None else seconds * 1000)
            now = time.monotonic()
            for watcher in self._reported([descriptor for descriptor, _ in ready]):
                watcher.waited, watcher.pause = 0.0, FIRST_PAUSE
                self._plan(watcher, now)
            while self._looks and self._looks[0][0] <= now:
                due, _, watcher = heapq.heappop(self._looks)
                if due == watcher.due and not watcher.closed:
                    self._look(watcher, now)
            time.sleep(FIRST_PAUSE)  # reports of that time are read at once

    def _reported(self, ready: list[int]) -> list[WalWatcher]:
        with self._lock:
            found: list[WalWatcher] = []
            if self._told in ready:
                os.read(self._told, 4096)
                found, self._polled = self._polled, []
            if self._reports is None or self._reports.fileno() not in ready:
                return found
            handles = self._reports.read()
            for handle in self._watchers if handles is None else handles:
                found += self._watchers.get(handle, ())
            return found

    def _plan(self, watcher: WalWatcher, at: float) -> None:
        watcher.due = at
        heapq.heappush(self._looks, (at, next(self._numbers), watcher))

    def _look(self, watcher: WalWatcher, now: float) -> None:
        watcher.due = None
        try:
            settled = watcher.look(watcher.waited)
        except Exception:  # of a callback: the other stores are still served
            _log.exception("hearing of a commit failed")
            settled = True
        if watcher.polls:
            self._plan(watcher, now + POLL)
        elif not settled:
            self._plan(watcher, now + watcher.pause)
            watcher.waited += watcher.pause
            watcher.pause = RARE if watcher.waited > PATIENCE else min(watcher.pause * 2, LONGEST_PAUSE)


class Inotify:
    """Linux watches the file itself, which is there as long as any process has the database open."""

    def __init__(self) -> None:
        from inotify_simple import INotify

        self._inotify = INotify()

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    def add(self, log: str) -> Hashable:
        from inotify_simple import flags

        return int(self._inotify.add_watch(log, flags.MODIFY))

    def remove(self, handle: Hashable) -> None:
        try:
            self._inotify.rm_watch(handle)
        except OSError:  # the file was deleted, and the watch with it
            return

    def read(self) -> Iterable[Hashable] | None:
        handles = {event.wd for event in self._inotify.read(timeout=0)}
        return None if -1 in handles else handles


class Directories:
    """Without inotify, watchdog watches the directory of each log."""

    def __init__(self) -> None:
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer

        self._observer = Observer()
        self._observer.daemon = True
        self._observer.start()
        self._handler = FileSystemEventHandler()
        self._handler.on_any_event = self._on_any_event  # type: ignore[method-assign]
        self._written: set[str] = set()
        self._directories: dict[str, tuple[set[str], Any]] = {}
        self._told, self._tell = os.pipe()
        os.set_blocking(self._tell, False)

    def fileno(self) -> int:
        return self._told

    def add(self, log: str) -> Hashable:
        directory = os.path.dirname(log)
        if directory not in self._directories:
            self._directories[directory] = (set(), self._observer.schedule(self._handler, directory))
        self._directories[directory][0].add(log)
        return log

    def remove(self, handle: Hashable) -> None:
        log = str(handle)
        logs, watch = self._directories[os.path.dirname(log)]
        logs.discard(log)
        if not logs:
            del self._directories[os.path.dirname(log)]
            self._observer.unschedule(watch)

    def read(self) -> Iterable[Hashable] | None:
        os.read(self._told, 4096)
        written, self._written = self._written, set()
        return written

    def _on_any_event(self, event: object) -> None:
        self._written.add(os.fsdecode(getattr(event, "src_path")))  # noqa: B009
        try:
            os.write(self._tell, b"\0")
        except BlockingIOError:  # it is full, so it will be read
            return


_hubs: list[Hub] = []
_starting = threading.Lock()


def _hub() -> Hub:
    """The one of this process; the thread of the parent's is not there after a fork."""
    with _starting:
        if not _hubs or _hubs[0].pid != os.getpid():
            _hubs[:] = [Hub(Inotify if sys.platform == "linux" else Directories)]
        return _hubs[0]
