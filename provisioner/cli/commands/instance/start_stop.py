"""`provisioner instance start` and `stop`: an instance's embedded server."""

from __future__ import annotations

import click

from provisioner.cli.commands.instance.documents import whole
from provisioner.cli.context import json_option, say, the_home
from provisioner.cli.selectors import object_argument
from provisioner.engines.catalog import engine_of
from provisioner.operations.instance.names import find
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "instance", required=True)
@json_option
def start(slug: str, as_json: bool) -> None:
    """Start an embedded server, which also starts on demand."""
    with Registry.open(the_home()) as registry:
        instance = find(registry, slug)
        engine_of(instance).start(instance.location)
        say(f"Instance {slug} is running", whole(registry, instance) if as_json else None)


@click.command()
@object_argument("slug", "instance", required=True)
@json_option
def stop(slug: str, as_json: bool) -> None:
    """Stop an embedded server and end its sessions.

    It starts again when it is needed.
    """
    with Registry.open(the_home()) as registry:
        instance = find(registry, slug)
        ran = engine_of(instance).stop(instance.location)
        line = f"Stopped instance {slug}" if ran else f"Instance {slug} was not running"
        say(line, whole(registry, instance) if as_json else None)
