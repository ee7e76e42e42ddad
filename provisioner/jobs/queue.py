"""Work that takes too long for a reconcile: scrubbing new forks, pre-deploy commands, and operators' hooks.

After a reconcile, its process looks for waiting jobs and runs them, or gives them to a `WorkerPool`. A job names its work and
does not describe it: if another process has done it in the meantime, nothing is left to do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError, summary
from provisioner.core.ids import AppId, DatabaseId, TimelineId
from provisioner.core.model import App, Database
from provisioner.jobs.fair_queue import FairQueue
from provisioner.jobs.follow_log import follow
from provisioner.jobs.operator_hooks import run_hooks, timelines_due
from provisioner.jobs.pre_deploy import deploy, due
from provisioner.reconcile.changes.scrub import copy_aside
from provisioner.reconcile.controller import reconcile
from provisioner.reconcile.plan.planner_context import Retry
from provisioner.reconcile.plan.retry_delay import delay_ms
from provisioner.registry import queries
from provisioner.registry.queries import timeline_called
from provisioner.registry.store import Registry
from provisioner.runs.process import Stop
from provisioner.system.home import Home
from provisioner.system.service_thread import ServiceThread

MOST_ROUNDS = 8
EACH, HANDS = 2, 16  # commands of one app at a time, and of all apps: an app with thousands must not block the others


@dataclass(frozen=True, slots=True)
class Job:
    """Run the pre-deploy command on a timeline, or make one of its databases a scrubbed copy, or run the operator's hooks
    for its events up to the number `hooks`."""

    app_id: AppId
    timeline_id: TimelineId
    database_id: DatabaseId | None = None
    hooks: int = 0


def waiting(registry: Registry, app: App, timeline: bytes = b"", *, retry: Retry = False) -> list[Job]:
    """The work for an app; only what programs on the timeline of this name wait for, if one is given.

    `retry`: without waiting for the next retry: everything, or the databases with these ids.
    """
    jobs = [Job(app.id, item.timeline_id, item.id) for item in _aside(registry, app, retry)]
    jobs += [Job(app.id, item.id) for item in due(registry, app)]
    if not timeline:
        return jobs + [Job(app.id, each, hooks=seq) for each, seq in timelines_due(registry, app).items()]
    meant = timeline_called(registry, app.id, timeline)
    return [job for job in jobs if meant is not None and job.timeline_id == meant.id]


def _aside(registry: Registry, app: App, retry: Retry) -> list[Database]:
    """The databases that can become copies now: their sources exist."""
    databases = registry.databases_aside(app.id)
    unmade = {item.id for item in databases}
    now = now_ms()
    return [
        item
        for item in databases
        if item.forked_from not in unmade
        if item.retry_at is None or item.retry_at <= now or (retry if isinstance(retry, bool) else item.id in retry)
    ]


def _do(registry: Registry, job: Job, stop: Stop, *, wait: bool) -> bool:
    if job.hooks:
        return run_hooks(registry, job.app_id, job.timeline_id, stop)
    if job.database_id is None:
        return deploy(registry, job.app_id, job.timeline_id, stop, wait=wait)
    return copy_aside(registry, job.app_id, job.database_id, stop, wait=wait)


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
    """Do it in this process, until no work is left or `stop` returns True; `say` gets the output. A failure does not keep the
    rest from being done: all of it is reported, and the first is raised at the end."""
    stop = stop or _never
    done: set[Job] = set()
    failed: dict[Job, Exception] = {}
    for _ in range(MOST_ROUNDS):
        current = registry.app(app.id)
        found = waiting(registry, current, timeline, retry=False if done else retry) if current else []
        jobs = [job for job in found if job not in failed and (job.database_id is None or job not in done)]
        if not jobs:
            break
        for job in jobs:
            try:
                with _heard(registry.home, job, say):
                    _do(registry, job, stop, wait=True)
            except Exception as error:  # any failure of one timeline
                failed[job] = error
            if stop():
                break
            done.add(job)
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
def _heard(home: Home, job: Job, say: Callable[[str], None] | None) -> Iterator[None]:
    """Report the steps of the block, and the output of its command, from a thread."""
    if say is None:
        yield
        return
    over = threading.Event()
    listener = threading.Thread(target=_listen, args=(home, job, now_ms(), say, over), name="listener")
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()


def _listen(home: Home, job: Job, since: int, say: Callable[[str], None], over: threading.Event) -> None:
    with Registry.open(home) as registry:
        app = registry.app(job.app_id)
        timeline = queries.timeline_by_id(registry, job.timeline_id)
        if app is not None and timeline is not None:
            follow(registry, app, [timeline], since, say, over.is_set)


def _never() -> bool:
    return False


class WorkerPool:
    """Threads that run jobs. `done` is called from one of them with the app of each job that is over."""

    def __init__(self, home: Home, done: Callable[[AppId], None], trouble: Callable[[AppId, str], None]) -> None:
        self._home, self._done, self._trouble = home, done, trouble
        # hooks have separate threads: databases do not wait for them
        self._queue: FairQueue[Job] = FairQueue(EACH)
        self._hooks: FairQueue[Job] = FairQueue(EACH)
        self._lock = threading.Lock()
        self._taken: set[Job] = set()
        self._failed: dict[Job, tuple[int, float]] = {}
        self._stopping = threading.Event()
        self._threads: dict[FairQueue[Job], list[ServiceThread]] = {self._queue: [], self._hooks: []}

    def offer(self, jobs: list[Job]) -> float | None:
        """Have work done, unless it is in progress. Returns in how many seconds to offer it again, if ever."""
        again = None
        for job in jobs:
            with self._lock:
                wait = self._failed.get(job, (0, 0.0))[1] - time.monotonic()
                if wait > 0:
                    again = min(wait, again or wait)
                    continue
                if job in self._taken:
                    continue
                self._taken.add(job)
            self._queue_of(job).put(job)
        for each, threads in self._threads.items():
            while len(threads) < min(HANDS, each.wanted()):
                thread = ServiceThread("jobs", partial(self._work, each))
                thread.start()
                threads.append(thread)
        return again

    def _queue_of(self, job: Job) -> FairQueue[Job]:
        return self._hooks if job.hooks else self._queue

    @property
    def busy(self) -> bool:
        return bool(self._taken)

    def close(self, until: float | None = None) -> bool:
        """End the work in progress; the next process starts it again. Returns whether all has ended by `until` (monotonic s)."""
        self._stopping.set()
        threads = [thread for some in self._threads.values() for thread in some]
        for thread in threads:
            thread.stop()
        for each in self._threads:
            each.close()
        for thread in threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        return not any(thread.alive for thread in threads)

    def _work(self, of: FairQueue[Job]) -> None:
        with Registry.open(self._home) as registry:
            while (job := of.get()) is not None:
                failure = ""
                over = False
                try:
                    over = _do(registry, job, self._stopping.is_set, wait=False)
                except ProvisionerError as error:
                    failure = str(error)
                except Exception as error:  # a bug must neither end a thread nor keep the job marked as in progress
                    failure = summary(error)
                finally:
                    of.done(job)
                    with self._lock:
                        self._note(job, failed=not over)
                        self._taken.discard(job)
                if failure:
                    self._trouble(job.app_id, failure)
                self._done(job.app_id)

    def _note(self, job: Job, *, failed: bool) -> None:
        if not failed:
            self._failed.pop(job, None)
            return
        times = self._failed.get(job, (0, 0.0))[0]
        wait = delay_ms(times + 1) / 1000
        self._failed[job] = (times + 1, time.monotonic() + wait)
