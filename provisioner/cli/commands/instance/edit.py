"""`provisioner instance edit`: a new name, new limits, or a new location."""

from __future__ import annotations

import click

from provisioner.cli.commands.instance.allowance_options import allowance_options
from provisioner.cli.commands.instance.documents import after
from provisioner.cli.commands.instance.storage_options import where_options
from provisioner.cli.context import json_option, the_home, yes_option
from provisioner.cli.selectors import object_argument
from provisioner.cli.terminal import carry_out
from provisioner.core.allowance import NO_CHANGE, AllowanceChange
from provisioner.core.errors import UsageError
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.operations.instance.edit import edit as edited
from provisioner.operations.instance.names import find
from provisioner.operations.instance.wiped import wiped
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "instance", required=True)
@click.option("--name", metavar="NAME", help="A new name. Its variables change with it.")
@where_options("The location that you moved its databases to, all of them.")
@allowance_options
@click.option(
    "--wiped", "is_wiped", is_flag=True, help="Its server has lost all data: let databases be reset or purged."
)
@json_option
@yes_option
def edit(
    slug: str,
    name: str | None,
    where: StorageTarget,
    allowed: AllowanceChange,
    is_wiped: bool,
    as_json: bool,
    yes: bool,
) -> None:
    """Change an instance's settings without moving data.

    To move databases to another disk, stop their programs, move the files, then run this.
    """
    with Registry.open(the_home()) as registry:
        found = find(registry, slug)
        document = after(registry, found) if as_json else None
        if is_wiped:
            if name is not None or where != StorageTarget() or allowed != NO_CHANGE:
                raise UsageError("--wiped and other options cannot be used together", "Choose one")
            carry_out(wiped(registry, found), yes=yes, document=document)
            return
        carry_out(edited(registry, found, name, where, allowed), document=document)
