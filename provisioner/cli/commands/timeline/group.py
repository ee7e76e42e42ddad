"""`provisioner timeline`: the histories of branches and revisions."""

from __future__ import annotations

import click

from provisioner.cli.deploys import fix, log, show
from provisioner.cli.keeping import expire, list_timelines, protect, unprotect


@click.group()
def timeline() -> None:
    """Timelines: production, one for each branch, and previews."""


for _command in (show, log, fix, list_timelines, protect, unprotect, expire):
    timeline.add_command(_command)
