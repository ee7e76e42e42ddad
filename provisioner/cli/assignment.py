"""`provisioner assign` and `provisioner unassign`."""

from __future__ import annotations

import click

from provisioner.cli.instance import find
from provisioner.cli.reconcile import run
from provisioner.cli.shared import confirm, the_app, the_home, yes_option
from provisioner.clock import now_ms
from provisioner.errors import ProvisionerError
from provisioner.model import ConnectMode
from provisioner.registry.store import Registry


@click.command()
@click.argument("instance")
@click.argument("app", required=False)
@click.option(
    "--connect",
    "mode",
    type=click.Choice([str(mode) for mode in ConnectMode]),
    help="What apps get: the file, the server's URL, or auto, the URL while a server is up. Default: as it is; auto.",
)
def assign(instance: str, app: str | None, mode: str | None) -> None:
    """Attach INSTANCE to APP: every timeline gets a database there. Re-assigning brings the old data back."""
    with Registry.open(the_home()) as registry:
        chosen = the_app(registry, app)
        assigned = find(registry, instance)
        registry.assign(assigned, chosen, now_ms(), ConnectMode(mode) if mode else None)
        run(registry, chosen, "assign")
        live = [database for database in registry.databases(chosen.id) if database.live]
        connected = sum(database.status == "connected" for database in live)
        how = registry.connect_modes(chosen.id)[assigned.id]
        click.echo(f"{chosen.slug}: {connected} of {len(live)} databases connected, {how}")
        failed = next((database for database in live if database.error), None)
        if failed is not None:
            raise ProvisionerError(f"{failed.name}: {failed.error}", "Then run: provisioner database fix --all")


@click.command()
@click.argument("instance")
@click.argument("app", required=False)
@yes_option
def unassign(instance: str, app: str | None, yes: bool) -> None:
    """Detach INSTANCE from APP: its databases are archived and kept; nothing is injected any more."""
    with Registry.open(the_home()) as registry:
        chosen = the_app(registry, app)
        leaving = find(registry, instance)
        confirm(f"Take {instance} away from {chosen.slug}? Its data is kept", yes)
        registry.unassign(leaving, chosen, now_ms())
        run(registry, chosen, "unassign")
        click.echo(f"{chosen.slug}: {instance} is no longer assigned; 'provisioner assign' brings its data back")
