"""`provisioner database fork` and `reset`: replace a timeline's data with a copy of another's, or with none."""

from __future__ import annotations

import click

from provisioner.cli import targets
from provisioner.cli.change import change, planned
from provisioner.cli.context import dry_run_option, json_option, the_home, yes_option
from provisioner.cli.options.scrub_options import scrub_options
from provisioner.cli.selectors import HERE, NamedTarget, parse, selector_options, target_argument
from provisioner.cli.targets import load, load_to_read
from provisioner.cli.terminal import carry_out
from provisioner.environment.resolve import Selectors
from provisioner.operations import fork_reset
from provisioner.operations.archive import begin_empty
from provisioner.operations.target import Target
from provisioner.registry.store import Registry

app_option = click.option("--app", "slug", metavar="APP", help="The app. Default: the app for the current directory.")
queue_option = click.option(
    "--with-queue", is_flag=True, help="Also copy queued messages; the copy's listeners get them again."
)
deploy_option = click.option(
    "--no-deploy", is_flag=True, help="Do not run the pre-deploy command on the new data; 'timeline deploy' runs it."
)


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="[TO]", default=HERE)
@selector_options("app", "instance")
@queue_option
@scrub_options
@deploy_option
@dry_run_option
@yes_option
@json_option
def fork(
    source: str,
    target: str,
    selectors: Selectors,
    with_queue: bool,
    no_deploy: bool,
    yes: bool,
    scrub: str | None,
    limit_ms: int | None,
    as_json: bool,
) -> None:
    """Replace TO's data with a copy of FROM's.

    All of the timeline's databases are replaced, or none. FROM stays writable.

    Each is a branch, a timeline, or one database by its name or id; TO is by default the branch that is checked out here.
    TO's current data becomes snapshots, and the pre-deploy command runs on the copies. The scrub command of the assignment
    runs on copies of production, unless you give another.
    """
    with Registry.open(the_home()) as registry:
        goal = load(registry, parse(target, selectors))
        origin = load_to_read(registry, parse(source, selectors), goal.app)
        proposal = fork_reset.fork(
            *(registry, goal, origin),
            with_queue=with_queue,
            scrubbing=fork_reset.Scrubbing(scrub, limit_ms),
            deploy=not no_deploy,
        )
        document = change(registry, "fork", goal.app, goal.timeline) if as_json else None
        plan = planned(registry, "fork", goal.app, goal.live)
        carry_out(proposal, yes=yes, document=document, plan=plan)


@click.command()
@target_argument()
@click.option(
    "--from",
    "source",
    metavar="empty|production|parent|TARGET",
    default="empty",
    show_default=True,
    help="Their new data: none, or a copy of another timeline's data.",
)
@queue_option
@scrub_options
@deploy_option
@dry_run_option
@yes_option
@json_option
def reset(
    wanted: NamedTarget,
    source: str,
    with_queue: bool,
    no_deploy: bool,
    yes: bool,
    scrub: str | None,
    limit_ms: int | None,
    as_json: bool,
) -> None:
    """Reset a database to empty or to a copy of another.

    All of the timeline's databases are reset, or none.

    TARGET is a branch, a timeline, or one database by its name or id; by default, the branch that is checked out here.
    Their current data becomes snapshots, and the pre-deploy command runs on the new data.
    """
    with Registry.open(the_home()) as registry:
        goal = load(registry, wanted)
        if goal.timeline.doubt and source == "empty":
            document = change(registry, "reset", goal.app, goal.timeline) if as_json else None
            plan = planned(registry, "reset", goal.app, goal.live)
            carry_out(begin_empty(registry, goal.app, goal.timeline), yes=yes, document=document, plan=plan)
            return
        origin = None
        if (source := source.removeprefix("fork:")) != "empty":
            origin = _source(registry, source, goal)
        proposal = fork_reset.fork(
            *(registry, goal, origin),
            action="reset",
            with_queue=with_queue,
            scrubbing=fork_reset.Scrubbing(scrub, limit_ms),
            deploy=not no_deploy,
        )
        document = change(registry, "reset", goal.app, goal.timeline) if as_json else None
        plan = planned(registry, "reset", goal.app, goal.live)
        carry_out(proposal, yes=yes, document=document, plan=plan)


def _source(registry: Registry, source: str, goal: Target) -> Target:
    """``production``, ``parent``, or a TARGET, also at a moment."""
    if source == targets.PARENT:
        return targets.parent(registry, goal)
    return load_to_read(registry, parse(source, Selectors()), goal.app)
