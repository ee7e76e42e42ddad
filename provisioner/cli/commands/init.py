"""`provisioner init`: from a repository to a working state in one command."""

from __future__ import annotations

import os
import sys

import click

from provisioner.cli import failure
from provisioner.cli.commands.app.group import app_document
from provisioner.cli.common_options import note
from provisioner.cli.context import json_option, print_json, the_home
from provisioner.cli.registration import PRODUCTION_HELP, registered
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.daemon.worker import report
from provisioner.git import hooks
from provisioner.git.worktree import find_checkout
from provisioner.operations.instance.names import default, restore_default
from provisioner.operations.reconcile_now import run_whole
from provisioner.reconcile.apply.ownership import unmakeable
from provisioner.registry import queries
from provisioner.registry.home.observed_time import recoverable
from provisioner.registry.store import Registry
from provisioner.system import inbox


@click.command()
@click.argument("path", default=".")
@click.option("--name", metavar="SLUG", help="The app's name. Default: the directory's.")
@click.option("--production-branch", metavar="BRANCH", help=PRODUCTION_HELP)
@click.option("--grace", metavar="TIME", help="Archive this long after a branch is gone. Default: 10s.")
@click.option("--retention", metavar="TIME", help="Keep archived databases this long. Default: 7d.")
@click.option("--no-hooks", is_flag=True, help="Don't install hooks; rely on 'watch' or 'reconcile'.")
@json_option
def init(
    path: str,
    name: str | None,
    production_branch: str | None,
    grace: str | None,
    retention: str | None,
    no_hooks: bool,
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
            registry.assign(default(registry), app, now_ms())
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
        branches = sorted(timeline.branch for timeline in registry.timelines(app.id) if timeline.gone_at is None)
        if not as_json:
            click.echo(f"app {app.slug}: {len(branches)} timelines, production branch {shown(app.production)}")
            for line in report(registry, app, branches[:20]):
                click.echo(line.removeprefix("provisioner: "))
            if len(branches) > 20:
                click.echo(f"… and {len(branches) - 20} more: provisioner status")
        _must_be_made(registry, app)
        if as_json:
            print_json(app_document(registry, app))


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
            f"{len(refused)} databases are stored but not in the registry, so no empty ones were created",
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
