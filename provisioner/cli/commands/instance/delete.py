"""`provisioner instance delete` and `recover`."""

from __future__ import annotations

import click

from provisioner.cli.change import Describe
from provisioner.cli.commands.instance import documents
from provisioner.cli.context import dry_run_option, json_option, the_home, yes_option
from provisioner.cli.selectors import object_argument
from provisioner.cli.terminal import carry_out
from provisioner.core.model import Instance
from provisioner.operations.instance import deletion as instance_deletion
from provisioner.operations.instance.names import find
from provisioner.registry.instances import deleted
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "instance", required=True)
@click.option("--no-backup", is_flag=True, help="Don't create the final backup.")
@dry_run_option
@yes_option
@json_option
def delete(slug: str, no_backup: bool, yes: bool, as_json: bool) -> None:
    """Back up and delete an instance and all its databases.

    'instance recover' undoes it until the retention period of its apps ends.
    """
    with Registry.open(the_home()) as registry:
        found = find(registry, slug)
        proposal = instance_deletion.delete(registry, found, backup=not no_backup)
        plan = documents.of_each_database(registry, "delete", found)
        carry_out(proposal, yes=yes, document=_deleted(registry, found) if as_json else None, plan=plan)


def _deleted(registry: Registry, instance: Instance) -> Describe:
    """The instance as 'instance list --deleted' has it."""
    return lambda _: next(documents.deleted(item) for item in deleted(registry) if item.instance.id == instance.id)


@click.command()
@object_argument("slug", "instance", required=True)
@json_option
def recover(slug: str, as_json: bool) -> None:
    """Recover a deleted instance with its data and assignments.

    INSTANCE is its name or id.
    """
    with Registry.open(the_home()) as registry:
        found = instance_deletion.find_deleted(registry, slug)
        document = documents.after(registry, found.instance) if as_json else None
        carry_out(instance_deletion.recover(registry, found), document=document)
