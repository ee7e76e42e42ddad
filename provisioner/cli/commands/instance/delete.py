"""`provisioner instance delete` and `recover`."""

from __future__ import annotations

import click

from provisioner.cli.context import the_home, yes_option
from provisioner.cli.selectors import object_argument
from provisioner.cli.terminal import carry_out
from provisioner.operations.instance import deletion as instance_deletion
from provisioner.operations.instances import find
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "instance", required=True)
@click.option("--no-backup", is_flag=True, help="Make no final backup.")
@yes_option
def delete(slug: str, no_backup: bool, yes: bool) -> None:
    """Back up and delete an instance and all its databases.

    Until the retention time of its apps is over, 'instance recover' brings all of it back.
    """
    with Registry.open(the_home()) as registry:
        carry_out(instance_deletion.delete(registry, find(registry, slug), backup=not no_backup), yes=yes)


@click.command()
@object_argument("slug", "instance", required=True)
def recover(slug: str) -> None:
    """Recover a deleted instance with its data and assignments.

    SLUG is its name, or its id.
    """
    with Registry.open(the_home()) as registry:
        carry_out(instance_deletion.recover(registry, instance_deletion.find_deleted(registry, slug)))
