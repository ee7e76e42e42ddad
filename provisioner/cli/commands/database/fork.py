"""`provisioner database fork` and `reset`: another database's data, or none, in the place of a database's."""

from __future__ import annotations

import os

import click

from provisioner.cli.context import the_home, yes_option
from provisioner.cli.lookup import meant
from provisioner.cli.scrub_options import scrub_options
from provisioner.cli.terminal import TERMINAL, carry_out
from provisioner.core.model import Database
from provisioner.operations import fork_reset
from provisioner.operations.lookup import of_timeline
from provisioner.registry.store import Registry

app_option = click.option("--app", "slug", metavar="APP", help="The app. Default: the one whose checkout this is.")
instance_option = click.option(
    "--instance", metavar="INSTANCE", help="Where a timeline has several databases: the one on this instance."
)
queue_option = click.option(
    "--with-queue", is_flag=True, help="Copy queued messages too: who listens to the copy gets them a second time."
)


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@app_option
@instance_option
@queue_option
@scrub_options
@yes_option
def fork(
    source: str,
    target: str,
    slug: str | None,
    instance: str | None,
    with_queue: bool,
    yes: bool,
    scrub: str | None,
    limit_ms: int | None,
) -> None:
    """Make the database of TO a copy of FROM as it is now, while others write to it.

    Each is a branch, a timeline, or a database's name or id. What TO held becomes a snapshot. A copy of production has to
    pass the scrub of its assignment, unless another is given.
    """
    with Registry.open(the_home()) as registry:
        app, goal = meant(registry, target, slug, instance, own=True)
        _, origin = meant(registry, source, app.slug, instance or _instance(registry, goal))
        scrubbing = fork_reset.Scrubbing(scrub, limit_ms)
        carry_out(fork_reset.fork(registry, app, goal, origin, with_queue=with_queue, scrubbing=scrubbing), yes=yes)


@click.command()
@click.argument("name", required=False)
@click.option(
    "--from",
    "source",
    metavar="empty|production|BRANCH",
    default="empty",
    show_default=True,
    help="What it holds then: nothing, or a copy of another timeline's data.",
)
@app_option
@instance_option
@queue_option
@scrub_options
@yes_option
def reset(
    name: str | None,
    source: str,
    slug: str | None,
    instance: str | None,
    with_queue: bool,
    yes: bool,
    scrub: str | None,
    limit_ms: int | None,
) -> None:
    """Let a database begin anew. Default: that of the branch checked out here. What it held becomes a snapshot."""
    with Registry.open(the_home()) as registry:
        app, goal = meant(registry, name, slug, instance, own=True)
        origin = None
        if source != "empty":
            origin = of_timeline(registry, app, os.fsencode(source), TERMINAL, _instance(registry, goal))
        proposal = fork_reset.fork(
            *(registry, app, goal, origin),
            action="reset",
            with_queue=with_queue,
            scrubbing=fork_reset.Scrubbing(scrub, limit_ms),
        )
        carry_out(proposal, yes=yes)


def _instance(registry: Registry, database: Database) -> str:
    return registry.instance_of(database.instance_id).slug
