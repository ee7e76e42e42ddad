"""`provisioner init`: from a repository to a working state in one command."""

from __future__ import annotations

import os
import sys

import click

from provisioner.cli import failure
from provisioner.cli.commands.app.group import app_document
from provisioner.cli.commands.assign import new_branch_wanted
from provisioner.cli.common_options import note
from provisioner.cli.context import json_option, print_json, the_home
from provisioner.cli.options.duration import DURATION
from provisioner.cli.registration import PRODUCTION_HELP, registered
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import now_ms
from provisioner.core.counts import counted, verb
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.model import App, Status
from provisioner.core.naming import shown
from provisioner.daemon.worker import report
from provisioner.engines.catalog import ENGINES
from provisioner.git import hooks
from provisioner.git.worktree import find_checkout
from provisioner.operations.instance.addition import DEFAULT_ENGINE, restore_default, with_engine
from provisioner.operations.instance.names import find
from provisioner.operations.reconcile_now import run_whole
from provisioner.reconcile.apply.ownership import unmakeable
from provisioner.registry import queries
from provisioner.registry.home.observed_time import recoverable
from provisioner.registry.store import Registry
from provisioner.system import inbox


@click.command()
@click.argument("path", default=".")
@click.option("--name", metavar="APP", help="The app's name. Default: the directory's.")
@click.option("--production-branch", metavar="BRANCH", help=PRODUCTION_HELP)
@click.option("--grace", type=DURATION, help="Archive this long after a branch is gone. Default: 10s.")
@click.option("--retention", type=DURATION, help="Keep archived databases this long. Default: 7d.")
@click.option("--no-hooks", is_flag=True, help="Don't install hooks; rely on 'watch' or 'reconcile'.")
@click.option("--engine", type=click.Choice(list(ENGINES)), help="The engine of its databases. Default: deno-kv.")
@click.option(
    "--instance", "slug", metavar="INSTANCE", help="The instance for its databases. Default: one with the engine."
)
@click.option(
    "--new-branch",
    metavar="empty|production|parent|BRANCH",
    callback=new_branch_wanted,
    help="What a new branch's database starts from. Default: empty.",
)
@json_option
def init(
    path: str,
    name: str | None,
    production_branch: str | None,
    grace: str | None,
    retention: str | None,
    no_hooks: bool,
    engine: str | None,
    slug: str | None,
    new_branch: str | None,
    as_json: bool,
) -> None:
    """Register a repository and provision its branches."""
    home = the_home()
    with Registry.open(home, create=True) as registry:
        registry.organization()
        restore_default(registry)
        app = registered(registry, path, name, production_branch, grace, retention)
        if not registry.assigned(app.id):
            _must_not_be_deleted(registry, app)
        _assign(registry, app, engine, slug, new_branch)
        checkout = find_checkout(os.fsencode(path))
        if not no_hooks and checkout is not None:
            try:
                installed = hooks.install(checkout.common_dir, checkout.top, app.id, home.path)
                note(f"hooks: {', '.join(hook.name for hook in installed)}")
                if hint := hooks.within(sys.prefix, checkout.top):
                    failure.line(hint)
            except ProvisionerError as error:
                failure.line(str(error))
        run_whole(registry, app, "init", TERMINAL)
        inbox.leave(home.inbox, app.id)  # so that a running daemon watches it from now on
        if not as_json:
            _print(registry, app)
        _must_be_made(registry, app)
        if as_json:
            print_json(app_document(registry, app))


def _assign(registry: Registry, app: App, engine: str | None, slug: str | None, new_branch: str | None) -> None:
    """Assign the instance that is asked for; if none is, and the app has none, the default one."""
    there = registry.assigned(app.id)
    if slug is not None:
        chosen = find(registry, slug)
        if engine is not None and chosen.engine != engine:
            raise UsageError(f"instance {slug!r} has the engine {chosen.engine}, not {engine}", "Omit --engine")
    elif engine is not None or not there:
        wanted = engine or DEFAULT_ENGINE
        chosen = next((item for item in there if item.engine == wanted), None) or with_engine(
            registry, wanted, TERMINAL
        )
    else:
        chosen = there[0]
    if new_branch is not None or all(item.id != chosen.id for item in there):
        registry.assign(chosen, app, now_ms(), None, new_branch)


def _print(registry: Registry, app: App) -> None:
    """One line for what works, and one for each timeline that does not, up to 20."""
    live = [database for database in registry.databases(app.id) if database.live]
    ready = sum(database.status is Status.CONNECTED for database in live)
    where = ", ".join(f"{item.slug} ({item.engine})" for item in registry.assigned(app.id))
    all_of_them = counted(len(live), "database")
    how_many = all_of_them if ready == len(live) else f"{ready} of {all_of_them}"
    production = shown(app.production)
    click.echo(
        f"Registered app {app.slug} with production branch {production}. {how_many} on {where}"
        f" {verb(len(live), 'is', 'are')} ready"
    )
    branches = sorted(timeline.branch for timeline in registry.timelines(app.id) if timeline.gone_at is None)
    failed = [line for line in report(registry, app, branches) if line.split(" ")[2:3] != ["connected"]]
    for line in failed[:20]:
        click.echo(line.removeprefix("provisioner: "))
    if len(failed) > 20:
        click.echo(f"… and {len(failed) - 20} more: provisioner status")


def _must_be_made(registry: Registry, app: App) -> None:
    """Raises ProvisionerError if stored databases are missing from the registry, so that none was created for their timelines."""
    refused = [
        item
        for item in queries.failed(registry, app.id)
        if item.connected_at is None
        and unmakeable(registry, app, registry.storage_of(item), {item.id: registry.timeline(item.timeline_id)}, [item])
    ]
    if refused:
        raise ProvisionerError(
            f"{counted(len(refused), 'database')} {verb(len(refused), 'is', 'are')} stored but not in the registry,"
            " so no empty one was created instead",
            "To use them, run: provisioner database recover --all",
        )


def _must_not_be_deleted(registry: Registry, app: App) -> None:
    """Raises ProvisionerError if the app's data is on a deleted instance, instead of creating empty databases."""
    mine = {database.instance_id for database in registry.databases(app.id)}
    for item in recoverable(registry, now_ms()):
        if item.instance.id in mine:
            raise ProvisionerError(
                f"the database instance {item.instance.slug!r} of app {app.slug!r} was deleted",
                f"To recover it, run: provisioner instance recover {item.instance.id}. To start with empty databases, run:"
                f" provisioner instance add NAME, and provisioner assign NAME {app.slug}",
            )
