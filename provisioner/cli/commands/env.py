"""`provisioner env`, and the declaration of `provisioner exec`."""

from __future__ import annotations

import os
import sys

import click

from provisioner.cli.common_options import note
from provisioner.cli.context import json_option, the_home
from provisioner.cli.quick.exec import execute
from provisioner.cli.selectors import ALL, NamedTarget, selector_options, target_argument
from provisioner.core.errors import UsageError
from provisioner.core.naming import shown
from provisioner.environment import env_block, env_files
from provisioner.environment.formats import FORMATS
from provisioner.environment.resolve import LOCAL, Selectors, here, resolve
from provisioner.git.worktree import find_checkout

context_option = click.option(
    "--context",
    type=click.Choice([LOCAL]),
    help="local: development's variables, overridden by local ones, on any timeline. The database stays the same.",
)


@click.command(name="exec", context_settings={"ignore_unknown_options": True})
@selector_options(*ALL)
@context_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
def exec_command(selectors: Selectors, context: str | None, command: tuple[str, ...]) -> None:
    """Run a command with a timeline's environment.

    If the environment can't be determined, CMD doesn't run and the exit code is 3.

    A process keeps the environment it started with: after 'git switch', restart it.
    """
    if command[0].startswith("-"):
        raise UsageError(f"'provisioner exec' has no option {command[0]}", "See: provisioner exec --help")
    selectors.context = context
    execute(selectors, list(command))


@click.command()
@target_argument()
@context_option
@click.option("--format", "format_name", type=click.Choice(list(FORMATS)), help="Default: shell; with --write: dotenv.")
@click.option("--write", "path", metavar="FILE", help="Keep a marked block in FILE, here and after every checkout.")
@json_option
def env(wanted: NamedTarget, context: str | None, format_name: str | None, path: str | None, as_json: bool) -> None:
    """Print a timeline's environment variables.

    If the environment can't be determined, nothing is printed and the exit code is 3.

    TARGET is a branch or a timeline; by default, the branch that is checked out here.
    """
    if as_json:
        if format_name not in (None, "json"):
            raise UsageError(f"--json and --format {format_name} cannot be used together", "Choose one")
        format_name = "json"
    selectors = _exact(wanted)
    selectors.context = context
    home = the_home()
    if path is not None:
        _write(path, selectors, format_name or "dotenv")
        return
    _, values = resolve(home, selectors, here(), os.environ)
    text = FORMATS[format_name or "shell"](values)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def _exact(wanted: NamedTarget) -> Selectors:
    """Only a target's name is looked up: that imports three times as much as all else here."""
    if wanted.text is None and wanted.moment is None:
        return wanted.selectors
    from provisioner.cli.targets import exact

    return exact(wanted)


def _write(path: str, selectors: Selectors, format_name: str) -> None:
    if format_name not in env_block.WRITABLE:
        raise UsageError(f"a block in a file cannot be {format_name}", f"Choose one of {', '.join(env_block.WRITABLE)}")
    home = the_home()
    _, values = resolve(home, selectors, here(), os.environ)
    named = selectors.app or selectors.branch or selectors.timeline or selectors.revision or selectors.instance
    checkout = None if named else find_checkout(here())
    relative = env_files.place(checkout, path) if checkout is not None else ""
    env_block.write(path, FORMATS[format_name](values), crlf=env_block.takes_crlf(format_name, values))
    kept = ""
    if checkout is not None:
        env_files.remember(home, checkout, path, format_name, selectors.context)
        kept = " and follows the branch from now on"
    note(shown(f"{path} is connected to {values['DENO_TIMELINE']}{kept}"))
    if checkout is not None and (unignored := env_files.warning(checkout, relative)):
        click.echo(shown(f"provisioner: {unignored}"), err=True)
