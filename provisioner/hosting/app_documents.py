"""What `status` says of timelines' apps, as JSON has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provisioner.core.hosting import AppState, DeploymentState, HostedApp
from provisioner.core.ids import TimelineId
from provisioner.core.model import App, Timeline
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system.router_address import address

Document = dict[str, Any]


class AppDocuments:
    """The documents of some of an app's timelines, read once for all of them."""

    def __init__(self, registry: Registry, app: App, timelines: Sequence[Timeline]) -> None:
        self._app, self._router = app, address(registry.home)
        self._command = hosting.run_command(registry, app.id)
        ids = [each.id for each in timelines] if self._command is not None else []
        known = hosting.hosted_among(registry, ids) if ids else []
        self._known = {each.timeline_id: each for each in known}
        self._domains: dict[str, list[str]] = {}
        for claim in hosting.domains_of_app(registry, app.id) if ids else []:
            if claim.routed and not self._router.reserved(claim.name):
                self._domains.setdefault(claim.timeline_id, []).append(claim.name)
        self._failed = _failed_pushes(registry, timelines) if ids else {}

    def of(self, timeline: Timeline) -> Document:
        """``url``, ``state``, and ``app_error``, null if no app is run for it; the URLs of its custom ``domains``."""
        if self._command is None or timeline.preview or timeline.gone_at is not None:
            return {"url": None, "state": None, "app_error": None, "domains": []}
        found = self._known.get(timeline.id)
        host = HostedTimeline(self._app, timeline, self._command).host(self._router.domain)
        state = found.state if found is not None else AppState.SLEEPING
        return {
            "url": self._router.url(host),
            "state": str(state),
            "app_error": self._error(timeline, found),
            "domains": [self._router.url(name) for name in self._domains.get(timeline.id, ())],
        }

    def _error(self, timeline: Timeline, found: HostedApp | None) -> str | None:
        """Why its app does not run, or not at what was pushed last."""
        if found is not None and found.error:
            return found.error
        return self._failed.get(timeline.id)


def _failed_pushes(registry: Registry, timelines: Sequence[Timeline]) -> dict[TimelineId, str]:
    """Why what was pushed last to some of these timelines does not serve. It stays so while an older revision serves,
    sleeps, and restarts."""
    latest = hosting.latest_deployments(registry, {each.id: each.revision for each in timelines if each.revision})
    return {each.timeline_id: each.error for each in latest if each.state is DeploymentState.FAILED}
