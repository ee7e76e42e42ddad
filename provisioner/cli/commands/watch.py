"""`provisioner watch`: the daemon in the foreground."""

from __future__ import annotations

import click

from provisioner.cli.context import made_home
from provisioner.cli.log_format import log_in, log_option
from provisioner.cli.options.config_file import ConfiguredCommand


@click.command(cls=ConfiguredCommand)
@log_option
def watch(log_format: str) -> None:
    """Run the daemon: watch refs and reconcile changes.

    Stops cleanly on SIGTERM and SIGINT.
    """
    from provisioner.daemon.loop import Daemon

    Daemon(made_home(), log_in(log_format)).run()
