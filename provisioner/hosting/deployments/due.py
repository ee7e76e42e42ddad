"""What is to be deployed, started, and ended for an app's timelines: decided here from the registry, and only said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from provisioner.core.hosting import AppState, Deployment, DeploymentState, HostedApp, RunCommand
from provisioner.core.model import App, Status, deploy_status
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.deployments.records import app_of, set_state
from provisioner.registry import hosting, queries
from provisioner.registry.store import Registry

MOST_TOGETHER = 10
"""If more branches than this move within TOGETHER_MS, their apps are deployed when they are asked for, unless they run."""
TOGETHER_MS = 5000  # Git changes the refs of a push one after the other, and they may be seen before it has ended

_MOVED_ON = (
    "app_id = ?1 and gone_at is null and not preview and revision <> '' and ("
    " (active_at >= ?2 and active_at not in (select active_at from (select active_at, count(*) over (order by active_at"
    " range between ?4 preceding and ?4 following) as together from timeline"
    " where app_id = ?1 and gone_at is null) where together > ?3)"
    " and (not exists (select 1 from deployment where timeline_id = timeline.id and"
    " deployment.revision = timeline.revision and state <> 'cut off')"
    " or exists (select 1 from hosted_app join deployment on deployment.id = active"
    " where hosted_app.timeline_id = timeline.id and deployment.revision <> timeline.revision)))"
    " or exists (select 1 from hosted_app where timeline_id = timeline.id and (state = 'starting' or locked <> ''))"
    " or exists (select 1 from hosted_app join deployment on deployment.id = active"
    " where hosted_app.timeline_id = timeline.id and hosted_app.state = 'running'"
    " and deployment.revision <> timeline.revision)"
    " or id in (select timeline_id from deployment where state in ('building', 'built', 'starting'))"
    " or production)"
    " order by not production, active_at desc"
)
_UNNAMED = (
    "app_id = ? and gone_at is null and not preview and revision <> ''"
    " and not exists (select 1 from hosted_app where timeline_id = timeline.id)"
)
_GONE = "app_id = ? and gone_at is not null and id in (select timeline_id from hosted_app where app_id = ?)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A timeline's app is to serve a revision. `latest` is its last deployment of that, if there is one."""

    hosted: HostedTimeline
    state: HostedApp
    revision: str
    latest: Deployment | None

    @property
    def asked(self) -> bool:
        """Has a user or a request asked to start it, so that it is tried even after a failure?"""
        return self.state.state is AppState.STARTING

    @property
    def to_deploy(self) -> bool:
        """Is there no deployment of it, or only one that failed before a person asked again?"""
        if self.latest is None or self.latest.state is DeploymentState.CUT_OFF:
            return True
        return self.asked and self.latest.state in (DeploymentState.FAILED, DeploymentState.SKIPPED)


def name_new(registry: Registry, app: App, command: RunCommand) -> None:
    """Give each timeline that has none yet its label: requests for it find it by that."""
    unnamed = registry.timelines_where(_UNNAMED, app.id)
    if not unnamed:
        return
    with registry.change():
        for timeline in unnamed:
            set_state(registry, HostedTimeline(app, timeline, command), AppState.SLEEPING)


def wanted(registry: Registry, app: App, command: RunCommand) -> Iterator[Wanted]:
    """What the timelines of an app are to serve: those that moved on since it is hosted, production, and what was asked for."""
    for timeline in registry.timelines_where(_MOVED_ON, app.id, command.changed_at, MOST_TOGETHER, TOGETHER_MS):
        found = wanted_of(registry, HostedTimeline(app, timeline, command))
        if found.state.state is not AppState.STOPPED:
            yield found


def waits_for_request(registry: Registry, found: Wanted) -> bool:
    """Is what is wanted deployed only once it is asked for, because more than MOST_TOGETHER branches moved at once?"""
    if found.latest is not None or found.asked or found.state.state is AppState.RUNNING:
        return False
    timeline = found.hosted.timeline
    return not timeline.production and queries.moved_together(registry, timeline, TOGETHER_MS) > MOST_TOGETHER


def wanted_of(registry: Registry, hosted: HostedTimeline) -> Wanted:
    """What one timeline's app is to serve."""
    state = app_of(registry, hosted)
    revision = state.locked or hosted.timeline.revision
    past = hosting.deployments(registry, hosted.timeline.id)
    return Wanted(hosted, state, revision, next((each for each in past if each.revision == revision), None))


def gone(registry: Registry, app: App, command: RunCommand) -> list[HostedTimeline]:
    """The timelines with an app whose branches are gone."""
    return [HostedTimeline(app, timeline, command) for timeline in registry.timelines_where(_GONE, app.id, app.id)]


def has_databases(registry: Registry, hosted: HostedTimeline) -> bool:
    """Has the timeline a database that is not archived, or uses another's?"""
    live = any(item.live for item in queries.databases_of(registry, hosted.timeline))
    return live or bool(queries.used_of_others(registry, hosted.timeline))


def is_connected(registry: Registry, hosted: HostedTimeline) -> bool:
    """Are all of the timeline's databases connected?"""
    live = [item for item in queries.databases_of(registry, hosted.timeline) if item.live]
    shared = queries.used_of_others(registry, hosted.timeline)
    return bool(live or shared) and all(item.status is Status.CONNECTED for item in (*live, *shared))


def pre_deploy_failure(hosted: HostedTimeline, revision: str) -> str | None:
    """What keeps a revision from being started: why its pre-deploy command failed, empty if nothing does, None while it is
    still to run."""
    if hosted.timeline.revision != revision:
        return ""
    match deploy_status(hosted.app, hosted.timeline):
        case Status.ERROR:
            return hosted.timeline.failure or "the pre-deploy command failed"
        case Status.PROVISIONING:
            return None
        case _:
            return ""
