"""What several commands start with: the home, the app, the selectors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from provisioner.cli.common_options import note, settings
from provisioner.cli.failure import wants_json
from provisioner.cli.standard_input import answer, can_ask, confirmed
from provisioner.core.confirmation import must_match
from provisioner.core.errors import NotConfirmed, NotResolved, StorageFailed, WrongRepository
from provisioner.core.naming import shown
from provisioner.environment.resolve import Selectors, find_app, here
from provisioner.system.home import Home, home_directory
from provisioner.system.home_guard import must_be_home
from provisioner.system.looking import only_looking

if TYPE_CHECKING:  # `kv` opens no registry
    from provisioner.core.model import App
    from provisioner.registry.store import Registry

OLD_NAMES_END = "0.3"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def any_home() -> Home:
    """The home's directory, whether or not it is the home that it claims to be: to inspect it, and to adopt it."""
    return Home(home_directory(os.environ))


def the_home() -> Home:
    """Raises WrongHome if the directory is not the home that it claims to be."""
    home = any_home()
    must_be_home(home)
    return home


def made_home() -> Home:
    """The home with its directories created, for a process that works in it."""
    home = the_home()
    try:
        home.create()
    except OSError as error:
        raise StorageFailed(
            f"cannot restrict {home.path} to this user: {error.strerror}",
            "Change its owner, or set PROVISIONER_HOME",
        ) from error
    return home


def with_options(command: _Command, options: Mapping[str, Mapping[str, Any]]) -> _Command:
    """The command with these options, in this order in its help."""
    for name, how in reversed(list(options.items())):
        command = click.option(name, **how)(command)
    return command


@contextmanager
def looking(really: bool = True) -> Iterator[None]:
    """For a command that, if `really`, only shows something: in the block it changes nothing, and env files stay too."""
    if not really:
        yield
        return
    settings().looks = True
    with only_looking():
        yield


def looks(command: _Command) -> _Command:
    """A command that shows something and changes nothing, an older registry or a new branch included."""

    @wraps(command)
    def only(*args: Any, **options: Any) -> Any:
        with looking():
            return command(*args, **options)

    return only  # type: ignore[return-value]


def json_wanted(_: click.Context, __: click.Parameter, value: bool) -> bool:
    """Was --json given, here or to a group?"""
    return value or settings().as_json


json_option = click.option("--json", "as_json", is_flag=True, callback=json_wanted, help="Print JSON.")
yes_option = click.option(
    "-y",
    "--yes",
    is_flag=True,
    callback=lambda _, __, value: value or settings().yes,
    help="Skip the confirmation prompt.",
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
    """The app with this slug, else the app for the current directory."""
    found = find_app(registry.home, Selectors(app=slug), here())
    app = registry.app(found.id)
    if app is None:
        raise NotResolved(f"app {found.slug!r} has just been removed", "See: provisioner app list")
    return app


def apps_meant(registry: Registry, slug: str | None, everything: bool) -> list[App]:
    """The app that is named, or the app for the current directory; all of them with `everything`, or outside of checkouts."""
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


def dry_run_option(command: _Command) -> _Command:
    """``--dry-run``: the command goes as far as its question, changing nothing, and ends there; see `end_dry_run`."""

    @wraps(command)
    def dry(*args: Any, dry_run: bool, **options: Any) -> Any:
        settings().dry_run = dry_run
        with looking(really=dry_run):
            return command(*args, **options)

    option = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
    return option(dry)  # type: ignore[return-value]


def plan_item(
    action: str,
    app: App | None,
    timeline: str | None = None,
    database: str | None = None,
    database_id: str | None = None,
    cause: str | None = None,
) -> dict[str, Any]:
    """The keys of an item of 'reconcile --dry-run' and 'prune --dry-run'."""
    named = {"app": app.slug if app is not None else None, "action": action, "timeline": timeline}
    return {**named, "database": database, "id": database_id, "cause": cause, "at": None, "error": None}


def end_dry_run(question: str, plan: Sequence[Mapping[str, object]], details: Sequence[str] = ()) -> None:
    """With --dry-run, print what would be done, or with --json its `plan`, and end the command."""
    if not settings().dry_run:
        return
    if wants_json():
        print_json(plan)
    else:
        for line in (*details, question):
            click.echo(shown(line))
        note("Nothing was changed")
    raise click.exceptions.Exit(0)


def confirm(question: str, yes: bool, plan: Sequence[Mapping[str, object]] = (), *, typed: str = "") -> None:
    """Ask before something is deleted; the answer is yes, or the word `typed`. Without a terminal, only ``--yes`` confirms.
    Ends a dry run of this `plan`. Raises NotConfirmed."""
    end_dry_run(question, plan)
    if yes:
        return
    if not can_ask():
        raise NotConfirmed(f"confirmation required: {shown(question)}", "Add --yes to skip the prompt")
    if typed:
        must_match(answer(f"{question} Type {typed} to confirm"), typed)
    elif not confirmed(question):
        raise NotConfirmed("not confirmed", "Nothing was changed")
