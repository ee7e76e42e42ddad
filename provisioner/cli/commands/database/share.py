"""`provisioner database share` and `unshare`: one database of several timelines, on purpose."""

from __future__ import annotations

import click

from provisioner.cli.commands.database.fork import app_option, instance_option
from provisioner.cli.context import the_home, yes_option
from provisioner.cli.lookup import timeline_meant
from provisioner.cli.terminal import TERMINAL, carry_out
from provisioner.operations import shares
from provisioner.operations.instances import find
from provisioner.registry.store import Registry


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@app_option
@instance_option
@yes_option
def share(source: str, target: str, slug: str | None, instance: str | None, yes: bool) -> None:
    """Let the timeline TO use the database of FROM: what one writes, the other reads.

    TO's own database is archived and kept, and comes back with 'unshare'. Each is a branch or a timeline.
    """
    with Registry.open(the_home()) as registry:
        app, owner = timeline_meant(registry, source, slug)
        _, sharer = timeline_meant(registry, target, app.slug)
        carry_out(shares.share(registry, app, owner, sharer, instance, TERMINAL), yes=yes)


@click.command()
@click.argument("target", metavar="TO")
@app_option
@instance_option
def unshare(target: str, slug: str | None, instance: str | None) -> None:
    """Give the timeline TO a database of its own again: the one it had, as it was, or a new one."""
    with Registry.open(the_home()) as registry:
        app, sharer = timeline_meant(registry, target, slug)
        on = find(registry, instance) if instance is not None else None
        carry_out(shares.unshare(registry, app, sharer, on))
