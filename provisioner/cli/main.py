"""The table of commands, and the boundary at which errors become exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from provisioner import __version__
from provisioner.cli import standard_output
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.naming import shown
from provisioner.system import failpoints
from provisioner.system.home import Home, home_directory

# Each command's module is imported when it is asked for: most of them need what others do not.
COMMANDS = {
    "init": "provisioner.cli.commands.init:init",
    "status": "provisioner.cli.commands.status:status",
    "watch": "provisioner.cli.commands.watch:watch",
    "serve": "provisioner.cli.commands.serve:serve",
    "up": "provisioner.cli.commands.serve:up",
    "dashboard": "provisioner.cli.commands.dashboard:dashboard",
    "reconcile": "provisioner.cli.commands.reconcile:reconcile",
    "exec": "provisioner.cli.commands.env:exec_command",
    "env": "provisioner.cli.commands.env:env",
    "instance": "provisioner.cli.commands.instance.group:instance",
    "app": "provisioner.cli.commands.app:app",
    "assign": "provisioner.cli.commands.assign:assign",
    "unassign": "provisioner.cli.commands.assign:unassign",
    "database": "provisioner.cli.commands.database.group:database",
    "var": "provisioner.cli.commands.var:var",
    "timeline": "provisioner.cli.commands.timeline.group:timeline",
    "preview": "provisioner.cli.commands.preview:preview",
    "prune": "provisioner.cli.commands.prune:prune",
    "token": "provisioner.cli.commands.token:token",
    "kv": "provisioner.cli.commands.kv:kv",
    "hooks": "provisioner.cli.commands.hooks:hooks",
    "home": "provisioner.cli.commands.home:home",
    "doctor": "provisioner.cli.commands.doctor.group:doctor",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="provisioner")
def cli() -> None:
    """Every branch of a git repository gets isolated databases of its own, by itself.

    Exit codes: 0 done; 1 failed; 2 usage; 3 not connected or cannot resolve.
    """


def run() -> None:
    """Run the command line; a failure is one line on standard error and its exit code."""
    if fault := os.environ.get("PROVISIONER_FAULT"):
        failpoints.arm(fault)
    standard_output.guard()
    code = _code(_invoke)
    if code:
        standard_output.give_up()
    sys.exit(code)


def _invoke() -> int:
    """The command's exit code, all of its output written."""
    code: object = 0
    try:
        try:
            cli(prog_name="provisioner", standalone_mode=False)
        finally:
            _keep_env_files_up()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    return code if isinstance(code, int) else int(code is not None)


def _code(invoke: Callable[[], int]) -> int:
    """The exit code; of `exec` and `env` 3 for whatever keeps them from a connection."""
    try:
        return invoke()
    except standard_output.OutputFailed as error:
        _say(str(error))
        return error.exit_code
    except ProvisionerError as error:
        _flush()
        _say(str(error))
        if _connects() and error.exit_code == ProvisionerError.exit_code:
            return NotResolved.exit_code
        return error.exit_code
    except click.ClickException as error:
        _flush()
        error.show()
        return 2 if isinstance(error, click.exceptions.NoArgsIsHelpError) else error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _flush()
        _say("stopped; nothing is half done, 'provisioner reconcile' goes on")
        return 130
    except (standard_output.ReaderGone, BrokenPipeError):
        return 141
    except Exception as error:
        from provisioner.cli.unexpected import explained

        _flush()
        problem = explained(error, Home(home_directory(os.environ)), os.environ)
        _say(str(problem))
        return NotResolved.exit_code if _connects() else problem.exit_code


def _connects() -> bool:
    return sys.argv[1:2] in (["exec"], ["env"])


def _flush() -> None:
    """Print what was said before a failure; that this fails, too, is not worth saying."""
    with suppress(OSError, ProvisionerError, standard_output.ReaderGone):
        sys.stdout.flush()


def _keep_env_files_up() -> None:
    """Whatever the command has changed, files such as .env.local say what is true now."""
    home = Home(home_directory(os.environ))
    if os.path.isdir(os.path.join(home.path, "env-files")):
        from provisioner.environment.env_files import refresh_all

        for line in refresh_all(home):
            _say(line)


def _say(text: str) -> None:
    click.echo(f"provisioner: {shown(' '.join(text.splitlines()))}", err=True)
