"""What takes too long to be done while an app is reconciled: scrubbing new forks, and pre-deploy commands.

Who reconciles looks afterwards what is waiting and does it, or lets a `Crew` do it. An errand names, it does not narrate:
it may be done by somebody else meanwhile, and is then nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError, summary
from provisioner.core.model import App, Database
from provisioner.jobs.fair_queue import FairQueue
from provisioner.jobs.follow_log import follow
from provisioner.jobs.pre_deploy import deploy, due
from provisioner.reconcile.changes.scrub import copy_aside
from provisioner.reconcile.controller import reconcile
from provisioner.reconcile.plan.planner_context import Retry
from provisioner.registry import queries
from provisioner.registry.queries import timeline_called
from provisioner.registry.store import Registry
from provisioner.runs.process import Stop
from provisioner.system.home import Home
from provisioner.system.service_thread import ServiceThread

MOST_ROUNDS = 8
EACH, HANDS = 2, 16  # commands of one app at a time, and of all apps: one with thousands must not stop the others
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 300.0


@dataclass(frozen=True, slots=True)
class Errand:
    """Run the pre-deploy command on a timeline, or make one of its databases a copy that passes a command."""

    app_id: str
    timeline_id: str
    database_id: str | None = None


def waiting(registry: Registry, app: App, timeline: bytes = b"", *, retry: Retry = False) -> list[Errand]:
    """What there is to do for an app; for the timeline of this name only, where one is given.

    `retry`: for what does not wait for the time to be tried again: everything, or the databases with these ids.
    """
    errands = [Errand(app.id, item.timeline_id, item.id) for item in _aside(registry, app, retry)]
    errands += [Errand(app.id, item.id) for item in due(registry, app)]
    if not timeline:
        return errands
    meant = timeline_called(registry, app.id, timeline)
    return [errand for errand in errands if meant is not None and errand.timeline_id == meant.id]


def _aside(registry: Registry, app: App, retry: Retry) -> list[Database]:
    """The databases that are to be made as copies now: their sources are there."""
    databases = registry.databases_aside(app.id)
    unmade = {item.id for item in databases}
    now = now_ms()
    return [
        item
        for item in databases
        if item.forked_from not in unmade
        if item.retry_at is None or item.retry_at <= now or (retry if isinstance(retry, bool) else item.id in retry)
    ]


def _do(registry: Registry, errand: Errand, stop: Stop, *, wait: bool) -> bool:
    if errand.database_id is None:
        return deploy(registry, errand.app_id, errand.timeline_id, stop, wait=wait)
    return copy_aside(registry, errand.app_id, errand.database_id, stop, wait=wait)


def do_all(
    registry: Registry,
    app: App,
    cause: str,
    *,
    timeline: bytes = b"",
    say: Callable[[str], None] | None = None,
    retry: Retry = False,
    stop: Stop | None = None,
) -> None:
    """Do it here and now, until nothing is waiting or `stop` says so; `say` is told what is printed. What one errand raises keeps
    no other one from being done: all of it is said, and the first is raised at the end."""
    stop = stop or _never
    done: set[Errand] = set()
    failed: dict[Errand, Exception] = {}
    for _ in range(MOST_ROUNDS):
        current = registry.app(app.id)
        found = waiting(registry, current, timeline, retry=False if done else retry) if current else []
        errands = [
            errand for errand in found if errand not in failed and (errand.database_id is None or errand not in done)
        ]
        if not errands:
            break
        for errand in errands:
            try:
                with _heard(registry.home, errand, say):
                    _do(registry, errand, stop, wait=True)
            except Exception as error:  # of one timeline, whatever it is
                failed[errand] = error
            if stop():
                break
            done.add(errand)
        if stop():
            break
        reconcile(registry, app, now_ms(), cause)
    raised = list(failed.values())
    for other in raised[1:]:
        if say is not None:
            say(summary(other))
    if raised:
        raise raised[0]


@contextmanager
def _heard(home: Home, errand: Errand, say: Callable[[str], None] | None) -> Iterator[None]:
    """Tell the steps of the block, and what its command prints, from a thread."""
    if say is None:
        yield
        return
    over = threading.Event()
    listener = threading.Thread(target=_listen, args=(home, errand, now_ms(), say, over), name="listener")
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()


def _listen(home: Home, errand: Errand, since: int, say: Callable[[str], None], over: threading.Event) -> None:
    with Registry.open(home) as registry:
        app = registry.app(errand.app_id)
        timeline = queries.timeline_by_id(registry, errand.timeline_id)
        if app is not None and timeline is not None:
            follow(registry, app, [timeline], since, say, over.is_set)


def _never() -> bool:
    return False


class Crew:
    """Threads that do errands. `done` is called from one of them with the app of each that is over."""

    def __init__(self, home: Home, done: Callable[[str], None], trouble: Callable[[str, str], None]) -> None:
        self._home, self._done, self._trouble = home, done, trouble
        self._queue: FairQueue[Errand] = FairQueue(EACH)
        self._lock = threading.Lock()
        self._taken: set[Errand] = set()
        self._failed: dict[Errand, tuple[int, float]] = {}
        self._stopping = threading.Event()
        self._threads: list[ServiceThread] = []

    def offer(self, errands: list[Errand]) -> float | None:
        """Have them done, those that are not being done already; in how many seconds to offer them again, if ever."""
        again = None
        for errand in errands:
            with self._lock:
                wait = self._failed.get(errand, (0, 0.0))[1] - time.monotonic()
                if wait > 0:
                    again = min(wait, again or wait)
                    continue
                if errand in self._taken:
                    continue
                self._taken.add(errand)
            self._queue.put(errand)
        while len(self._threads) < min(HANDS, self._queue.wanted()):
            thread = ServiceThread("errands", self._work)
            thread.start()
            self._threads.append(thread)
        return again

    @property
    def busy(self) -> bool:
        return bool(self._taken)

    def close(self, until: float | None = None) -> bool:
        """End what is being done; it is begun anew by whoever comes next. Have all ended by `until` (monotonic seconds)?"""
        self._stopping.set()
        for thread in self._threads:
            thread.stop()
        self._queue.close()
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        return not any(thread.alive for thread in self._threads)

    def _work(self) -> None:
        with Registry.open(self._home) as registry:
            while (errand := self._queue.get()) is not None:
                failure = ""
                over = False
                try:
                    over = _do(registry, errand, self._stopping.is_set, wait=False)
                except ProvisionerError as error:
                    failure = str(error)
                except Exception as error:  # a fault of ours must not take a hand away, nor the errand for ever
                    failure = summary(error)
                finally:
                    self._queue.done(errand)
                    with self._lock:
                        self._note(errand, failed=not over)
                        self._taken.discard(errand)
                if failure:
                    self._trouble(errand.app_id, failure)
                self._done(errand.app_id)

    def _note(self, errand: Errand, *, failed: bool) -> None:
        if not failed:
            self._failed.pop(errand, None)
            return
        times = self._failed.get(errand, (0, 0.0))[0]
        wait = min(FIRST_RETRY_SECONDS * 2**times, LONGEST_RETRY_SECONDS)
        self._failed[errand] = (times + 1, time.monotonic() + wait)
