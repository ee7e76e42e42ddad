"""`provisioner completion`: what a shell needs to complete the command's words."""

from __future__ import annotations

import click

from provisioner.cli.completion.scripts import SCRIPTS


@click.command()
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion(shell: str) -> None:
    """Print a completion script for bash, zsh, or fish.

    In ~/.bashrc or ~/.zshrc: eval "$(provisioner completion bash)", or zsh. In ~/.config/fish/config.fish:
    provisioner completion fish | source

    It completes commands, options, and the names of apps, branches, timelines, instances, snapshots, tokens, and variables.
    """
    click.echo(SCRIPTS[shell].strip())
