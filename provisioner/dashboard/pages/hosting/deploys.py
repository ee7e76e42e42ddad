"""The deploys of a timeline's app: each revision with its steps, their times, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from provisioner.core.hosting import Deployment, DeploymentState, DeploymentStep
from provisioner.core.model import App, Timeline
from provisioner.dashboard.pages.hosting.app_summaries import AppSummaries
from provisioner.dashboard.pages.suggest import timeline_of
from provisioner.dashboard.web.context import PageContext
from provisioner.git.commit_info import CommitInfo, commit_infos
from provisioner.registry import hosting
from provisioner.registry.redaction import mask

PILLS: Final = {
    DeploymentState.BUILDING: "provisioning",
    DeploymentState.BUILT: "provisioning",
    DeploymentState.STARTING: "provisioning",
    DeploymentState.READY: "connected",
    DeploymentState.FAILED: "error",
    DeploymentState.CUT_OFF: "rest",
    DeploymentState.SKIPPED: "rest",
}
"""The color of each state."""


@dataclass(frozen=True, slots=True)
class DeployRow:
    """`serves`: requests go to it. `path` leads to its own URL if it has one."""

    deployment: Deployment
    steps: list[DeploymentStep]
    commit: CommitInfo | None
    serves: bool
    path: str

    @property
    def pill(self) -> str:
        return PILLS[self.deployment.state]

    @property
    def words(self) -> str:
        if self.serves:
            return "serving"
        state = self.deployment.state
        return "interrupted" if state is DeploymentState.CUT_OFF else str(state)

    @property
    def under_way(self) -> bool:
        return self.deployment.ended_at is None


def rows(visit: PageContext, app: App, timeline: Timeline, summaries: AppSummaries) -> list[DeployRow]:
    """The newest first."""
    known = hosting.hosted(visit.registry, timeline.id)
    found = hosting.deployments(visit.registry, timeline.id)
    commits = commit_infos(app.git_dir, (each.revision for each in found))
    return [
        DeployRow(
            deployment=each,
            steps=hosting.steps(visit.registry, each.id),
            commit=commits.get(each.revision),
            serves=known is not None and known.active == each.id,
            path=summaries.revision_path(each.revision) if each.state is DeploymentState.READY else "",
        )
        for each in found
    ]


def page(visit: PageContext) -> Response:
    app, timeline = timeline_of(visit)
    summaries = AppSummaries(visit, app, [timeline])
    return visit.page(
        "deploys.html",
        app=app,
        timeline=timeline,
        summary=summaries.of(timeline),
        rows=rows(visit, app, timeline, summaries),
        mask=mask(visit.registry, app).text,
    )
