"""How the deployment of a pushed revision goes, told to the pusher: its steps, what they print, and the URL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from provisioner.core.hosting import AppState, Deployment, DeploymentState, StepState
from provisioner.core.model import App, Status, deploy_status
from provisioner.core.naming import shown
from provisioner.hosting.deployments.due import is_connected, waits_for_request, wanted_of
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline, build_log
from provisioner.jobs.follow_log import LogFollower
from provisioner.jobs.progress import BEAT_SECONDS, PUSH_SECONDS
from provisioner.registry import hosting, queries
from provisioner.registry.redaction import mask
from provisioner.registry.store import Registry
from provisioner.system.router_address import address

LOOK_SECONDS = 0.05
_ENDED = (DeploymentState.READY, DeploymentState.FAILED, DeploymentState.SKIPPED)


def deployed_branches(registry: Registry, app: App, branches: Sequence[bytes]) -> list[HostedTimeline]:
    """Of these branches those whose app is deployed at each push, and can be now."""
    command = hosting.run_command(registry, app.id)
    if command is None:
        return []
    timelines = [each for each in queries.of_branches(registry, app.id, branches) if not each.preview]
    found = [HostedTimeline(app, each, command) for each in timelines if each.gone_at is None and each.revision]
    return [
        each for each in found if is_connected(registry, each) and deploy_status(app, each.timeline) is not Status.ERROR
    ]


def is_settled(registry: Registry, hosted: HostedTimeline) -> bool:
    """Has the deployment of the timeline's revision ended, or is there none to wait for?"""
    found = wanted_of(registry, hosted)
    if found.state.state is AppState.STOPPED or found.revision != hosted.timeline.revision:
        return True
    return (found.latest is not None and found.latest.state in _ENDED) or waits_for_request(registry, found)


def follow_deployments(
    registry: Registry, app: App, branches: Sequence[bytes], say: Callable[[str], None], *, runs: bool
) -> None:
    """Tell how the deployments of these branches go until they have ended, for PUSH_SECONDS at most, and then the URLs.

    `runs`: is there a daemon that deploys them?
    """
    hide = mask(registry, app).text
    until = time.monotonic() + PUSH_SECONDS
    for hosted in deployed_branches(registry, app, branches):
        name = os.fsdecode(hosted.timeline.name)
        if not runs:
            say(shown(f"provisioner: {name} has an app that does not run: start 'provisioner up'"))
            continue
        _follow(registry, hosted, until, lambda line: say(hide(line)))
        say(hide(report(registry, hosted)))


def report(registry: Registry, hosted: HostedTimeline) -> str:
    """A line about a timeline's app: its state, its URL, and why it is not the revision that was pushed."""
    found = wanted_of(registry, hosted)
    name, state = os.fsdecode(hosted.timeline.name), found.state
    router = address(registry.home)
    url = router.url(hosted.host(router.domain))
    if state.state is AppState.STOPPED:
        return shown(f"provisioner: {name} stopped {url}")
    if found.revision != hosted.timeline.revision:
        return shown(f"provisioner: {name} {state.state} {url} (locked to {found.revision[:12]})")
    if found.latest is not None and found.latest.state is DeploymentState.SKIPPED:
        return shown(f"provisioner: {name} {state.state} {url} (this commit says that it is not deployed)")
    if found.latest is not None and found.latest.state is DeploymentState.FAILED:
        serves = f"; {url} still serves the revision before" if state.active else ""
        return shown(f"provisioner: {name} failed: {found.latest.error}{serves}. See: provisioner logs")
    later = "; deployed when it is first requested" if waits_for_request(registry, found) else ""
    return shown(f"provisioner: {name} {state.state} {url}{later}")


def _follow(registry: Registry, hosted: HostedTimeline, until: float, say: Callable[[str], None]) -> None:
    name = os.fsdecode(hosted.timeline.name)
    beat = time.monotonic() + BEAT_SECONDS
    told, tails = "", dict[str, LogFollower]()
    while not is_settled(registry, hosted) and time.monotonic() < until:
        latest = wanted_of(registry, hosted).latest
        step = _step(registry, latest)
        if step != told or time.monotonic() > beat:
            say(shown(f"provisioner: {name}: {step if step != told else f'still {step}'}"))
            told, beat = step, time.monotonic() + BEAT_SECONDS
        if latest is not None and (lines := _tail(registry, tails, latest).lines()):
            beat = time.monotonic() + BEAT_SECONDS
            for line in lines:
                say(line)
        time.sleep(LOOK_SECONDS)
    latest = wanted_of(registry, hosted).latest
    if latest is not None and latest.id in tails:
        for line in tails[latest.id].lines(last=True):
            say(line)


def _tail(registry: Registry, tails: dict[str, LogFollower], deployment: Deployment) -> LogFollower:
    return tails.setdefault(deployment.id, LogFollower(build_log(registry.home, deployment.id)))


def _step(registry: Registry, latest: Deployment | None) -> str:
    if latest is None or latest.state is DeploymentState.CUT_OFF:
        return "waiting for its turn to be deployed"
    match latest.state:
        case DeploymentState.BUILT:
            return "waiting for the pre-deploy command"
        case DeploymentState.STARTING:
            return "starting"
        case _:
            running = [step.name for step in hosting.steps(registry, latest.id) if step.state is StepState.RUNNING]
            return running[-1] if running else "building"
