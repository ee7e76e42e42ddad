"""The threads in which revisions are built: apps take turns, and an app's production does not wait for its branches."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from provisioner.core.ids import AppId
from provisioner.hosting.apps.messages import DeploymentTask
from provisioner.jobs.fair_queue import FairQueue

MOST_BUILDS, MOST_EACH = 6, 2  # at a time: in all, and of the branches of one app, or of its production


@dataclass(frozen=True, slots=True)
class _Build:
    task: DeploymentTask
    build: Callable[[DeploymentTask], None]

    @property
    def app_id(self) -> AppId:
        """What takes turns: an app, or its production."""
        hosted = self.task.hosted
        return AppId(f"{hosted.app.id} production") if hosted.timeline.production else hosted.app.id


class Builds:
    """Builds that hang delay only the branches of the same app."""

    def __init__(self) -> None:
        self._queue: FairQueue[_Build] = FairQueue(MOST_EACH)
        self._threads = ThreadPoolExecutor(MOST_BUILDS, "app-builds")

    def submit(self, build: Callable[[DeploymentTask], None], task: DeploymentTask) -> None:
        """Have it built in one of the threads."""
        self._queue.put(_Build(task, build))
        self._threads.submit(self._next)

    def close(self) -> None:
        """Start no other build, and wait for those that run."""
        self._queue.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> None:
        found = self._queue.get()
        if found is not None:
            try:
                found.build(found.task)
            finally:
                self._queue.done(found)
