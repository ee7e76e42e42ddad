"""The messages that other threads send to the thread of `manager`."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from provisioner.core.hosting import Deployment
from provisioner.core.ids import AppId, TimelineId
from provisioner.hosting.apps.sites import HostedSite
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.starting import RunningApp
from provisioner.hosting.router.waking import Woken


@dataclass(frozen=True, slots=True)
class LookAtApp:
    """Something of an app may have changed."""

    app_id: AppId


@dataclass(frozen=True, slots=True)
class WakeSite:
    """Requests wait for a site. At the port `unreachable` nothing took connections."""

    site: HostedSite
    unreachable: int | None
    woken: Future[Woken]


@dataclass(frozen=True, slots=True, eq=False)
class DeploymentTask:
    """A deployment that is built or started at the moment. ``serves``: requests for the timeline go to it afterwards; else
    only those for its revision. Once ``stop`` is set, it is given up."""

    hosted: HostedTimeline
    deployment: Deployment
    serves: bool = True
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class BuildEnded:
    """`failure` is empty if it is built; `superseded` if it was given up."""

    task: DeploymentTask
    failure: str = ""
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class StartEnded:
    """It runs, or `failure` says why not."""

    task: DeploymentTask
    running: RunningApp | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A process of a timeline's app that was asked to end has ended."""

    timeline_id: TimelineId


Message = LookAtApp | WakeSite | BuildEnded | StartEnded | ProcessEnded
