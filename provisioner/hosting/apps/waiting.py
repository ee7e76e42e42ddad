"""Requests that wait for a deployment that is given up."""

from __future__ import annotations

from provisioner.core.hosting import AppState
from provisioner.hosting.apps.processes import TimelineApp
from provisioner.hosting.deployments.due import is_connected
from provisioner.hosting.deployments.records import set_state
from provisioner.hosting.router.waking import AppFailed
from provisioner.registry import hosting
from provisioner.registry.store import Registry


def keep_waiting(registry: Registry, item: TimelineApp, deployment_id: str) -> None:
    """Requests that wait for this deployment wait for the next one instead, if the app is still to run."""
    waiting = item.waiting.pop(deployment_id, [])
    if not waiting:
        return
    state = hosting.hosted(registry, item.hosted.timeline.id)
    stopped = state is None or state.state is AppState.STOPPED or item.hosted.timeline.gone_at is not None
    if stopped or not is_connected(registry, item.hosted):
        for woken in waiting:
            woken.set_result(AppFailed("it was stopped"))
        return
    item.waiting.setdefault("", []).extend(waiting)
    if not item.running:
        set_state(registry, item.hosted, AppState.STARTING)  # as a request does: it is started whatever else is due
