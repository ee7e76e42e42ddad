"""The threads in which revisions are built: builds of some apps that hang keep those of others from nothing."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

from support import until

from provisioner.hosting.apps.builds import Builds
from provisioner.hosting.apps.messages import DeploymentTask


def _task(app: str, *, production: bool) -> DeploymentTask:
    hosted = SimpleNamespace(app=SimpleNamespace(id=app), timeline=SimpleNamespace(production=production))
    return cast(DeploymentTask, SimpleNamespace(hosted=hosted))


def test_two_apps_whose_builds_hang_delay_neither_branches_nor_production_of_others() -> None:
    builds, go_on = Builds(), threading.Event()
    built: list[tuple[str, bool]] = []

    def build(task: DeploymentTask) -> None:
        built.append((task.hosted.app.id, task.hosted.timeline.production))
        if task.hosted.app.id.startswith("hangs"):
            go_on.wait()

    try:
        for app in ("hangs", "hangs too"):
            for production in (True, True, False, False, False):
                builds.submit(build, _task(app, production=production))
        until(lambda: len(built) >= 6)
        for production in (True, False):
            builds.submit(build, _task("other", production=production))
        until(lambda: {("other", True), ("other", False)} <= set(built))
        assert len(built) == 8  # two branches and the production of each that hangs
    finally:
        go_on.set()
        builds.close()
