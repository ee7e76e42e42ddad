"""Assigning an instance to an app, and unassigning it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from provisioner.core.clock import now_ms
from provisioner.core.counts import counted
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.model import App, ConnectMode, Instance
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.operations.fork_reset import Scrubbing
from provisioner.operations.instance.names import successor
from provisioner.operations.proposal import ProgressReporter, Proposal, Warned
from provisioner.operations.reconcile_now import run, run_whole
from provisioner.reconcile.apply.fork_sources import EMPTY, FORK, named
from provisioner.registry import queries
from provisioner.registry.store import Registry
from provisioner.registry.trouble import holds_production

NOTHING_SAID = Scrubbing()


def new_branch(text: str) -> str:
    """What the database of a new branch starts from: ``empty`` or ``fork:`` and a branch; of a branch, ``fork:`` may be
    omitted. Raises UsageError."""
    if text not in ("", EMPTY) and not text.startswith(FORK):
        text = f"{FORK}{text}"
    if text != EMPTY and not text.removeprefix(FORK).strip():
        raise UsageError(
            f"{text!r} is not what a new branch can start from",
            "Use empty, production, parent, or BRANCH",
        )
    return text


def assign(
    registry: Registry,
    app: App,
    instance: Instance,
    *,
    connect: ConnectMode | None = None,
    begins: str | None = None,
    scrubbing: Scrubbing = NOTHING_SAID,
) -> Proposal:
    """Give every timeline of the app a database on the instance. None keeps a setting, or gives a new one its default."""

    apart = [engine_of(instance.storage(moved=moved)).apart for moved in (False, True)]
    if connect is ConnectMode.FILE and (why := next(filter(None, apart), "")):
        raise UsageError(f"{instance.slug} cannot be connected by file: {why}", "Use --connect auto or url, or omit it")

    def do(reporter: ProgressReporter) -> Iterator[str]:
        registry.assign(instance, app, now_ms(), connect, begins, scrub=scrubbing.command, scrub_ms=scrubbing.limit_ms)
        reporter.say(f"{app.slug}: provisioning every timeline on {instance.slug}")
        run_whole(registry, app, "assign", reporter, steps=True)
        live = [database for database, _ in queries.live_databases(registry, app)]
        connected = sum(database.status == "connected" for database in live)
        how = f", {registry.connect_modes(app.id)[instance.id]}" if engine_of(instance).has_keys else ""
        yield f"{app.slug}: {connected} of {counted(len(live), 'database')} connected{how}"
        yield from _how_new_ones_begin(registry, app, instance, reporter)
        rule = registry.scrubs(app.id).get(instance.id)
        if rule is not None:
            yield f"{app.slug}: scrub command, within {rule.limit_ms / 1000:g} s: {rule.command}"
        failed = next((database for database in live if database.error), None)
        if failed is not None:
            raise ProvisionerError(
                f"{failed.name}: {failed.error}", "Resolve this, then run: provisioner database fix --all"
            )

    return Proposal(do)


def _how_new_ones_begin(registry: Registry, app: App, instance: Instance, reporter: ProgressReporter) -> Iterator[str]:
    begins = registry.new_branches(app.id)[instance.id]
    if begins != EMPTY:
        yield f"{app.slug}: new branches start from {begins.replace(FORK, 'a fork of ')}"
    source = named(begins, partial(queries.branches_with_data, registry, app.id))
    if source is not None and not queries.branches_with_data(registry, app.id, [source]):
        reporter.say(Warned(f"{app.slug}: no branch {shown(source)} exists; until it does, new databases start empty"))


def unassign(registry: Registry, app: App, instance: Instance) -> Proposal:
    """Unassign an instance: its databases are archived and kept."""
    heir = successor(registry, app, instance)
    then = f"; {heir}" if heir else ""

    def do(reporter: ProgressReporter) -> Iterator[str]:
        registry.unassign(instance, app, now_ms())
        run(registry, app, "unassign", reporter)
        slug = instance.slug
        yield f"Unassigned {slug} from {app.slug}. To get its data back: provisioner assign {slug} {app.slug}{then}"

    typed = app.slug if holds_production(registry, app, instance) else ""
    question = f"Unassign {instance.slug} from {app.slug}? Its data is kept{then}."
    return Proposal(do, f"{question} PRODUCTION loses its database." if typed else question, typed=typed)
