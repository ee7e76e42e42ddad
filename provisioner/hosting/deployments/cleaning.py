"""Cleaning up after deployments: the files of old ones, and the remains of a daemon that was killed."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from provisioner.core.hosting import AppState, Deployment, DeploymentState
from provisioner.core.ids import TimelineId
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline, app_log, build_log, remove_cache
from provisioner.hosting.deployments.records import advance
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.runs import workplace
from provisioner.runs.log_times import times_path
from provisioner.runs.output import OLDER
from provisioner.runs.process import end_survivors
from provisioner.system.home import Home

KEPT_PRODUCTION, KEPT = 5, 2  # healthy revisions whose files are kept, to go back to
_AT_WORK = (AppState.RUNNING, AppState.STARTING, AppState.BUILDING)
REMEMBERED = 20  # deployments of a timeline, with their logs


def clean(registry: Registry, hosted: HostedTimeline, active: str, used: Collection[str]) -> None:
    """Remove the files of old deployments, and forget older ones. Those `used` stay."""
    kept = KEPT_PRODUCTION if hosted.timeline.production else KEPT
    past = hosting.deployments(registry, hosted.timeline.id)
    others = [each for each in past if each.id != active and each.id not in used]
    revisions = [each.revision for each in past if each.id == active]
    for each in others:
        if each.state is not DeploymentState.READY:
            continue
        again = each.revision in revisions
        if again or len(revisions) >= kept:
            why = "it was deployed again" if again else "newer revisions were healthy"
            _remove_files(registry, each)
            advance(registry, each, DeploymentState.CUT_OFF, f"its files were removed: {why}")
        else:
            revisions.append(each.revision)
    for each in others[REMEMBERED:]:
        _remove_files(registry, each)
        _remove_logs(registry.home, each.id)
        hosting.forget_deployment(registry, each.id)


def forget_all(registry: Registry, timeline_id: TimelineId) -> None:
    """Remove all that a timeline's app has left: files, logs, and what is recorded of it."""
    for each in hosting.deployments(registry, timeline_id):
        _remove_files(registry, each)
        _remove_logs(registry.home, each.id)
    remove_cache(registry.home, timeline_id)
    with registry.change():
        hosting.forget_hosted(registry, timeline_id)


def settle(registry: Registry) -> None:
    """End what a daemon that was killed has left, and have what ran then be started again."""
    for each in hosting.unfinished_deployments(registry):
        end_survivors(each.id)
        advance(registry, each, DeploymentState.CUT_OFF, "the daemon ended before it was done")
    for each in hosting.deployments_among(registry, workplace.run_ids(registry.home)):
        if each.state is not DeploymentState.READY:
            _remove_files(registry, each)
    for command in hosting.run_commands(registry):
        for state in hosting.all_hosted(registry, command.app_id):
            if state.state in _AT_WORK:
                if state.active:
                    end_survivors(state.active)
                _start_again(registry, state.timeline_id)


def _start_again(registry: Registry, timeline_id: TimelineId) -> None:
    with registry.change():  # a person may have stopped it in the meantime
        state = hosting.hosted(registry, timeline_id)
        if state is not None and state.state in _AT_WORK:
            hosting.save_hosted(registry, replace(state, state=AppState.STARTING))


def has_files(registry: Registry, hosted: HostedTimeline, deployment: Deployment) -> bool:
    """Are the files of a deployment there? A copied home begins without them."""
    return os.path.isdir(workplace.place(registry.home, deployment.id, hosted.app.run_as).checkout)


def _remove_files(registry: Registry, deployment: Deployment) -> None:
    workplace.remove(registry.home, deployment.id)


def _remove_logs(home: Home, deployment_id: str) -> None:
    for log in (build_log(home, deployment_id), app_log(home, deployment_id), app_log(home, deployment_id) + OLDER):
        for path in (log, times_path(log)):
            with suppress(FileNotFoundError):
                os.unlink(path)
