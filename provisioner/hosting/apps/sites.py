"""Which timeline, and which of its deployments, a host name means: asked of the registry, never parsed out of the name."""

from __future__ import annotations

import os
from dataclasses import dataclass

from provisioner.core.host_names import is_host_name
from provisioner.core.hosting import AppState, Deployment, DeploymentState, HostedApp, RunCommand
from provisioner.core.model import App
from provisioner.core.naming import SHORT_REVISION
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.records import app_of
from provisioner.registry import hosting, queries
from provisioner.registry.store import Registry
from provisioner.system.router_address import RouterAddress


@dataclass(frozen=True, slots=True)
class HostedSite:
    """What a host means: a timeline's app, or with `deployment` one of its revisions, whatever else is active.

    ``custom``: it is not in the previews' domain, so it may lead here from other machines.
    """

    hosted: HostedTimeline
    state: HostedApp
    deployment: Deployment | None = None
    custom: bool = False

    def is_open(self, router: RouterAddress) -> bool:
        """Does no one have to sign in?"""
        return self.hosted.command.public or (router.everyone and not self.custom)

    @property
    def name(self) -> str:
        """What people call it."""
        what = os.fsdecode(self.hosted.timeline.name)
        return f"{self.hosted.app.slug}, {what}" + (f" at {self.deployment.revision[:12]}" if self.deployment else "")


def site_of(registry: Registry, host: str, router: RouterAddress) -> HostedSite | None:
    """The site of a host; None for one that there is not, or no longer."""
    if not is_host_name(host):
        return None
    if not host.endswith(f".{router.domain}"):
        return None if router.reserved(host) else _by_custom_domain(registry, host)
    label, _, slug = host.removesuffix(f".{router.domain}").rpartition(".")
    app = registry.app_called(slug)
    command = _run_command(registry, app)
    if app is None or command is None or "." in label:
        return None
    return _by_label(registry, app, command, label) or _by_revision(registry, app, command, label)


def _run_command(registry: Registry, app: App | None) -> RunCommand | None:
    """None if the app is not run here. The repository of one that is detached is another home's."""
    return hosting.run_command(registry, app.id) if app is not None and app.detached_from is None else None


def _by_custom_domain(registry: Registry, host: str) -> HostedSite | None:
    claim = hosting.custom_domain(registry, host)
    if claim is None or not claim.routed:
        return None
    app = registry.app(claim.app_id)
    command = _run_command(registry, app)
    timeline = queries.timeline_by_id(registry, claim.timeline_id)
    if app is None or command is None or timeline is None or timeline.gone_at is not None:
        return None
    hosted = HostedTimeline(app, timeline, command)
    return HostedSite(hosted, app_of(registry, hosted), custom=True)


def _by_label(registry: Registry, app: App, command: RunCommand, label: str) -> HostedSite | None:
    state = hosting.hosted_by_label(registry, app.id, label)
    timeline = queries.timeline_by_id(registry, state.timeline_id) if state is not None else None
    if timeline is None and not label:
        timeline = queries.production(registry, app.id)
    if timeline is None or timeline.gone_at is not None:
        return None
    hosted = HostedTimeline(app, timeline, command)
    return HostedSite(hosted, state or app_of(registry, hosted)) if hosted.label == label else None


def _by_revision(registry: Registry, app: App, command: RunCommand, label: str) -> HostedSite | None:
    if len(label) != SHORT_REVISION:
        return None
    for deployment in hosting.deployments_at(registry, app.id, label):
        timeline = queries.timeline_by_id(registry, deployment.timeline_id)
        if deployment.state is DeploymentState.READY and timeline is not None and timeline.gone_at is None:
            hosted = HostedTimeline(app, timeline, command)
            state = app_of(registry, hosted)
            if state.state is not AppState.STOPPED:
                return HostedSite(hosted, state, None if state.active == deployment.id else deployment)
    return None
