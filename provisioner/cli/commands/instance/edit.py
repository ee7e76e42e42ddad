"""`provisioner instance edit`: a new name, new limits, or a new location."""

from __future__ import annotations

import click

from provisioner.cli.commands.instance.allowance_options import allowance_options
from provisioner.cli.commands.instance.documents import after
from provisioner.cli.commands.instance.storage_options import where_options
from provisioner.cli.context import json_option, the_home
from provisioner.cli.selectors import object_argument
from provisioner.cli.terminal import carry_out
from provisioner.core.allowance import AllowanceChange
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.operations.instance.edit import edit as edited
from provisioner.operations.instance.names import find
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "instance", required=True)
@click.option("--name", metavar="SLUG", help="A new name. Its variables change with it.")
@where_options("The location that you moved its databases to, all of them.")
@allowance_options
@json_option
def edit(slug: str, name: str | None, where: StorageTarget, allowed: AllowanceChange, as_json: bool) -> None:
    """Change an instance's settings without moving data.

    To move databases to another disk, stop their programs, move the files, then run this.
    """
    with Registry.open(the_home()) as registry:
        found = find(registry, slug)
        document = after(registry, found) if as_json else None
        carry_out(edited(registry, found, name, where, allowed), document=document)
