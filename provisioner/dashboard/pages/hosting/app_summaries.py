"""The apps that run for timelines, as pages show them: state, URL, and the commits that are pushed and that serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from provisioner.core.host_names import host_name, revision_label
from provisioner.core.hosting import AppState, Deployment, HostedApp
from provisioner.core.model import App, Timeline
from provisioner.dashboard.web.context import PageContext
from provisioner.git.commit_info import CommitInfo, commit_infos
from provisioner.hosting.app_documents import AppDocuments
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.registry import hosting
from provisioner.system.router_address import address

PILLS: Final = {
    AppState.BUILDING: "provisioning",
    AppState.STARTING: "provisioning",
    AppState.RUNNING: "connected",
    AppState.SLEEPING: "rest",
    AppState.STOPPED: "rest",
    AppState.FAILED: "error",
}
"""The color of each state."""


@dataclass(frozen=True, slots=True)
class AppSummary:
    """A timeline's app. `path` leads to its URL by way of the dashboard, which signs in; empty if this visitor may not open it.

    `domains` are the URLs of its custom domains, each with its path. `commit` is what was pushed last; `active` is the
    deployment that serves, if it is of another revision. `failure` is why the app does not run, or not at what was pushed
    last; empty if it does.
    """

    hosted: HostedTimeline
    known: HostedApp
    url: str
    domains: list[tuple[str, str]]
    path: str
    commit: CommitInfo | None
    active: Deployment | None
    active_commit: CommitInfo | None
    failure: str

    @property
    def state(self) -> AppState:
        return self.known.state

    @property
    def push_failed(self) -> bool:
        """It serves, but not what was pushed last: the worst thing names the state."""
        return bool(self.failure) and self.known.state in (AppState.RUNNING, AppState.SLEEPING)

    @property
    def pill(self) -> str:
        return "error" if self.push_failed else PILLS[self.known.state]

    @property
    def words(self) -> str:
        return "push failed" if self.push_failed else str(self.known.state)

    @property
    def short_url(self) -> str:
        return self.url.partition("://")[2]

    @property
    def stopped(self) -> bool:
        return self.known.state is AppState.STOPPED


class AppSummaries:
    """The apps of some of an app's timelines, read at once for all of them."""

    def __init__(self, visit: PageContext, app: App, timelines: Sequence[Timeline]) -> None:
        registry = visit.registry
        self.command = hosting.run_command(registry, app.id)
        self._app, self._router = app, address(registry.home)
        shown = [each for each in timelines if self.command is not None and _has_app(each)]
        self._known = {each.timeline_id: each for each in hosting.hosted_among(registry, [each.id for each in shown])}
        self._documents = AppDocuments(registry, app, shown)
        active = [each.active for each in self._known.values() if each.active]
        self._active = {each.id: each for each in hosting.deployments_among(registry, active)}
        revisions = [*(each.revision for each in shown), *(each.revision for each in self._active.values())]
        self._commits = commit_infos(app.git_dir, revisions)
        public = self.command is not None and self.command.public
        self._opens = self._router.everyone or public or not visit.session.read_only

    def of(self, timeline: Timeline) -> AppSummary | None:
        """None if no app is run for the timeline."""
        if self.command is None or not _has_app(timeline):
            return None
        hosted = HostedTimeline(self._app, timeline, self.command)
        known = self._known.get(timeline.id) or HostedApp(timeline.id, self._app.id, hosted.label, AppState.SLEEPING)
        document = self._documents.of(timeline)
        active = self._active.get(known.active)
        if active is not None and active.revision == timeline.revision:
            active = None
        return AppSummary(
            hosted=hosted,
            known=known,
            url=document["url"],
            domains=[(each, self.path(urlsplit(each).hostname or "")) for each in document["domains"]],
            path=self.path(hosted.host(self._router.domain)),
            commit=self._commits.get(timeline.revision),
            active=active,
            active_commit=self._commits.get(active.revision) if active is not None else None,
            failure=document["app_error"] or "",
        )

    def revision_path(self, revision: str) -> str:
        """What leads to the URL of a revision that was healthy."""
        return self.path(host_name(self._app.slug, revision_label(revision), self._router.domain))

    def path(self, host: str) -> str:
        return f"/open-preview?host={quote(host, safe='')}" if self._opens else ""


def _has_app(timeline: Timeline) -> bool:
    return not timeline.preview and timeline.gone_at is None
