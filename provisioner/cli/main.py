"""The table of commands, and the boundary at which errors become exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Never

import click

from provisioner import __version__
from provisioner.cli import failure, standard_output
from provisioner.cli.common_options import COLORS, Settings, add_common_options
from provisioner.cli.groups import SectionedGroup, words_of
from provisioner.core.errors import NotResolved, ProvisionerError, shortage
from provisioner.system.home import Home, home_directory

DEBUG = 2  # so often -v
_IN = "provisioner.cli.commands"
# The daily commands come first. Each command's module is imported when the command is used.
SECTIONS = {
    "Daily": {
        "init": f"{_IN}.init:init",
        "status": f"{_IN}.status:status",
        "exec": f"{_IN}.env:exec_command",
        "env": f"{_IN}.env:env",
        "dev": f"{_IN}.previews.dev:dev",
    },
    "Data": {
        "database": f"{_IN}.database.group:database",
        "timeline": f"{_IN}.timeline.group:timeline",
        "kv": f"{_IN}.kv:kv",
    },
    "Apps and previews": {
        "app": f"{_IN}.app.group:app",
        "preview": f"{_IN}.previews.preview:preview",
        "open": f"{_IN}.previews.open_url:open_url",
        "logs": f"{_IN}.previews.logs:logs",
        "var": f"{_IN}.var:var",
        "hooks": f"{_IN}.hooks:hooks",
    },
    "Instances": {
        "instance": f"{_IN}.instance.group:instance",
        "assign": f"{_IN}.assign:assign",
        "unassign": f"{_IN}.assign:unassign",
    },
    "Server": {
        "up": f"{_IN}.serve:up",
        "watch": f"{_IN}.watch:watch",
        "serve": f"{_IN}.serve:serve",
        "dashboard": f"{_IN}.dashboard:dashboard",
        "token": f"{_IN}.token:token",
    },
    "Operations": {
        "doctor": f"{_IN}.doctor.group:doctor",
        "reconcile": f"{_IN}.reconcile:reconcile",
        "prune": f"{_IN}.prune:prune",
        "events": f"{_IN}.events:events",
        "home": f"{_IN}.home:home",
    },
    "Integrations": {
        "completion": f"{_IN}.completion:completion",
    },
}


@click.command(cls=SectionedGroup, sections=SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="provisioner")
def cli() -> None:
    """Gives every branch of a git repository its own isolated databases, automatically.

    Exit codes: 0 success, 1 failure, 2 usage error, 3 no matching timeline or its database isn't ready.
    """


add_common_options(cli)


def run(invoke: Callable[[Settings], int] | None = None) -> Never:
    """Run the command line, or what `invoke` does of it; a failure is one line on standard error and its exit code."""
    standard_output.guard()
    code = _code(invoke or _invoke)
    if code:
        standard_output.give_up()
    sys.exit(code)


def _invoke(settings: Settings) -> int:
    """The command's exit code, all of its output written."""
    code: object = 0
    try:
        try:
            cli(words_of(sys.argv[1:]), prog_name="provisioner", standalone_mode=False, obj=settings)
        finally:
            if not settings.looks:
                _keep_env_files_up()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    return code if isinstance(code, int) else int(code is not None)


def _code(invoke: Callable[[Settings], int]) -> int:
    """The exit code; for `exec` and `env` it is 3 for every failure that prevents a connection."""
    settings = Settings()
    try:
        return invoke(settings)
    except standard_output.OutputFailed as error:
        failure.report(error, error.exit_code)
        return error.exit_code
    except ProvisionerError as error:
        _flush()
        if settings.verbosity >= DEBUG:
            from traceback import print_exception

            print_exception(error)
        ours = _connects() and error.exit_code == ProvisionerError.exit_code
        code = NotResolved.exit_code if ours else error.exit_code
        failure.report(error, code)
        return code
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message())
        _flush()
        return 0
    except click.ClickException as error:
        _flush()
        failure.report_usage(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _flush()
        failure.report_interrupt("interrupted; nothing is half done. To continue: provisioner reconcile")
        return failure.INTERRUPTED
    except (standard_output.ReaderGone, BrokenPipeError):
        return 141
    except Exception as error:
        _flush()
        environ = {**os.environ, **({"PROVISIONER_DEBUG": "1"} if settings.verbosity >= DEBUG else {})}
        problem = _explained(error, environ)
        code = NotResolved.exit_code if _connects() else problem.exit_code
        failure.report(problem, code)
        return code


def _explained(error: Exception, environ: dict[str, str]) -> ProvisionerError:
    if (short := shortage(error)) is not None and not environ.get("PROVISIONER_DEBUG"):
        return short  # at once: no file can be opened any longer, perhaps
    from provisioner.cli.unexpected import explained

    return explained(error, Home(home_directory(os.environ)), environ)


def _connects() -> bool:
    named = next((word for word in sys.argv[1:] if not word.startswith("-") and word not in COLORS), "")
    return named in ("exec", "env")


def _flush() -> None:
    """Write the output that precedes a failure; if that fails too, report only the first failure."""
    with suppress(OSError, ProvisionerError, standard_output.ReaderGone):
        sys.stdout.flush()


def _keep_env_files_up() -> None:
    """Bring files such as .env.local up to date with what the command has changed."""
    home = Home(home_directory(os.environ))
    if os.path.isdir(os.path.join(home.path, "env-files")):
        from provisioner.environment.env_files import refresh_all

        for line in refresh_all(home):
            failure.line(line)
