"""Hearing that refs may have changed. watchdog is used here and nowhere else.

An event says "look again", at which app and, if a ref's file changed, at which branch; never what happened. If the
operating system runs out of watches or drops events, the watcher says so, and the daemon polls.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.utils import BaseThread

from provisioner.core.ids import AppId
from provisioner.git.reflog import keeps_logs
from provisioner.git.worktree import HEADS
from provisioner.system.service_thread import LibraryThreads, guarded

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch


class EventScope(Enum):
    """What an event is about if it names no branch: any of the `BRANCHES`, or `NOTHING` that is one."""

    BRANCHES = auto()
    NOTHING = auto()


Change = bytes | EventScope
"""A branch that may have changed, or what else may have."""
Heard = Callable[[AppId, Change], None]
"""Called from a thread of the watcher with an app's id."""
Stirred = Callable[[AppId], None]
"""The same."""
Trouble = Callable[[AppId, str], None]
"""Called with an app's id and why its events cannot be trusted."""

STOP_SECONDS = 5.0
_FILES = (b"HEAD", b"packed-refs")
_TREES = (b"refs", b"reftable", b"worktrees")
# The kernel keeps the others to itself: a push of a thousand branches causes ten thousand of them. A program that writes refs
# writes a lock file and renames it.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]


class RefWatcher:
    """Watches the common directories of repositories, and one inbox."""

    def __init__(self, heard: Heard, stirred: Stirred, trouble: Trouble) -> None:
        """`heard`: refs may have changed; `stirred`: a program is about to change them."""
        self.heard, self.stirred, self.trouble = heard, stirred, trouble
        self._observer: BaseObserver = Observer()
        self._watches: dict[AppId, list[ObservedWatch]] = {}
        self._places: dict[AppId, bytes] = {}  # the common directories whose watches are whole
        _report_overflow(self._overflowed)
        self._threads: frozenset[BaseThread] = frozenset()
        self._register = LibraryThreads("refs", self._expected)

    def start(self) -> None:
        """Raises RuntimeError if the system has no more threads. Then none of this watcher runs."""
        try:
            self._observer.start()
        except RuntimeError:
            self._observer.stop()  # which also ends the thread that its constructor started
            raise
        self._find_threads()
        self._register.begin()

    def stop(self) -> None:
        """Within seconds also where a thread of watchdog is gone that the others wait for: all of them end with the process."""
        self._register.end()
        stopping = threading.Thread(target=self._stop, name="refs-end", daemon=True)
        stopping.start()
        stopping.join(STOP_SECONDS)

    def _stop(self) -> None:
        self._observer.stop()
        if self._observer.is_alive():
            self._observer.join()

    @property
    def deaf(self) -> bool:
        """A thread of watchdog has ended by a failure: events may be missing."""
        return not all(thread.is_alive() for thread in self._expected())

    def _expected(self) -> list[BaseThread]:
        """The threads of watchdog that were there and have not been told to stop. One reads events for all repositories;
        those of a repository stop when it is deleted."""
        return [thread for thread in self._threads if thread.should_keep_running()]

    def _find_threads(self) -> None:
        found = (thread for thread in threading.enumerate() if isinstance(thread, BaseThread))
        self._threads = frozenset((*self._expected(), *found))

    def watch_inbox(self, inbox: str, left: Callable[[], None]) -> bool:
        """Call `left` when a wake-up is left. False where the operating system cannot watch it."""
        try:
            self._observer.schedule(_Inbox(left), inbox)
        except OSError as error:
            self.trouble(AppId(""), f"cannot watch {inbox}: {_why(error)}")
            return False
        self._find_threads()
        return True

    def add(self, app_id: AppId, common_dir: bytes) -> bool:
        """Watch an app's refs, again if its repository is at another path or was replaced.

        False (after `trouble` was called) if that is not possible.
        """
        if self._places.get(app_id) == common_dir:
            return True
        self.remove(app_id)
        watches: list[ObservedWatch] = []
        self._places[app_id] = common_dir
        try:
            listener = _Refs(app_id, common_dir, self.heard, self.stirred, self._lost)
            watches.append(self._observer.schedule(listener, os.fsdecode(common_dir), event_filter=_EVENTS))
            for name in _TREES:
                tree = os.path.join(common_dir, name)
                if os.path.isdir(tree):
                    watches.append(
                        self._observer.schedule(listener, os.fsdecode(tree), recursive=True, event_filter=_EVENTS)
                    )
        except OSError as error:
            for watch in watches:
                self._observer.unschedule(watch)
            self._lost(app_id)
            self.trouble(app_id, f"cannot watch {os.fsdecode(common_dir)}: {_why(error)}")
            return False
        self._watches[app_id] = watches
        self._find_threads()
        return True

    def _lost(self, app_id: AppId) -> None:
        self._places.pop(app_id, None)

    def remove(self, app_id: AppId) -> None:
        self._lost(app_id)
        for watch in self._watches.pop(app_id, []):
            self._observer.unschedule(watch)

    def _overflowed(self) -> None:
        for app_id in list(self._watches):
            self.trouble(app_id, "the operating system dropped file events")


