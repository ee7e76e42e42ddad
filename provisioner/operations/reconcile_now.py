"""Reconciling a change that a person has just made, and running the commands that wait for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError, summary
from provisioner.core.model import App, Status, Timeline, deploy_status
from provisioner.operations.proposal import ProgressReporter
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.plan.planner_context import Retry
from provisioner.registry import queries
from provisioner.registry.store import Registry

if TYPE_CHECKING:  # commands that only look reconcile nothing, and these import half of the package
    from provisioner.reconcile.controller import Outcome

T = TypeVar("T")


def run(
    registry: Registry, app: App, cause: str, reporter: ProgressReporter, *, retry: Retry = True, steps: bool = False
) -> Outcome:
    """Reconcile one app, and retry what failed."""
    from provisioner.reconcile import controller

    with reporter.reconciling(app, steps=steps) as progress:
        return controller.reconcile(registry, app, now_ms(), cause, retry=retry, progress=progress)


def run_whole(
    registry: Registry, app: App, cause: str, reporter: ProgressReporter, *, retry: Retry = True, steps: bool = False
) -> Outcome:
    """Reconcile one app, and run the commands that its timelines wait for."""
    from provisioner.jobs.queue import do_all
    from provisioner.reconcile.apply.ownership import settle_owners

    outcome = run(registry, app, cause, reporter, retry=retry, steps=steps)
    do_all(registry, app, cause, say=reporter.say, retry=retry, stop=reporter.stopping)
    with app_locked(registry, app):
        settle_owners(registry, app, new=True)
    return outcome


def must_be_renewed(registry: Registry, app: App) -> None:
    """Raises ProvisionerError if programs may still be connected to one of the app's databases that should not be."""
    for database in queries.to_renew(registry, app.id):
        raise ProvisionerError(
            f"{database.name}: {database.error or 'its server still has the old logins'}",
            f"Resolve this, then run: provisioner database fix {database.name}",
        )


def must_be_deployed(app: App, timelines: Iterable[Timeline]) -> None:
    """Raises ProvisionerError if the pre-deploy command has failed on one of the timelines."""
    for timeline in timelines:
        if timeline.gone_at is None and deploy_status(app, timeline) is Status.ERROR:
            name = os.fsdecode(timeline.name)
            raise ProvisionerError(
                f"timeline {name!r} failed: {timeline.failure}",
                f"Push a fix, or run it again: provisioner database fix {name}",
            )


@dataclass(frozen=True, slots=True)
class AppResult(Generic[T]):
    """What came of one app: a value, or an error that names the app."""

    app: App
    value: T | None
    error: ProvisionerError | None = None


def each_app(apps: Iterable[App], step: Callable[[App], T]) -> list[AppResult[T]]:
    """Do the step for each app, whatever it raises for others."""
    results: list[AppResult[T]] = []
    for app in apps:
        try:
            results.append(AppResult(app, step(app)))
        except Exception as error:  # any failure of one app: the others are worked on all the same
            results.append(AppResult(app, None, _of_app(app, error)))
    return results


def must_all_be_done(results: Sequence[AppResult[T]], reporter: ProgressReporter) -> None:
    """Report every failure. Raises the last."""
    failures = [result.error for result in results if result.error is not None]
    for failure in failures[:-1]:
        reporter.say(f"provisioner: {failure}")
    if failures:
        raise failures[-1]


def _of_app(app: App, error: Exception) -> ProvisionerError:
    if not isinstance(error, ProvisionerError):
        return ProvisionerError(f"app {app.slug}: {summary(error)}", "Run: provisioner doctor")
    named = ProvisionerError(f"app {app.slug}: {error.message}", error.hint)
    named.exit_code = error.exit_code
    return named
