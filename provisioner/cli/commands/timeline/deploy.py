"""`provisioner timeline deploy`: run the pre-deploy command again."""

from __future__ import annotations

import click

from provisioner.cli.change import timeline_after
from provisioner.cli.context import json_option, the_home
from provisioner.cli.selectors import TIMELINE, NamedTarget, target_argument
from provisioner.cli.targets import load_timeline
from provisioner.cli.terminal import carry_out
from provisioner.operations import deploys
from provisioner.registry.store import Registry


@click.command()
@target_argument(options=TIMELINE)
@json_option
def deploy(wanted: NamedTarget, as_json: bool) -> None:
    """Run the pre-deploy command again on a timeline's data.

    TARGET is a branch or a timeline; by default, the branch that is checked out here. Programs are connected to it again
    after the command succeeds. It runs automatically for each new revision, and after a database's data is replaced.
    """
    with Registry.open(the_home()) as registry:
        app, found = load_timeline(registry, wanted)
        document = timeline_after(registry, app, found) if as_json else None
        carry_out(deploys.deploy(registry, app, found), document=document)
