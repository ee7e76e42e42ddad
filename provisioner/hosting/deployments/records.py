"""Recording deployments in the registry: their steps, their ends, and the state of a timeline's app."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError, summary
from provisioner.core.hosting import AppState, Deployment, DeploymentState, DeploymentStep, HostedApp, StepState
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.registry import events, hosting
from provisioner.registry.store import Registry
from provisioner.system import inbox


class StepFailed(ProvisionerError):  # noqa: N818
    """A step of a deployment did not succeed; the message says which and why."""


def begin(
    registry: Registry,
    hosted: HostedTimeline,
    revision: str,
    cause: str,
    state: DeploymentState = DeploymentState.BUILDING,
) -> Deployment:
    """Record a deployment of a revision, which is at work from now on, unless it is `skipped`."""
    made = Deployment(
        id=str(uuid.uuid4()),
        timeline_id=hosted.timeline.id,
        revision=revision,
        state=state,
        error="",
        cause=cause,
        port=None,
        created_at=now_ms(),
        ended_at=None,
    )
    hosting.save_deployment(registry, made)
    return made


def advance(registry: Registry, deployment: Deployment, state: DeploymentState, error: str = "") -> Deployment:
    """Record how far a deployment has come."""
    under_way = state in (DeploymentState.BUILDING, DeploymentState.BUILT, DeploymentState.STARTING)
    changed = replace(deployment, state=state, error=error, ended_at=None if under_way else now_ms())
    hosting.save_deployment(registry, changed)
    return changed


@contextmanager
def step(registry: Registry, deployment: Deployment, name: str) -> Iterator[None]:
    """Record the block as a step. Raises StepFailed if it raises something."""
    begun = DeploymentStep(deployment.id, name, StepState.RUNNING, "", now_ms(), None)
    hosting.save_step(registry, begun)
    try:
        yield
    except ProvisionerError as error:
        _end(registry, begun, StepState.FAILED, str(error))
        raise StepFailed(f"{name} failed: {error}") from error
    except Exception as error:
        _end(registry, begun, StepState.FAILED, summary(error))
        raise StepFailed(f"{name} failed: {summary(error)}") from error
    _end(registry, begun, StepState.SUCCEEDED, "")


def _end(registry: Registry, begun: DeploymentStep, state: StepState, error: str) -> None:
    hosting.save_step(registry, replace(begun, state=state, error=error, ended_at=now_ms()))


def app_of(registry: Registry, hosted: HostedTimeline) -> HostedApp:
    """The timeline's app as it is recorded, or as it is before anything was deployed."""
    found = hosting.hosted(registry, hosted.timeline.id)
    return found or HostedApp(hosted.timeline.id, hosted.app.id, hosted.label, AppState.SLEEPING)


def set_state(
    registry: Registry, hosted: HostedTimeline, state: AppState, *, error: str = "", active: str | None = None
) -> None:
    """Record the state of a timeline's app. One that a person has stopped stays stopped.

    A label that a timeline had before, which is gone, becomes free.
    """

    def as_changed() -> HostedApp:
        current = app_of(registry, hosted)
        kept = AppState.STOPPED if current.state is AppState.STOPPED else state
        return replace(current, state=kept, error=error, active=current.active if active is None else active)

    if as_changed() == hosting.hosted(registry, hosted.timeline.id):
        return
    with registry.change():  # a person may have changed it in the meantime
        changed = as_changed()
        other = hosting.hosted_by_label(registry, hosted.app.id, changed.label)
        if other is not None and other.timeline_id != changed.timeline_id:
            hosting.forget_hosted(registry, other.timeline_id)
        hosting.save_hosted(registry, changed)


def is_stopped(registry: Registry, hosted: HostedTimeline) -> bool:
    """Has a person stopped the timeline's app?"""
    return app_of(registry, hosted).state is AppState.STOPPED


def record_event(registry: Registry, hosted: HostedTimeline, action: str, detail: str) -> None:
    """Say it in the audit log."""
    registry.audit(now_ms(), action, hosted.timeline, detail=detail, cause="hosting")


def have_hooks_run(registry: Registry, hosted: HostedTimeline) -> None:
    """Have the daemon look for the operator's hooks that are due for an event. The event is committed."""
    if "on-healthy" in events.hooks(registry, hosted.app.id):
        inbox.leave(registry.home.inbox, hosted.app.id)
