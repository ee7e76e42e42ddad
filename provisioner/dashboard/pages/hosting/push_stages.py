"""The stages of a push, from the databases to the URL: done, in progress, failed, or not reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.hosting import AppState, Deployment, DeploymentState, DeploymentStep, StepState
from provisioner.core.model import Database, Status
from provisioner.core.naming import SHORT_REVISION
from provisioner.dashboard.pages.hosting.app_summaries import AppSummary
from provisioner.dashboard.web.rendering import took
from provisioner.operations.documents import Document

START = "start"


class StageState(StrEnum):
    DONE = "done"
    IN_PROGRESS = "in progress"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, and in a few words how it went."""

    name: str
    state: StageState
    fact: str


def databases(held: Sequence[Database]) -> Stage:
    live = [each for each in held if each.live]
    connected = sum(each.status is Status.CONNECTED for each in live)
    if not live:
        return Stage("Databases", StageState.NOT_REACHED, "none")
    state = StageState.DONE if connected == len(live) else StageState.IN_PROGRESS
    if any(each.status is Status.ERROR for each in live):
        state = StageState.FAILED
    return Stage("Databases", state, f"{connected} of {len(live)} connected")


def build(latest: Deployment | None, steps: Sequence[DeploymentStep]) -> Stage:
    mine = [each for each in steps if each.name != START]
    failed = next((each for each in mine if each.state is StepState.FAILED), None)
    running = next((each for each in reversed(mine) if each.state is StepState.RUNNING), None)
    if latest is None:
        return Stage("Build", StageState.NOT_REACHED, "not built yet")
    match latest.state:
        case DeploymentState.SKIPPED:
            return Stage("Build", StageState.NOT_REACHED, "skipped: [skip ci] or [skip deploy] in the commit message")
        case DeploymentState.CUT_OFF:
            return Stage("Build", StageState.NOT_REACHED, "waiting to be built again")
        case DeploymentState.BUILDING:
            return Stage("Build", StageState.IN_PROGRESS, running.name if running else "waiting")
        case _ if failed is not None:
            return Stage("Build", StageState.FAILED, f"{failed.name} failed after {_time(failed)}")
        case _:
            spent = sum((each.ended_at or each.started_at) - each.started_at for each in mine)
            return Stage("Build", StageState.DONE, f"{', '.join(each.name for each in mine)}: {took(spent)}")


def pre_deploy(deploy: Document | None) -> Stage | None:
    """None if the app has no pre-deploy command."""
    if deploy is None:
        return None
    state = {"running": StageState.IN_PROGRESS, "succeeded": StageState.DONE, "failed": StageState.FAILED}.get(
        str(deploy["state"]), StageState.NOT_REACHED
    )
    return Stage("Pre-deploy", state, str(deploy["state"]))


def app(latest: Deployment | None, steps: Sequence[DeploymentStep]) -> Stage:
    start = next((each for each in steps if each.name == START), None)
    if latest is None or latest.state in (
        DeploymentState.BUILDING,
        DeploymentState.BUILT,
        DeploymentState.SKIPPED,
        DeploymentState.CUT_OFF,
    ):
        return Stage("App", StageState.NOT_REACHED, "not started with this push")
    if latest.state is DeploymentState.STARTING:
        return Stage("App", StageState.IN_PROGRESS, "starting")
    if latest.state is DeploymentState.READY:
        return Stage("App", StageState.DONE, f"healthy after {_time(start)}" if start else "healthy")
    if start is not None and start.state is StepState.FAILED:
        return Stage("App", StageState.FAILED, f"failed after {_time(start)}")
    return Stage("App", StageState.NOT_REACHED, "not started with this push")


def url(summary: AppSummary) -> Stage:
    """A deployment of the pushed revision serves this push, even while the revision is deployed again."""
    serves = summary.active.revision[:SHORT_REVISION] if summary.active is not None else "this push"
    match summary.state:
        case AppState.STOPPED:
            return Stage("URL", StageState.NOT_REACHED, "stopped by a user")
        case AppState.RUNNING:
            return Stage("URL", StageState.DONE, f"serves {serves}")
        case AppState.SLEEPING:
            state = StageState.DONE if summary.known.active else StageState.NOT_REACHED
            return Stage("URL", state, "starts with the next request")
        case AppState.BUILDING | AppState.STARTING:
            return Stage("URL", StageState.IN_PROGRESS, "waits for the app")
        case _:
            return Stage("URL", StageState.FAILED, "shows why the app failed")


def _time(step: DeploymentStep) -> str:
    return took((step.ended_at or step.started_at) - step.started_at)
