"""The options that every command takes, anywhere on the line: how much is printed, in which form, and in color or not."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import click

from provisioner.cli.options.config_table import color_of
from provisioner.system.home import home_directory

COLORS = ("auto", "always", "never")


@dataclass(slots=True)
class Settings:
    """What the common options of one run have said so far."""

    quiet: bool = False
    verbosity: int = 0
    color: str | None = None
    as_json: bool = False
    yes: bool = False
    dry_run: bool = False
    looks: bool = False
    """The command shows something and changes nothing."""


def settings() -> Settings:
    """Those of this run; the defaults if click does not run a command."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Settings) if context is not None else None
    return found if found is not None else Settings()


def note(text: str) -> None:
    """A line on standard error that is neither the result nor a failure; with --quiet, nothing."""
    if not settings().quiet:
        click.echo(text, err=True)


def explain(text: str, level: int = 1) -> None:
    """A line on standard error about how something is done, with --verbose."""
    if settings().verbosity >= level:
        click.echo(f"provisioner: {text}", err=True)


def colored(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Are colors shown there? An option goes before the environment, and that before config.toml.

    https://no-color.org, https://force-color.org
    """
    wanted = settings().color or environ.get("PROVISIONER_COLOR", "auto")
    if wanted != "auto" and wanted in COLORS:
        return wanted == "always"
    if environ.get("NO_COLOR") or environ.get("TERM") in ("dumb", "unknown"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    configured = color_of(home_directory(dict(environ)))
    return configured == "always" if configured in ("always", "never") else stream.isatty()


def add_common_options(command: click.Command) -> click.Command:
    """The command, and the commands in it, with these options. A second call changes nothing."""
    if not any(getattr(each, "common", False) for each in command.params):
        taken = {name for each in command.params for name in each.opts}
        command.params += [each for each in _options(command) if not taken.intersection(each.opts)]
    if isinstance(command, click.Group):
        for each in command.commands.values():
            add_common_options(each)
    return command


class _Option(click.Option):
    common = True


def _options(command: click.Command) -> list[click.Option]:
    quiet = _option("-q", "--quiet", is_flag=True, callback=_quiet, help="Print results and errors only.")
    verbose = _option("-v", "--verbose", count=True, callback=_verbose, help="Print each step; -vv: also tracebacks.")
    color = _option("--color", type=click.Choice(COLORS), callback=_color, help="Use colors. Default: auto.")
    yes = _option("-y", "--yes", is_flag=True, hidden=True, callback=_yes)
    found = [quiet, verbose, color, yes]
    if isinstance(command, click.Group):
        found.append(_option("--json", is_flag=True, hidden=True, callback=_json))
    return found


def _option(*names: str, **settings: Any) -> click.Option:
    return _Option(names, expose_value=False, is_eager=True, **settings)


def _quiet(_: click.Context, __: click.Parameter, value: bool) -> None:
    settings().quiet |= value


def _verbose(_: click.Context, __: click.Parameter, value: int) -> None:
    settings().verbosity += value


def _color(context: click.Context, _: click.Parameter, value: str | None) -> None:
    known = settings()
    known.color = value or known.color
    context.color = True if colored(sys.stdout) else None


def _yes(_: click.Context, __: click.Parameter, value: bool) -> None:
    settings().yes |= value


def _json(_: click.Context, __: click.Parameter, value: bool) -> None:
    settings().as_json |= value
