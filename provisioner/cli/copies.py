"""`provisioner database fork` and `reset`: another database's data, or none, in the place of a database's."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import click

from provisioner import envfile
from provisioner.cli.finding import meant, of_timeline, timeline_of
from provisioner.cli.scrub_options import scrub_options
from provisioner.cli.shared import confirm, the_home, yes_option
from provisioner.clock import now_ms
from provisioner.engines.base import Copied, Source
from provisioner.errors import ProvisionerError
from provisioner.model import PRE_DEPLOY_MS, App, Database, Scrub
from provisioner.naming import shown
from provisioner.reconcile.replacing import put_in_place
from provisioner.registry.shares import sharers
from provisioner.registry.store import Registry

app_option = click.option("--app", "slug", metavar="APP", help="The app. Default: the one whose checkout this is.")
instance_option = click.option(
    "--instance", metavar="INSTANCE", help="Where a timeline has several databases: the one on this instance."
)
queue_option = click.option(
    "--with-queue", is_flag=True, help="Copy queued messages too: who listens to the copy gets them a second time."
)


def shared_by(registry: Registry, app: App, database: Database) -> str:
    """For a question about what happens to a database: a sentence that names who else uses it, if somebody does."""
    names = sorted(os.fsdecode(timeline.name) for timeline in sharers(registry, app.id, database))
    return f" {shown(', '.join(names))} {'uses' if len(names) == 1 else 'use'} it too." if names else ""


ANEW = (
    "Its file has another path now: start programs anew. Those that had it open go on in what it was; what they write is in"
    " that snapshot"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said of scrubbing: None is nothing, and an empty command none."""

    command: str | None
    limit_ms: int | None

    def rule(self, registry: Registry, app: App, origin: Database | None) -> Scrub | None:
        """What a copy of `origin` has to pass: what was said, else for a copy of production what its assignment says."""
        if origin is None:
            return None
        assigned = registry.scrubs(app.id).get(origin.instance_id)
        if self.command is not None:
            usual = assigned.limit_ms if assigned else PRE_DEPLOY_MS
            return Scrub(self.command, self.limit_ms or usual) if self.command else None
        if assigned is None or not any(
            item.production and item.id == origin.timeline_id
            for owner in registry.apps()
            for item in registry.timelines(owner.id)
        ):
            return None
        return replace(assigned, limit_ms=self.limit_ms or assigned.limit_ms)


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
        _replace(registry, app, goal, origin, "fork", with_queue=with_queue, yes=yes, asked=Asked(scrub, limit_ms))


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
            origin = of_timeline(registry, app, os.fsencode(source), _instance(registry, goal))
        _replace(registry, app, goal, origin, "reset", with_queue=with_queue, yes=yes, asked=Asked(scrub, limit_ms))


def _instance(registry: Registry, database: Database) -> str:
    return registry.instance_of(database.instance_id).slug


def _replace(
    registry: Registry,
    app: App,
    goal: Database,
    origin: Database | None,
    action: str,
    *,
    with_queue: bool,
    yes: bool,
    asked: Asked,
) -> None:
    may_be_replaced(registry, app, goal, action)
    if origin is not None and origin.id == goal.id:
        raise ProvisionerError(f"{goal.name} cannot be a fork of itself", "Name another branch")
    if origin is not None and origin.instance_id != goal.instance_id:
        raise ProvisionerError(
            f"{origin.name} and {goal.name} are on two instances", "Say on which both are: --instance INSTANCE"
        )
    becomes = f"a fork of {origin.name}" if origin else "empty"
    users = shared_by(registry, app, goal)
    confirm(f"Make {goal.name} {becomes}?{users} What it holds becomes a snapshot", yes)
    source = Source(origin) if origin is not None else None
    made, kept = put_in_place(
        *(registry, app, goal, source, now_ms()),
        action=action,
        detail=becomes,
        with_queue=with_queue,
        scrub=asked.rule(registry, app, origin),
    )
    click.echo(f"{goal.name} is {becomes}{pause(made) if origin else ''}")
    end(kept)


def end(kept: str) -> None:
    """Say what became of what was there, and put the new path into the checkout's env files."""
    click.echo(f"What it held is snapshot {kept}. {ANEW}")
    for line in envfile.refresh(the_home(), os.getcwdb(), os.environ):
        click.echo(shown(line), err=True)


def may_be_replaced(registry: Registry, app: App, database: Database, action: str) -> None:
    """Raises ProvisionerError where nobody may put other data in this database's place."""
    timeline = timeline_of(registry, app, database)
    if timeline.protected:
        name = shown(timeline.name)
        raise ProvisionerError(
            f"{database.name} is of a protected timeline, which is never the target of a {action}",
            f"If it is to be: provisioner timeline unprotect {name}",
        )
    if timeline.production:
        raise ProvisionerError(
            f"{database.name} holds production's data, which is never the target of a {action}",
            f"To go back to what it was, see: provisioner database snapshot list {database.name}",
        )


def pause(made: Copied) -> str:
    return f", {made.size} bytes; writers waited for {made.paused * 1000:.1f} ms at most"
