"""The routes to the processes of apps: which hosts' requests go to which."""

from __future__ import annotations

from provisioner.core.host_names import revision_label
from provisioner.hosting.apps.context import HostingContext
from provisioner.hosting.apps.processes import TimelineApp
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.starting import RunningApp
from provisioner.registry import hosting
from provisioner.registry.store import Registry


class AppRoutes:
    """For the thread of the manager alone."""

    def __init__(self, context: HostingContext) -> None:
        self._context = context

    def route(self, registry: Registry, item: TimelineApp, running: RunningApp) -> None:
        """Send the timeline's requests to this process: those for its host, and for its custom domains."""
        host = self._context.host(item.hosted)
        if host not in self._context.dev_hosts():  # after a dev server has ended, the next request asks the gateway
            self._context.routes.set(host, running.port, public=self._context.is_open(item.hosted))
        before, item.domains = item.domains, self.domains(registry, item)
        for name in before - item.domains:
            if self._context.routes.port(name) == running.port:  # it may be another timeline's by now
                self._context.routes.clear(name)
        for name in item.domains:
            self._context.routes.set(name, running.port, public=item.hosted.command.public)

    def route_revision(self, hosted: HostedTimeline, running: RunningApp) -> None:
        """Send requests for the host of its revision to this process."""
        host = self._context.host(hosted, revision_label(running.revision))
        self._context.routes.set(host, running.port, public=self._context.is_open(hosted))

    def domains(self, registry: Registry, item: TimelineApp) -> frozenset[str]:
        """The custom domains of a timeline that have requests."""
        claims = hosting.domains_of_timeline(registry, item.hosted.timeline.id)
        return frozenset(each.name for each in claims if each.routed and not self._context.router.reserved(each.name))

    def unroute(self, running: RunningApp) -> None:
        """Send no more requests to this process; the gateway answers for its hosts."""
        for host, port in self._context.routes.all().items():
            if port == running.port:
                self._context.routes.clear(host)
