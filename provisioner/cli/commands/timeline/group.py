"""`provisioner timeline`: the histories of branches and revisions."""

from __future__ import annotations

import click

from provisioner.cli.commands.timeline.deploy import deploy
from provisioner.cli.commands.timeline.retention import expire, list_timelines, protect, unprotect
from provisioner.cli.commands.timeline.runs import fix, log, show


@click.group()
def timeline() -> None:
    """Manage timelines: production, branches, and previews."""


for _command in (show, log, fix, deploy, list_timelines, protect, unprotect, expire):
    timeline.add_command(_command)
