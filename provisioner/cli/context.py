"""What several commands begin with: the home, the app that is meant, the selectors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from provisioner.cli.common_options import note, settings
from provisioner.cli.standard_input import can_ask
from provisioner.core.errors import NotConfirmed, NotResolved, StorageFailed, WrongRepository
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.environment.resolve import Selectors, find_app, here
from provisioner.registry.store import Registry
from provisioner.system.home import Home, home_directory
from provisioner.system.home_guard import must_be_home

OLD_NAMES_END = "0.3"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def any_home() -> Home:
    """The directory that is meant, whether or not it is the home that it says it is: for looking at it, and adopting it."""
    return Home(home_directory(os.environ))


def the_home() -> Home:
    """Raises WrongHome if the directory is not the home that it says it is."""
    home = any_home()
    must_be_home(home)
    return home


def made_home() -> Home:
    """The home with its directories, for what is to run in it."""
    home = the_home()
    try:
        home.create()
    except OSError as error:
        raise StorageFailed(
            f"cannot make {home.path} this user's own: {error.strerror}", "Change its owner, or set PROVISIONER_HOME"
        ) from error
    return home


def with_options(command: _Command, options: Mapping[str, Mapping[str, Any]]) -> _Command:
    """The command with these options, in this order in its help."""
    for name, how in reversed(list(options.items())):
        command = click.option(name, **how)(command)
    return command


def json_wanted(_: click.Context, __: click.Parameter, value: bool) -> bool:
    """Was --json given, here or to a group?"""
    return value or settings().as_json


json_option = click.option("--json", "as_json", is_flag=True, callback=json_wanted, help="Print one JSON document.")
yes_option = click.option(
    "-y", "--yes", is_flag=True, callback=lambda _, __, value: value or settings().yes, help="Do not ask."
)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def say(line: str, document: object | None) -> None:
    """What was done: the JSON document if there is one, else the line."""
    if document is None:
        click.echo(shown(line))
    else:
        print_json(document)


def the_app(registry: Registry, slug: str | None) -> App:
    """The app with this slug, else the one whose checkout the working directory is."""
    found = find_app(registry.home, Selectors(app=slug), here())
    app = registry.app(found.id)
    if app is None:
        raise NotResolved(f"app {found.slug!r} has just been removed", "See 'provisioner app list'")
    return app


def apps_meant(registry: Registry, slug: str | None, everything: bool) -> list[App]:
    """The app that is named or checked out here; all of them where asked for or where this is no checkout of one."""
    if everything:
        return registry.apps()
    try:
        return [the_app(registry, slug)]
    except WrongRepository:
        raise
    except NotResolved:
        if slug is not None:
            raise
        return registry.apps()


def renamed(old: str, new: str) -> None:
    """Note that an old spelling was used. It works for one release."""
    note(f"provisioner: note: {old} is now {new}. The old name stops working in {OLD_NAMES_END}")


def confirm(question: str, yes: bool) -> None:
    """Ask before something is taken away; without a terminal only ``--yes`` is an answer."""
    if yes:
        return
    if not can_ask():
        raise NotConfirmed(f"{question} was not confirmed", "There is no terminal to ask at: add --yes")
    if not click.confirm(question, err=True):
        raise NotConfirmed("not confirmed", "Nothing was changed")
