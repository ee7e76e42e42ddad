"""`provisioner assign` and `provisioner unassign`."""

from __future__ import annotations

import click

from provisioner.cli.change import planned
from provisioner.cli.commands.app.group import app_document
from provisioner.cli.context import dry_run_option, json_option, the_app, the_home, yes_option
from provisioner.cli.options.scrub_options import scrub_options
from provisioner.cli.selectors import object_argument
from provisioner.cli.terminal import carry_out
from provisioner.core.model import ConnectMode
from provisioner.operations import assignments
from provisioner.operations.fork_reset import Scrubbing
from provisioner.operations.instance.names import find
from provisioner.registry.store import Registry


def new_branch_wanted(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return None if value is None else assignments.new_branch(value)


@click.command()
@click.argument("instance")
@object_argument("app", "app", required=False)
@click.option(
    "--new-branch",
    metavar="empty|production|parent|BRANCH",
    callback=new_branch_wanted,
    help="What a new branch's database starts from: nothing, the branch that it was created from (if git records it), or"
    " another branch. Default: unchanged; empty at first.",
)
@click.option(
    "--connect",
    "mode",
    type=click.Choice([str(mode) for mode in ConnectMode]),
    help="How apps connect: by file, by the server's URL, or auto (by URL while a server runs). Default: unchanged; auto.",
)
@scrub_options
@json_option
def assign(
    instance: str,
    app: str | None,
    mode: str | None,
    new_branch: str | None,
    scrub: str | None,
    limit_ms: int | None,
    as_json: bool,
) -> None:
    """Assign an instance to an app.

    Reassigning brings the old data back.
    """
    with Registry.open(the_home()) as registry:
        chosen = the_app(registry, app)
        assigned = find(registry, instance)
        proposal = assignments.assign(
            *(registry, chosen, assigned),
            connect=ConnectMode(mode) if mode else None,
            begins=new_branch,
            scrubbing=Scrubbing(scrub, limit_ms),
        )
        carry_out(proposal, document=(lambda _: app_document(registry, chosen)) if as_json else None)


@click.command()
@click.argument("instance")
@object_argument("app", "app", required=False)
@dry_run_option
@yes_option
@json_option
def unassign(instance: str, app: str | None, yes: bool, as_json: bool) -> None:
    """Unassign an instance from an app and keep its data."""
    with Registry.open(the_home()) as registry:
        chosen = the_app(registry, app)
        proposal = assignments.unassign(registry, chosen, find(registry, instance))
        on = find(registry, instance).id
        live = [item for item in registry.databases(chosen.id) if item.live and item.instance_id == on]
        plan = planned(registry, "archive", chosen, live)
        document = (lambda _: app_document(registry, chosen)) if as_json else None
        carry_out(proposal, yes=yes, document=document, plan=plan)
