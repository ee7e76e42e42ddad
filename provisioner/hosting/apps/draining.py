"""The end of a process that gets no more requests, and of a deployment that is given up."""

from __future__ import annotations

import time

from provisioner.core.hosting import Deployment
from provisioner.hosting.apps.context import HostingContext
from provisioner.hosting.deployments.sockets import connections
from provisioner.hosting.deployments.starting import STOP_SECONDS, RunningApp
from provisioner.runs import workplace

DRAIN_SECONDS = 30.0  # for a replaced process to answer its requests
SETTLE_SECONDS = 1.0  # until no request can be on its way to a process that no longer has a route


def drain(context: HostingContext, running: RunningApp) -> None:
    """In a thread of the pool: wait until its requests are answered, then end it."""
    deadline = time.monotonic() + DRAIN_SECONDS
    context.stopping.wait(SETTLE_SECONDS)
    while time.monotonic() < deadline and not context.stopping.is_set() and connections({running.port}):
        context.stopping.wait(0.2)
    running.service.stop(STOP_SECONDS)


def discard(context: HostingContext, deployment: Deployment, running: RunningApp | None = None) -> None:
    """In a thread of the pool: end its process, and remove its files, which no other deployment needs."""
    if running is not None:
        running.service.stop(STOP_SECONDS)
    workplace.remove(context.home, deployment.id)
