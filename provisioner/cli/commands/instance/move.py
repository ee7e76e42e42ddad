"""`provisioner instance move`."""

from __future__ import annotations

import click

from provisioner.cli.commands.instance.documents import after, of_each_database
from provisioner.cli.commands.instance.storage_options import where_options
from provisioner.cli.context import dry_run_option, json_option, the_home, yes_option
from provisioner.cli.selectors import object_argument
from provisioner.cli.terminal import carry_out
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.operations.instance import move as instance_move
from provisioner.operations.instance.names import find
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "instance", required=True)
@where_options("Move it to files in this directory.")
@click.option("--back", is_flag=True, help="Move back what was moved, and keep the old location.")
@click.option(
    "--forget", is_flag=True, help="Permanently delete the data that an earlier move left in the old location."
)
@dry_run_option
@yes_option
@json_option
def move(slug: str, where: StorageTarget, back: bool, forget: bool, yes: bool, as_json: bool) -> None:
    """Move an instance's Deno KV databases while in use.

    It copies, compares, and switches one database at a time. Programs on a provisioner server wait during the switch. If
    interrupted, run it again without a target.
    """
    with Registry.open(the_home()) as registry:
        found = find(registry, slug)
        document = after(registry, found) if as_json else None
        proposal = instance_move.move(registry, found, where, back=back, forget=forget)
        carry_out(proposal, yes=yes, document=document, plan=of_each_database(registry, "move", found))
