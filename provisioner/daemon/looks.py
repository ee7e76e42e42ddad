"""Looks at apps: reconcile one, answer the pushes that wait for it, and find the jobs to run for it.

Several threads look, at one app each, so that an app with a slow disk or server does not delay the others. If more apps
wait than there are threads, a long look yields, and continues when the others have had their turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provisioner.core.clock import now_ms
from provisioner.core.errors import summary
from provisioner.core.ids import AppId
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.daemon.hook_server import Push
from provisioner.daemon.worker import follow_push, report
from provisioner.environment import env_files
from provisioner.hosting.deployments.progress import deployed_branches
from provisioner.jobs.fair_queue import FairQueue
from provisioner.jobs.progress import pushed_and_pending
from provisioner.jobs.queue import Job
from provisioner.jobs.queue import waiting as jobs_waiting
from provisioner.reconcile.controller import Outcome, reconcile
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.service_thread import ServiceThread

THREADS = 4
SLICE_SECONDS = 1.0

Log = Callable[..., None]
"""``log("info", "what happened", app="shop", …)``"""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at an app, for which these pushes wait. Only these `branches` may have changed, unless that is None."""

    app: App
    pushes: tuple[Push, ...] = ()
    branches: frozenset[bytes] | None = None

    @property
    def app_id(self) -> AppId:
        return self.app.id


@dataclass(frozen=True, slots=True)
class Looked:
    """The outcome of a look. `left` are pushes that still wait: it yielded before everything was done. `failure` is empty if
    it succeeded. `branches`: how many were looked at; None: all. `took`: seconds."""

    app: App
    outcome: Outcome | None
    failure: str
    jobs: tuple[Job, ...]
    left: tuple[Push, ...]
    branches: int | None
    took: float


class Looks:
    """The threads. `done` is called from one of them with the outcome of each look."""

    def __init__(self, home: Home, done: Callable[[Looked], None], log: Log) -> None:
        self._home, self._done, self._log = home, done, log
        self._queue: FairQueue[Look] = FairQueue(1)
        self._stopping = threading.Event()
        self._threads = [ServiceThread("looks", self._work) for _ in range(THREADS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, look: Look) -> None:
        self._queue.put(look)

    def stop(self) -> None:
        """Start no more looks; those in progress end after their next step."""
        self._stopping.set()
        for thread in self._threads:
            thread.stop()
        self._queue.close()

    def join(self, until: float) -> bool:
        """Wait until this time (monotonic seconds). Returns whether all of them have ended."""
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.alive for thread in self._threads)

    def _work(self) -> None:
        with Registry.open(self._home) as registry:
            while (look := self._queue.get()) is not None:
                try:
                    looked = self._look(registry, look)
                finally:
                    self._queue.done(look)
                self._done(looked)

    def _look(self, registry: Registry, look: Look) -> Looked:
        began = time.monotonic()
        app = look.app
        outcome: Outcome | None = None
        failure = ""
        answers: list[list[str]] = []
        jobs: list[Job] = []
        waiting: Sequence[Push] = look.pushes

        def give_way() -> bool:
            over = time.monotonic() > began + SLICE_SECONDS
            return self._stopping.is_set() or (over and self._queue.waiting())

        try:
            try:
                outcome = reconcile(registry, app, now_ms(), "watch", branches=look.branches, give_way=give_way)
            finally:  # whatever failed, files of another branch must not stay
                for line in env_files.refresh_app(self._home, app.id, app.git_dir):
                    self._log("info", line, app=app.slug)
            jobs = jobs_waiting(registry, app)
            if not outcome.cut:
                waiting = [push for push in waiting if not self._follow(registry, app, push)]
                answers = [report(registry, app, [branch for _, branch in push.branches]) for push in waiting]
        except Exception as error:  # any failure of one app: the others are looked after all the same
            failure = summary(error)
        left = tuple(waiting) if outcome is not None and outcome.cut and not failure else ()
        for number, push in enumerate(waiting if not left else ()):
            push.answer(answers[number] if answers else [shown(f"provisioner: {failure}")] if failure else [])
        some = len(look.branches) if look.branches is not None and outcome is not None and not outcome.whole else None
        return Looked(app, outcome, failure, tuple(jobs), left, some, time.monotonic() - began)

    def _follow(self, registry: Registry, app: App, push: Push) -> bool:
        """Report steps to a push whose branches wait for one. False if they wait for none."""
        branches = [branch for _, branch in push.branches]
        since, timelines = now_ms(), pushed_and_pending(registry, app, branches)
        if timelines or deployed_branches(registry, app, branches):
            push.followed.set()
            words = (self._home, app, branches, timelines, since, push)
            threading.Thread(target=follow_push, args=words, daemon=True, name="push").start()
        return push.followed.is_set()