def why_unwatchable(common_dir: bytes) -> str:
    """Why the operating system would not tell of changes in this repository now; empty where it would."""
    troubles: list[str] = []
    try:
        watcher = RefWatcher(lambda *_: None, lambda _: None, lambda _, why: troubles.append(why))
        watcher.start()
    except RuntimeError as error:
        return str(error)  # no thread can be started
    except OSError as error:
        return _why(error)
    try:
        watcher.add(AppId(""), common_dir)
    finally:
        watcher.stop()
    return troubles[0] if troubles else ""


def _why(error: OSError) -> str:
    import errno

    if error.errno == errno.ENOSPC:
        return "no inotify watches are left; raise fs.inotify.max_user_watches"
    if error.errno == errno.EMFILE:
        return "no inotify instances are left; raise fs.inotify.max_user_instances"
    return error.strerror or str(error)


def _report_overflow(call: Callable[[], None]) -> None:
    """Hear of dropped events: watchdog only logs them."""
    import logging

    class Overflow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "overflow" in record.getMessage().lower():
                call()

    logging.getLogger("watchdog").addHandler(Overflow(logging.WARNING))
    logging.getLogger("watchdog.observers").addHandler(Overflow(logging.WARNING))


class _Refs(FileSystemEventHandler):
    """Lets through what can be a change of refs: not git's lock files, nor what it only reads."""

    def __init__(self, app_id: AppId, common_dir: bytes, heard: Heard, stirred: Stirred, lost: Stirred) -> None:
        self.app_id, self.heard, self.stirred, self.lost = app_id, heard, stirred, lost
        self.refs = os.path.join(common_dir, b"refs")
        self.heads = os.path.join(common_dir, HEADS)
        self.logged = keeps_logs(common_dir)  # then a new branch, or one that is gone, needs a look at all of them
        self.tags = os.path.join(common_dir, b"refs/tags/")

    def dispatch(self, event: FileSystemEvent) -> None:
        guarded("refs", lambda: self._dispatch(event))

    def _dispatch(self, event: FileSystemEvent) -> None:
        path = os.fsencode(event.dest_path or event.src_path)
        name = os.path.basename(path)
        if event.event_type == "deleted" and path == self.refs:
            self.lost(self.app_id)  # watches hold on to what was deleted, not to what comes in its place
        if name.endswith(b".lock"):
            self.stirred(self.app_id)
        elif name in _FILES or name in _TREES or any(b"/" + tree + b"/" in path for tree in _TREES):
            self.heard(self.app_id, self._change(event, path))

    def _change(self, event: FileSystemEvent, path: bytes) -> Change:
        moved = event.event_type == "moved" and not os.fsencode(event.src_path).endswith(b".lock")
        if path.startswith(self.tags):
            return EventScope.NOTHING
        if moved or not path.startswith(self.heads):
            return EventScope.BRANCHES
        if event.is_directory:  # of branches with a slash in their names, whose files may be reported alone
            return EventScope.BRANCHES if self.logged else EventScope.NOTHING
        return path.removeprefix(self.heads)


class _Inbox(FileSystemEventHandler):
    def __init__(self, left: Callable[[], None]) -> None:
        self.left = left

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type in ("created", "moved", "closed"):
            guarded("refs", self.left)
