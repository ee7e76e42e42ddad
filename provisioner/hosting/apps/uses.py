"""Which apps are in use, and which may sleep."""

from __future__ import annotations

from provisioner.core.host_names import revision_label
from provisioner.hosting.apps.context import HostingContext
from provisioner.hosting.apps.processes import TimelineApp
from provisioner.hosting.deployments.sockets import connections
from provisioner.hosting.deployments.starting import RunningApp


class AppUses:
    """For the thread of the manager alone."""

    def __init__(self, context: HostingContext) -> None:
        self._context = context
        self._shows_use: bool | None = None

    def note(self, now: float) -> None:
        """Note which apps had requests since the last time."""
        if self._shows_use is None:
            self._shows_use = self._context.routes.shows_use()
        if self._shows_use:
            hosts = self._context.routes.take_uses()
            used = [(item, each) for item, each in self._context.apps.running() if hosts & self._hosts(item, each)]
        else:
            ports = connections({each.port for _, each in self._context.apps.running()})
            used = [(item, each) for item, each in self._context.apps.running() if ports[each.port]]
        for item, each in used:
            item.last_used[each.deployment_id] = now

    def _hosts(self, item: TimelineApp, running: RunningApp) -> set[str]:
        revision = self._context.host(item.hosted, revision_label(running.revision))
        return {self._context.host(item.hosted), revision, *item.domains}


def is_idle(item: TimelineApp, running: RunningApp, now: float) -> bool:
    """Has it had no request for so long that it may sleep?"""
    idle_ms = item.hosted.command.idle_ms
    if idle_ms is None or item.hosted.timeline.production or item.tasks:
        return False
    return (now - item.last_used.get(running.deployment_id, now)) * 1000 >= idle_ms
