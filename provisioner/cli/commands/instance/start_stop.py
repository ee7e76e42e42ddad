"""`provisioner instance start` and `stop`: the server of the home's own, where an instance has one."""

from __future__ import annotations

import click

from provisioner.cli.context import the_home
from provisioner.cli.selectors import object_argument
from provisioner.engines.catalog import engine_of
from provisioner.operations.instances import find
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "instance", required=True)
def start(slug: str) -> None:
    """Start an embedded server, which also starts on demand."""
    with Registry.open(the_home()) as registry:
        instance = find(registry, slug)
    engine_of(instance).start(instance.location)
    click.echo(f"instance {slug} can be used")


@click.command()
@object_argument("slug", "instance", required=True)
def stop(slug: str) -> None:
    """Stop an embedded server and end its sessions.

    It starts again when it is needed.
    """
    with Registry.open(the_home()) as registry:
        instance = find(registry, slug)
    ran = engine_of(instance).stop(instance.location)
    click.echo(f"instance {slug} {'has stopped' if ran else 'did not run'}")
