"""The processes of timelines' apps: what the manager remembers of each timeline. Times are monotonic seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from provisioner.core.ids import TimelineId
from provisioner.hosting.apps.messages import DeploymentTask
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.starting import RunningApp
from provisioner.hosting.router.waking import Woken
from provisioner.system.backoff import Backoff

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 60.0
STABLE_SECONDS = 10.0  # that it ran, after which pauses are short again


@dataclass(slots=True)
class TimelineApp:
    """A timeline's app: what runs of it by the ids of deployments, what is at work, and who waits for what.

    ``ending`` processes were asked to end and have not yet.
    ``domains`` are the custom domains that have a route to it.
    ``serving`` is the deployment that the timeline's requests go to; empty if none had them yet.
    ``last_used`` is when it last had a connection.
    ``restart_at`` is when the deployment ``crashed``, the last that ended unexpectedly, is restarted.
    ``crowded_since`` is since when there is no room for another process.
    """

    hosted: HostedTimeline
    running: dict[str, RunningApp] = field(default_factory=dict)
    tasks: dict[str, DeploymentTask] = field(default_factory=dict)
    waiting: dict[str, list[Future[Woken]]] = field(default_factory=dict)
    domains: frozenset[str] = frozenset()
    last_used: dict[str, float] = field(default_factory=dict)
    started: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_PAUSE, LONGEST_PAUSE))
    restart_at: float | None = None
    crashed: str = ""
    serving: str = ""
    crowded_since: float | None = None
    ending: int = 0

    def wait_for(self, deployment_id: str) -> None:
        """Those that wait for what comes next wait for this deployment."""
        if waiting := self.waiting.pop("", None):
            self.waiting.setdefault(deployment_id, []).extend(waiting)

    def answer(self, deployment_id: str, woken: Woken) -> None:
        """Answer those who wait for a deployment."""
        for future in self.waiting.pop(deployment_id, ()):
            future.set_result(woken)

    def answer_all(self, woken: Woken) -> None:
        for deployment_id in list(self.waiting):
            self.answer(deployment_id, woken)

    def ended(self, deployment_id: str) -> None:
        """A process of this deployment ended unexpectedly: its next one is started after a pause."""
        now = time.monotonic()
        if now - self.started > STABLE_SECONDS or deployment_id != self.crashed:
            self.backoff.reset()
        self.crashed, self.restart_at = deployment_id, now + self.backoff.next()

    def pauses(self, deployment_id: str) -> bool:
        """Has this deployment only just ended unexpectedly, so that it is not started now?"""
        return self.crashed == deployment_id and self.restart_at is not None and time.monotonic() < self.restart_at


class TimelineApps:
    """Those of all timelines, by the timelines' ids."""

    def __init__(self) -> None:
        self._apps: dict[str, TimelineApp] = {}

    def of(self, hosted: HostedTimeline) -> TimelineApp:
        """A timeline's app, updated to the timeline's current row."""
        item = self._apps.setdefault(hosted.timeline.id, TimelineApp(hosted))
        item.hosted = hosted
        return item

    def known(self, timeline_id: TimelineId) -> TimelineApp | None:
        return self._apps.get(timeline_id)

    def of_app(self, app_id: str) -> list[TimelineApp]:
        return [item for item in self._apps.values() if item.hosted.app.id == app_id]

    def __iter__(self) -> Iterator[TimelineApp]:
        return iter(list(self._apps.values()))

    def forget(self, item: TimelineApp) -> None:
        self._apps.pop(item.hosted.timeline.id, None)

    def processes(self) -> int:
        """How many processes there are, or will be in a moment."""
        return sum(
            len(item.running) + sum(task.deployment.id not in item.running for task in item.tasks.values())
            for item in self
        )

    def running(self) -> Iterator[tuple[TimelineApp, RunningApp]]:
        for item in self:
            for each in list(item.running.values()):
                yield item, each
