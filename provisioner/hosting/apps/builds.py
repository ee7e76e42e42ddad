"""The threads in which revisions are built: apps take turns, and production waits for no branch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from provisioner.core.ids import AppId
from provisioner.hosting.apps.messages import DeploymentTask
from provisioner.jobs.fair_queue import FairQueue

MOST_BUILDS, MOST_EACH = 6, 2  # of branches at a time: in all, and of one app
MOST_OF_PRODUCTION = 64  # apps whose production is built at a time, as many as may start: no thread is used until then


@dataclass(frozen=True, slots=True)
class _Build:
    task: DeploymentTask
    build: Callable[[DeploymentTask], None]

    @property
    def app_id(self) -> AppId:
        return self.task.hosted.app.id


class Builds:
    """Builds that hang delay the branches of the same app, and those of others only if MOST_BUILDS of several apps hang. They
    delay no production of another app: branches cannot take its threads, and each app has one of them at a time."""

    def __init__(self) -> None:
        self._branches = _BuildThreads(ThreadPoolExecutor(MOST_BUILDS, "app-builds"), MOST_EACH)
        self._production = _BuildThreads(ThreadPoolExecutor(MOST_OF_PRODUCTION, "production-builds"), 1)

    def submit(self, build: Callable[[DeploymentTask], None], task: DeploymentTask) -> None:
        """Have it built in one of the threads."""
        threads = self._production if task.hosted.timeline.production else self._branches
        threads.submit(_Build(task, build))

    def close(self) -> None:
        """Start no other build, and wait for those that run."""
        for threads in (self._branches, self._production):
            threads.close()


class _BuildThreads:
    def __init__(self, threads: ThreadPoolExecutor, each: int) -> None:
        self._queue: FairQueue[_Build] = FairQueue(each)
        self._threads = threads

    def submit(self, build: _Build) -> None:
        self._queue.put(build)
        self._threads.submit(self._next)

    def close(self) -> None:
        self._queue.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> None:
        found = self._queue.get()
        if found is not None:
            try:
                found.build(found.task)
            finally:
                self._queue.done(found)
