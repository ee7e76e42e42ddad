"""What the parts of the manager share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from provisioner.core.host_names import host_name
from provisioner.hosting.apps.builds import Builds
from provisioner.hosting.apps.messages import Message
from provisioner.hosting.apps.processes import TimelineApps
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.dev_servers import DevServers
from provisioner.hosting.routes import Routes
from provisioner.registry import hosting, queries
from provisioner.registry.store import Registry
from provisioner.runs.supervisors import SpareSupervisors
from provisioner.system.home import Home
from provisioner.system.router_address import RouterAddress

Log = Callable[..., None]

STARTS, ENDS = 64, 64  # at a time: an app that never answers, or whose requests never end, must not keep others waiting


@dataclass(frozen=True, slots=True)
class HostingContext:
    """`most` processes of apps run at a time. `tell` hands a message to the thread of the manager. Each pool has threads for
    one kind of work, which end once `stopping` is set."""

    home: Home
    router: RouterAddress
    log: Log
    most: int
    tell: Callable[[Message], None]
    spare: SpareSupervisors = field(default_factory=SpareSupervisors)
    apps: TimelineApps = field(default_factory=TimelineApps)
    stopping: threading.Event = field(default_factory=threading.Event)
    builds: Builds = field(default_factory=Builds)
    starts: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(STARTS, "app-starts"))
    ends: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(ENDS, "app-ends"))

    @property
    def routes(self) -> Routes:
        return Routes(self.home)

    def host(self, hosted: HostedTimeline, label: str | None = None) -> str:
        """The host of a timeline, or of another label of its app."""
        return host_name(hosted.app.slug, hosted.label if label is None else label, self.router.domain)

    def dev_hosts(self) -> set[str]:
        """The hosts whose requests go to dev servers now: they come first."""
        return {server.host for server in DevServers(self.home).running() if server.routed}

    def is_open(self, hosted: HostedTimeline) -> bool:
        """Does no one have to sign in?"""
        return self.router.everyone or hosted.command.public


def fresh(registry: Registry, hosted: HostedTimeline) -> HostedTimeline:
    """A timeline as the registry has it now."""
    timeline = queries.timeline_by_id(registry, hosted.timeline.id)
    app, command = registry.app(hosted.app.id), hosting.run_command(registry, hosted.app.id)
    return HostedTimeline(app or hosted.app, timeline or hosted.timeline, command or hosted.command)
