"""`provisioner var`: an app's variables, per context."""

from __future__ import annotations

from collections.abc import Collection

import click

from provisioner.cli import standard_input
from provisioner.cli.context import dry_run_option, json_option, looks, plan_item, the_app, the_home, yes_option
from provisioner.cli.listing import ListLayout, ListOptions, list_options, print_list
from provisioner.cli.table import Column
from provisioner.cli.terminal import carry_out
from provisioner.core.clock import rfc3339
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.model import App, Context
from provisioner.environment.dotenv import parse
from provisioner.operations import variables as wanted
from provisioner.registry import variables
from provisioner.registry.store import Registry

app_option = click.option("--app", "slug", metavar="APP", help="The app. Default: the app for the current directory.")


def _contexts(_: click.Context, __: click.Parameter, value: str | None) -> list[Context] | None:
    if value is None:
        return None
    words = [word.strip() for word in value.split(",") if word.strip()]
    known = [str(context) for context in Context]
    if not words or any(word not in known for word in words):
        raise click.BadParameter(f"use one or more of {', '.join(known)}, separated by commas")
    return [Context(word) for word in dict.fromkeys(words)]


@click.group()
def var() -> None:
    """Manage an app's variables and secrets.

    Each has a value per context: production for the production timeline, development for all others, and local for
    'exec --context local' and 'env --context local'.
    """


@var.command(name="set")
@click.argument("words", nargs=-1, metavar="[NAME=VALUE | NAME]...")
@click.option(
    "--context",
    "contexts",
    metavar="CONTEXTS",
    callback=_contexts,
    help="production, development, local; separate several with commas. Default: production,development.",
)
@click.option("--secret", is_flag=True, help="Never print the value again; it stays secret until it is unset.")
@click.option(
    "--from-file", "path", type=click.Path(exists=True, dir_okay=False), help="Also set the variables of a .env file."
)
@app_option
@json_option
def set_variables(
    words: tuple[str, ...],
    contexts: list[Context] | None,
    secret: bool,
    path: str | None,
    slug: str | None,
    as_json: bool,
) -> None:
    """Set variables: all of them, or none if one is refused.

    Running programs keep their old values.

    For a NAME without a value, provisioner asks for the value or reads it from standard input, which keeps it out of the
    shell's history.
    """
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        values = _file(path) if path else {}
        for word in words:
            name, equals, value = word.partition("=")
            values[name] = value if equals else _asked(name, len(words))
        proposal = wanted.assign(registry, app, values, contexts or [], secret=secret)
        carry_out(proposal, document=(lambda _: _set(registry, app, values, contexts)) if as_json else None)


def _set(
    registry: Registry, app: App, names: Collection[str], contexts: list[Context] | None
) -> list[dict[str, object]]:
    """The variables with these names as 'var list' has them, in the contexts in which they were set."""
    there = contexts or wanted.USUAL
    return [
        _document(app, item)
        for item in variables.listing(registry, app.id)
        if item.name in names and item.context in there
    ]


def _document(app: App, item: variables.Variable) -> dict[str, object]:
    return {
        "app": app.slug,
        "name": item.name,
        "context": item.context,
        "value": None if item.secret else item.value,
        "secret": item.secret,
        "changed_at": rfc3339(item.changed_at),
    }


def _file(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return parse(path, file.read())
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8", "Save it as UTF-8") from error
    except OSError as error:
        raise ProvisionerError(f"{path} cannot be read: {error.strerror}") from error


def _asked(name: str, count: int) -> str:
    if standard_input.can_ask():
        return standard_input.answer(name, hidden=True)
    if count > 1:
        raise UsageError(f"{name} has no value", "Use NAME=VALUE; only a single NAME is read from standard input")
    text = standard_input.value("a value", f"To set an empty value: provisioner var set {name}=")
    return text.removesuffix("\n").removesuffix("\r")


_LAYOUT = ListLayout(
    (Column("NAME"), Column("CONTEXT"), Column("VALUE")),
    ("name", "context"),
    lambda item: {
        "NAME": item["name"],
        "CONTEXT": item["context"],
        "VALUE": "(secret)" if item["secret"] else item["value"],
    },
    "No variables yet. Programs on a timeline get those of its context. To set one: provisioner var set NAME=VALUE",
)


@var.command(name="list")
@app_option
@list_options
@looks
def list_variables(slug: str | None, listing: ListOptions) -> None:
    """List an app's variables, with secret values hidden."""
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        found = [_document(app, item) for item in variables.listing(registry, app.id)]
    print_list(found, _LAYOUT, listing)


@var.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--context", "contexts", metavar="CONTEXTS", callback=_contexts, help="Only in these. Default: everywhere."
)
@app_option
@dry_run_option
@yes_option
@json_option
def unset(names: tuple[str, ...], contexts: list[Context] | None, slug: str | None, yes: bool, as_json: bool) -> None:
    """Unset variables and delete their values."""
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        was = _set(registry, app, names, contexts or list(Context))
        plan = [plan_item("unset", app, cause=f"{item['name']} in {item['context']}") for item in was]
        proposal = wanted.unset(registry, app, names, contexts)
        carry_out(proposal, yes=yes, document=(lambda _: was) if as_json else None, plan=plan)
