"""Hears of commits by other processes: SQLite appends each one to the write-ahead log beside the database.

The operating system reports that the log was written, which happens a moment before the commit can be read. So after a
report the database's own counter is asked, again and again with longer pauses, until the report is old: that it moved
proves nothing, for it may have been by an earlier commit.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Final

from watchdog.events import FileCreatedEvent, FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.032
PATIENCE: Final = 5.0  # seconds without another report until the last one is old
POLL: Final = 0.02  # seconds between looks where the operating system reports nothing


class Watcher:
    """Calls `changed` when `counter` has moved. `counter` is called from one thread, which is the watcher's own."""

    def __init__(self, database: str, counter: Callable[[], int], changed: Callable[[], None]) -> None:
        self._log = database + "-wal"
        self._counter = counter
        self._changed = changed
        self._reported = threading.Event()
        self._stopped = False
        self._seen = counter()
        self._observer = _observed(self._log, self._reported)
        self.polls = self._observer is None
        self._thread = threading.Thread(target=self._run, name="kv watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped = True
        self._reported.set()
        if self._observer is not None:
            self._observer.stop()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped:
            self._reported.wait(POLL if self.polls else None)
            waited, pause = 0.0, FIRST_PAUSE
            while not self._stopped and waited < PATIENCE:
                reported = self._reported.is_set()
                self._reported.clear()
                self._look()
                if reported:
                    waited, pause = 0.0, FIRST_PAUSE
                if self.polls:
                    break
                if not self._reported.wait(pause):
                    waited += pause
                    pause = min(pause * 2, LONGEST_PAUSE)

    def _look(self) -> None:
        number = self._counter()
        if number != self._seen:
            self._seen = number
            self._changed()


class _Reports(FileSystemEventHandler):
    def __init__(self, log: str, reported: threading.Event) -> None:
        self._log = log
        self._reported = reported

    def on_any_event(self, event: FileSystemEvent) -> None:
        if os.fsdecode(event.src_path) == self._log:
            self._reported.set()


def _observed(log: str, reported: threading.Event) -> Observer | None:  # type: ignore[valid-type]
    """What reports writes to the log; None where the operating system refuses.

    Linux watches the one file. It is there as long as any process, so also this one, has the database open.
    """
    observer = Observer()
    observer.daemon = True
    where = log if sys.platform == "linux" and os.path.exists(log) else os.path.dirname(log)
    try:
        observer.schedule(_Reports(log, reported), where, event_filter=[FileModifiedEvent, FileCreatedEvent])
        observer.start()
    except OSError:  # the limit of watches or of open files is reached
        return None
    return observer
