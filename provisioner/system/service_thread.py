"""Threads that live as long as the daemon or the server: one guard for all of them, and a register of expected threads.

The work of such a thread may fail; the guard reports the failure and restarts it after a pause. A thread that has ended
in spite of that (a native library may end one) stays in the register, so that `doctor` and ``/metrics`` can name it.
This module imports nothing of the package: `provisioner.kv` uses it in other people's programs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from provisioner.system.backoff import Backoff

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
QUIET: Final = 30.0  # seconds without a failure, after which pauses are short again

Report = Callable[[str, BaseException], None]
"""Called with the name of a thread, and its failure."""

_log = logging.getLogger("provisioner.threads")


@dataclass(frozen=True, slots=True)
class ThreadState:
    """The state of all threads of a process with the same name: whether all are alive, and their failures."""

    name: str
    alive: bool
    failures: int


class ServiceThread:
    """A thread that runs `work` until that returns. If it raises, it runs again, so it must be able to restart."""

    def __init__(self, name: str, work: Callable[[], None], *, daemon: bool = True) -> None:
        self.name = name
        self.failures = 0
        self._work = work
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=daemon)

    def start(self) -> None:
        """Raises RuntimeError if the system has no thread to spare; then it is not expected either."""
        _expected.add(self)
        try:
            self._thread.start()
        except BaseException:
            _expected.discard(self)
            raise

    def stop(self) -> None:
        """Don't restart the work if it fails; if it is between two attempts, end at once."""
        self._stopping.set()

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end, unless this is the thread itself."""
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        return is_alive(self._thread)

    def _run(self) -> None:
        try:
            keep_running(self.name, self._work, self._stopping.wait, self._count)
        finally:
            _expected.discard(self)

    def _count(self) -> None:
        self.failures += 1


class LibraryThreads:
    """Threads of a library, which this package neither starts nor ends; `alive` reports whether all of them are alive."""

    def __init__(self, name: str, threads: Callable[[], Iterable[threading.Thread]]) -> None:
        self.name = name
        self.failures = 0
        self._threads = threads

    def begin(self) -> None:
        _expected.add(self)

    def end(self) -> None:
        _expected.discard(self)

    @property
    def alive(self) -> bool:
        return all(is_alive(thread) for thread in self._threads())


def keep_running(
    name: str, work: Callable[[], None], wait: Callable[[float], bool], failed: Callable[[], None] = lambda: None
) -> None:
    """The guard: run `work` until it returns. At each failure call `failed`, and then `wait` with seconds; if that
    returns True, it is over."""
    backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        began = time.monotonic()
        try:
            work()
        except BaseException as error:  # SystemExit, too: it would end a thread without a word
            failed()
            _tell(name, error)
        else:
            return
        if time.monotonic() - began > QUIET:
            backoff.reset()
        if wait(backoff.next()):
            return


def guarded(name: str, work: Callable[[], None]) -> None:
    """Run it once, for threads of a library: a failure is reported and ends here."""
    try:
        work()
    except Exception as error:
        _tell(name, error)


def states() -> list[ThreadState]:
    """The states of the expected threads, by name."""
    found: dict[str, ThreadState] = {}
    for thread in _expected.all():
        before = found.get(thread.name, ThreadState(thread.name, True, 0))
        found[thread.name] = ThreadState(thread.name, before.alive and thread.alive, before.failures + thread.failures)
    return [found[name] for name in sorted(found)]


def gone() -> list[str]:
    """Names of expected threads that have ended."""
    return [state.name for state in states() if not state.alive]


def is_alive(thread: threading.Thread) -> bool:
    """Python does not notice a thread that a library ends; Linux has a directory for each thread that is alive."""
    if not thread.is_alive():
        return False
    number = thread.native_id
    return number is None or not os.path.isdir("/proc/self/task") or os.path.isdir(f"/proc/self/task/{number}")


def report_to(report: Report) -> None:
    """Report the failures of all threads of this process here, instead of to `logging`."""
    global _report
    _report = report


def _log_failure(name: str, error: BaseException) -> None:
    _log.error("the thread %s failed and continues", name, exc_info=error)


_report: Report = _log_failure


def _tell(name: str, error: BaseException) -> None:
    """Report a failure, and ignore a failure of the report."""
    try:
        _report(name, error)
    except Exception:
        return


class _Expected:
    """The expected threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[ServiceThread | LibraryThreads] = set()

    def add(self, thread: ServiceThread | LibraryThreads) -> None:
        with self._lock:
            self._threads.add(thread)

    def discard(self, thread: ServiceThread | LibraryThreads) -> None:
        with self._lock:
            self._threads.discard(thread)

    def all(self) -> list[ServiceThread | LibraryThreads]:
        with self._lock:
            return list(self._threads)

    def forget(self) -> None:
        """In a child after a fork, which has none of the threads; one of them may have held the lock."""
        self._lock = threading.Lock()
        self._threads = set()


_expected = _Expected()
os.register_at_fork(after_in_child=_expected.forget)
