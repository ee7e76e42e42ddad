"""The way of a push to its URL: what is done, what is under way, what failed, and what was not reached."""

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


class Passed(StrEnum):
    """How far one station of the way was passed."""

    DONE = "done"
    BUSY = "under way"
    FAILED = "failed"
    OFF = "not reached"


@dataclass(frozen=True, slots=True)
class Station:
    """One station, and the fact that matters there."""

    name: str
    passed: Passed
    fact: str


def databases(held: Sequence[Database]) -> Station:
    live = [each for each in held if each.live]
    connected = sum(each.status is Status.CONNECTED for each in live)
    passed = Passed.DONE if live and connected == len(live) else Passed.BUSY
    if any(each.status is Status.ERROR for each in live):
        passed = Passed.FAILED
    return Station("Databases", passed, f"{connected} of {len(live)} connected" if live else "none")


def build(latest: Deployment | None, steps: Sequence[DeploymentStep]) -> Station:
    mine = [each for each in steps if each.name != START]
    failed = next((each for each in mine if each.state is StepState.FAILED), None)
    running = next((each for each in reversed(mine) if each.state is StepState.RUNNING), None)
    if latest is None:
        return Station("Build", Passed.OFF, "not built yet")
    match latest.state:
        case DeploymentState.SKIPPED:
            return Station("Build", Passed.OFF, "skipped: the commit says so")
        case DeploymentState.CUT_OFF:
            return Station("Build", Passed.OFF, "waiting to be built again")
        case DeploymentState.BUILDING:
            return Station("Build", Passed.BUSY, running.name if running else "waiting")
        case _ if failed is not None:
            return Station("Build", Passed.FAILED, f"{failed.name} failed after {_time(failed)}")
        case _:
            spent = sum((each.ended_at or each.started_at) - each.started_at for each in mine)
            return Station("Build", Passed.DONE, f"{', '.join(each.name for each in mine)}: {took(spent)}")


def pre_deploy(deploy: Document | None) -> Station | None:
    """None if the app has no pre-deploy command."""
    if deploy is None:
        return None
    passed = {"running": Passed.BUSY, "succeeded": Passed.DONE, "failed": Passed.FAILED}.get(
        str(deploy["state"]), Passed.OFF
    )
    return Station("Pre-deploy", passed, str(deploy["state"]))


def app(latest: Deployment | None, steps: Sequence[DeploymentStep]) -> Station:
    start = next((each for each in steps if each.name == START), None)
    if latest is None or latest.state in (
        DeploymentState.BUILDING,
        DeploymentState.BUILT,
        DeploymentState.SKIPPED,
        DeploymentState.CUT_OFF,
    ):
        return Station("App", Passed.OFF, "not started with this push")
    if latest.state is DeploymentState.STARTING:
        return Station("App", Passed.BUSY, "starting")
    if latest.state is DeploymentState.READY:
        return Station("App", Passed.DONE, f"healthy after {_time(start)}" if start else "healthy")
    if start is not None and start.state is StepState.FAILED:
        return Station("App", Passed.FAILED, f"did not start within {_time(start)}")
    return Station("App", Passed.OFF, "not started with this push")


def url(summary: AppSummary, latest: Deployment | None) -> Station:
    mine = latest is not None and latest.id == summary.known.active
    serves = summary.active.revision[:SHORT_REVISION] if summary.active is not None else ""
    match summary.state:
        case AppState.STOPPED:
            return Station("URL", Passed.OFF, "stopped by a user")
        case AppState.RUNNING:
            return Station("URL", Passed.DONE, "serves this push" if mine else f"serves {serves}")
        case AppState.SLEEPING:
            return Station("URL", Passed.DONE if mine or serves else Passed.OFF, "starts with the next request")
        case AppState.BUILDING | AppState.STARTING:
            return Station("URL", Passed.BUSY, "waits for the app")
        case _:
            return Station("URL", Passed.FAILED, "shows why the app failed")


def _time(step: DeploymentStep) -> str:
    return took((step.ended_at or step.started_at) - step.started_at)
