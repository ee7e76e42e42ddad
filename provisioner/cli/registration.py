"""Registering a repository, and asking for what it does not show."""

from __future__ import annotations

import click

from provisioner.cli.standard_input import answer, can_ask
from provisioner.core.errors import UsageError
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.git.production_branch import UnclearProductionBranch
from provisioner.operations.apps import register
from provisioner.registry.store import Registry

PRODUCTION_HELP = "Default: the remote's default branch, or the only one of main, master, and trunk."


def registered(
    registry: Registry, path: str, name: str | None, production: str | None, grace: str | None, retention: str | None
) -> App:
    """The registered app. Asks at a terminal which branch is production if that is unclear."""
    try:
        return register(registry, path, name, production, grace, retention)
    except UnclearProductionBranch as unclear:
        if not can_ask():
            raise
        click.echo(shown(f"{unclear.message}. {unclear.choices}"))
    while True:
        chosen = answer("Production branch")
        try:
            return register(registry, path, name, chosen, grace, retention)
        except UsageError as error:
            click.echo(shown(str(error)))
