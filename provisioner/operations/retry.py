"""Retrying failed steps now: creating databases, and the pre-deploy commands of timelines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provisioner.core.counts import counted
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.model import App, Database, Instance, Timeline
from provisioner.core.naming import shown
from provisioner.jobs.pre_deploy import forget_failures
from provisioner.operations import documents
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.reconcile_now import must_be_deployed, run_whole
from provisioner.reconcile.plan.planner_context import Retry
from provisioner.registry import queries
from provisioner.registry.instances import databases_of
from provisioner.registry.store import Registry


def databases(registry: Registry, app: App, found: Timeline, wanted: Sequence[Database]) -> Proposal:
    """Create the databases of a timeline that failed, and run what the timeline waits for."""

    def do(reporter: ProgressReporter) -> Iterator[str]:
        forget_failures(registry, app, [registry.timeline(found.id)], registry.who)
        run_whole(registry, app, "fix", reporter, retry=frozenset(item.id for item in wanted))
        now = (registry.database(item.id) for item in wanted)
        _must_be_whole([item for item in now if item is not None])
        must_be_deployed(app, [registry.timeline(found.id)])
        yield "fixed"

    return Proposal(do)


def instance(registry: Registry, found: Instance) -> Proposal:
    """All failed databases of an instance; an app that fails does not stop the others."""

    def do(reporter: ProgressReporter) -> Iterator[str]:
        failed = {item.id: item.timeline_id for item in databases_of(registry, found.id) if item.error}
        timelines = [registry.timeline(timeline_id) for timeline_id in sorted(set(failed.values()))]
        troubles = []
        for app in registry.apps():
            theirs = [item for item in timelines if item.app_id == app.id]
            if theirs and (trouble := _tried(registry, app, reporter, theirs, frozenset(failed))):
                troubles.append(trouble)
        if troubles:
            raise troubles[0]
        _must_be_whole([item for item in databases_of(registry, found.id) if item.id in failed])
        yield (
            f"Fixed {counted(len(failed), 'database')} of {found.slug}"
            if failed
            else f"No database of {found.slug} had failed"
        )

    return Proposal(do)


def everything(registry: Registry, only: App | None = None) -> Proposal:
    """Everything that failed, of every app or of one; an app that fails does not stop the others."""

    def do(reporter: ProgressReporter) -> Iterator[str]:
        apps = registry.apps() if only is None else [only]
        troubles = [
            trouble
            for app in apps
            if (trouble := _tried(registry, app, reporter, queries.undeployed(registry, app.id)))
        ]
        if troubles:
            raise troubles[0]
        _must_be_whole([item for app in apps for item in queries.failed(registry, app.id)])
        for app in apps:
            must_be_deployed(app, queries.undeployed(registry, app.id))
        yield "fixed"

    return Proposal(do)


def timeline(registry: Registry, app: App, found: Timeline) -> Proposal:
    """A timeline's databases, and its pre-deploy command."""

    def do(reporter: ProgressReporter) -> Iterator[str]:
        forget_failures(registry, app, [found], registry.who)
        run_whole(registry, app, "fix", reporter, retry=queries.ids_of(registry, found))
        current = registry.timeline(found.id)
        must_be_deployed(app, [current])
        for item in queries.databases_of(registry, current):
            if item.error:
                raise NotResolved(
                    f"{item.name}: {item.error}", f"Resolve this, then run: provisioner database fix {item.name}"
                )
        document = documents.timeline(registry, app, current)
        yield f"{shown(current.name)} is {document['status'] if document else 'gone'}"

    return Proposal(do)


def _tried(
    registry: Registry, app: App, reporter: ProgressReporter, timelines: list[Timeline], retry: Retry = True
) -> ProvisionerError | None:
    """The failure of an app's reconcile or of its commands."""
    try:
        forget_failures(registry, app, timelines, registry.who)
        run_whole(registry, app, "fix", reporter, retry=retry)
    except ProvisionerError as error:
        return error
    return None


def _must_be_whole(databases: list[Database]) -> None:
    for item in databases:
        if item.error:
            raise ProvisionerError(
                f'database "{item.name}" failed again: {item.error}',
                f"Resolve this, then run: provisioner database fix {item.name}",
            )
