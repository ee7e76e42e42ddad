"""Building a revision: its files in a separate directory, then its install and build commands, with a log."""

from __future__ import annotations

import os

from provisioner.core.errors import ProvisionerError
from provisioner.core.hosting import BUILD_MS, MOST_PROCESSES, Deployment
from provisioner.git.checkout_tree import CheckoutLimits, CheckoutStopped, check_out
from provisioner.hosting.deployments.commands import commands_of
from provisioner.hosting.deployments.hosted_timeline import (
    HostedTimeline,
    build_log,
    cache_of,
    cache_variables,
    reach,
    revision_variables,
    work_directory,
)
from provisioner.hosting.deployments.records import StepFailed, step
from provisioner.reconcile.changes.command_access import confined
from provisioner.registry import queries
from provisioner.registry.store import Registry
from provisioner.runs import workplace
from provisioner.runs.process import KEEP_FREE, STOPPED, Command, Confined, Stop, last_words, run, shell
from provisioner.runs.supervisors import SpareSupervisors
from provisioner.runs.workplace import Workplace
from provisioner.system import failpoints


class Superseded(ProvisionerError):  # noqa: N818
    """A build was given up, because its caller is to stop or a newer revision is there."""


def build(
    registry: Registry, hosted: HostedTimeline, deployment: Deployment, spare: SpareSupervisors, stop: Stop
) -> None:
    """Build it. Raises StepFailed, and Superseded once `stop` is true; nothing of it is left then."""
    home, app = registry.home, hosted.app
    workplace.remove(home, deployment.id)
    place = workplace.make(home, deployment.id, app.run_as)
    try:
        with step(registry, deployment, "checkout"):
            limits = CheckoutLimits(app.checkout_files, app.checkout_bytes, BUILD_MS / 1000, KEEP_FREE)
            check_out(app.git_dir, deployment.revision, place.checkout, limits, stop)
            if app.run_as:
                workplace.give(place, app.run_as)
            directory = work_directory(place, hosted.command)
            commands = commands_of(hosted.command, directory)
        failpoints.point("hosting.checked-out")
        if commands.install:
            with step(registry, deployment, "install"):
                _run(registry, hosted, deployment, place, directory, commands.install, spare, stop)
            failpoints.point("hosting.installed")
        if commands.build:
            with step(registry, deployment, "build"):
                _run(registry, hosted, deployment, place, directory, commands.build, spare, stop)
            failpoints.point("hosting.compiled")
    except StepFailed as error:
        workplace.remove(home, deployment.id)
        if stop() or isinstance(error.__cause__, CheckoutStopped):
            raise Superseded("it was stopped") from error
        raise


def _run(
    registry: Registry,
    hosted: HostedTimeline,
    deployment: Deployment,
    place: Workplace,
    directory: str,
    text: str,
    spare: SpareSupervisors,
    stop: Stop,
) -> None:
    """Run one command to its end. Raises ProvisionerError if it fails."""
    found = reach(registry, hosted, deploying=True)
    words = shell(text)
    cache = cache_for(registry, hosted)
    access = confined(registry, hosted.app, place, found.ways, words, writable=(cache,) if cache else ())
    must_be_confined(hosted, access)
    command = Command(
        words,
        directory,
        BUILD_MS,
        {
            **found.variables,
            **revision_variables(deployment),
            **(cache_variables(cache) if cache else {}),
            "CI": "true",
        },
        found.secrets,
        access,
        hosted.command.memory_bytes,
        processes=MOST_PROCESSES,
    )
    log = build_log(registry.home, deployment.id)
    why = run(registry.home, deployment.id, command, stop, log, spare)
    if why == STOPPED:
        raise Superseded(why)
    if why:
        said = last_words(log)
        raise ProvisionerError(f"{why}{f' ({said})' if said else ''}")


def cache_for(registry: Registry, hosted: HostedTimeline) -> str:
    """The directory for downloads of a timeline; empty for another account, which could not write to it."""
    if hosted.app.run_as:
        return ""
    production = queries.production(registry, hosted.app.id)
    return os.path.realpath(cache_of(registry.home, hosted.timeline.id, production.id if production else ""))


def must_be_confined(hosted: HostedTimeline, access: Confined) -> None:
    """Raises ProvisionerError where pushed code would have all that this user has, and the operator has not allowed that."""
    if access.sandbox is None and not access.user and not hosted.command.unfenced:
        raise ProvisionerError(
            f"the app could read the files of this home, because it cannot be sandboxed: {access.warning}",
            f"Run it as another account (provisioner app set {hosted.app.slug} --run-as USER), or allow it: provisioner app run"
            " --unfenced",
        )
