"""`provisioner status`."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NoReturn

import click

from provisioner.cli import table
from provisioner.cli.common_options import colored
from provisioner.cli.context import looks, print_json, the_home
from provisioner.cli.listing import (
    ListOptions,
    list_options,
    note_archived,
    paged,
    tell_cursor,
    with_archived,
    without_archived,
)
from provisioner.cli.selectors import NamedTarget, target_argument
from provisioner.cli.targets import filtered
from provisioner.core.durations import about
from provisioner.core.naming import shown
from provisioner.operations import documents as view
from provisioner.operations.instance.moves_in_progress import moves_under_way
from provisioner.registry.store import Registry

WATCH_SECONDS = 1.0
ALTERNATE_SCREEN, USUAL_SCREEN, CLEAR = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H\x1b[2J"


@click.command()
@target_argument()
@with_archived
@click.option(
    "--watch",
    "keep_on",
    is_flag=True,
    help="Redraw every second until Ctrl-C. Not on a terminal: print a line per change.",
)
@list_options
@looks
def status(wanted: NamedTarget, everything: bool, archived: bool, keep_on: bool, listing: ListOptions) -> None:
    """Show timelines with their databases, status, size, and age."""
    hidden = not (archived or everything or wanted.names_timeline)
    if keep_on:
        with suppress(KeyboardInterrupt):
            _watch(lambda: _now(wanted, everything), Interrupt(), listing.as_json, hidden=hidden)
        return
    with Registry.open(the_home()) as registry:
        every = documents = filtered(registry, wanted, everything)
        if hidden and not listing.as_json:
            documents = without_archived(every)
        page, following = paged(documents, ("app", "timeline"), listing)
        if listing.as_json:
            print_json(page)
        else:
            if page or not every:
                _print(page, wide=listing.wide)
            for move in moves_under_way(registry):
                click.echo(shown(f"instance {move.instance.slug} {move.text}"))
        tell_cursor(following, as_json=listing.as_json)
        note_archived(len(every) - len(documents), "timeline", "status")


def _now(wanted: NamedTarget, everything: bool) -> list[view.Document]:
    """Opens the registry each time: an older one that is only looked at is a copy of what it was then."""
    with Registry.open(the_home()) as registry:
        return filtered(registry, wanted, everything)


def _print(documents: list[view.Document], *, wide: bool) -> None:
    """The table, and below it the errors that did not fit into it."""
    width = None if wide else table.room(sys.stdout)
    for line in _table(documents, width):
        click.echo(line)
    if width is not None:
        for line in _reasons(documents):
            click.echo(line)


def _reasons(documents: list[view.Document]) -> Iterator[str]:
    """Why databases have failed or are waiting, one line each."""
    for document in documents:
        for database in _rows_of(document):
            state, why = _state(document, database)
            if why:
                yield shown(f"{database['name'] if database else document['timeline']}: {state}{why}")
        if document["app_error"]:
            yield shown(f"{document['url']}: {document['state']}: {document['app_error']}")


def _rows_of(document: view.Document) -> list[view.Document | None]:
    """Its databases, and a row without one if there is none that its branch has or waits for."""
    databases: list[view.Document | None] = [*document["databases"]]
    mine = [item for item in document["databases"] if not item["orphan"]]
    return databases if mine or (databases and not document["doubt"]) else [*databases, None]


class Interrupt:
    """A Ctrl-C that is remembered: if Python drops the exception, in a destructor for example, the next pause raises it."""

    def __init__(self) -> None:
        self._came = False
        signal.signal(signal.SIGINT, self._come)

    def _come(self, *_: object) -> None:
        self._came = True
        raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Raises KeyboardInterrupt."""
        if not self._came:
            time.sleep(seconds)
        if self._came:
            raise KeyboardInterrupt


def _watch(
    documents: Callable[[], list[view.Document]], interrupt: Interrupt, as_json: bool, *, hidden: bool
) -> NoReturn:
    """Until interrupted: a screen on a terminal, else a line per change."""
    if sys.stdout.isatty() and not as_json:
        _redraw((lambda: without_archived(documents())) if hidden else documents, interrupt)
    known: dict[_Key, str] = {}
    while True:
        now = _lines(documents(), as_json)
        for key, (state, line) in now.items():
            if known.get(key) != state:
                click.echo(line)
        for app, name, *_ in known.keys() - now.keys():
            gone = {"app": app, "timeline": name, "databases": []}
            click.echo(json.dumps(gone) if as_json else shown(f"{app}  {name}  gone"))
        known = {key: state for key, (state, _) in now.items()}
        interrupt.sleep(WATCH_SECONDS)


_Key = tuple[str, ...]


def _lines(documents: list[view.Document], as_json: bool) -> dict[_Key, tuple[str, str]]:
    """What is printed of each timeline, or each database, and the part that is compared for changes: not its size."""
    found: dict[_Key, tuple[str, str]] = {}
    for document in documents:
        if as_json:
            state = json.dumps(_without(document, _RESTLESS))
            found[document["app"], document["timeline"]] = state, json.dumps(document)
            continue
        for database in _rows_of(document):
            name = database["name"] if database else "none assigned"
            line = shown("  ".join((document["app"], document["timeline"], "".join(_state(document, database)), name)))
            found[document["app"], document["timeline"], database["id"] if database else ""] = line, line
    return found


_RESTLESS = ("size", "written_at")


def _without(document: view.Document, keys: tuple[str, ...]) -> view.Document:
    databases = [{key: value for key, value in item.items() if key not in keys} for item in document["databases"]]
    return {**document, "databases": databases}


def _redraw(documents: Callable[[], list[view.Document]], interrupt: Interrupt) -> NoReturn:
    """Show as many rows as fit, on the terminal's alternate screen, until interrupted."""
    click.echo(ALTERNATE_SCREEN, nl=False)
    try:
        while True:
            size = shutil.get_terminal_size()
            found = _table(documents()[: size.lines], size.columns)
            click.echo(CLEAR + "\n".join(islice(found, size.lines - 1)), nl=False)
            interrupt.sleep(WATCH_SECONDS)
    finally:
        click.echo(USUAL_SCREEN, nl=False)


_STYLES = {"connected": "green", "error": "red", "archived": "dim", "provisioning": "yellow", "pending": "yellow"}


_DROPPED = {"AGE": 1, "SIZE": 2, "INSTANCE": 3, "APP": 4, "URL": 5}


def _table(documents: list[view.Document], width: int | None) -> Iterator[str]:
    if not documents:
        return iter(["No timelines yet. Run 'provisioner init' in a repository"])
    several = len({database["instance"] for document in documents for database in document["databases"]}) > 1
    titles = ("APP", "TIMELINE", *(["INSTANCE"] if several else []), "STATUS", "DATABASE")
    columns = [table.Column(title, dropped=_DROPPED.get(title)) for title in titles]
    columns += [table.Column(title, right=True, dropped=_DROPPED[title]) for title in ("SIZE", "AGE")]
    urls = any(document["url"] for document in documents)
    columns += [table.Column("URL", dropped=_DROPPED["URL"])] if urls else []
    rows = [
        _row(document, item, several, urls=urls, whole=width is None)
        for document in documents
        for item in _rows_of(document)
    ]
    return table.lines(columns, rows, width=width, styled=colored(sys.stdout))


def _row(
    document: view.Document, database: view.Document | None, several: bool, *, urls: bool, whole: bool
) -> table.TableRow:
    state, error = _state(document, database)
    name = database["name"] if database else "none assigned"
    if database and database["shared_from"]:
        name += f" (shared from {database['shared_from']})"
    if database and database["shared_by"]:
        name += f" (shared by {', '.join(database['shared_by'])})"
    cells = (
        document["app"],
        document["timeline"],
        *([database["instance"] if database else ""] if several else []),
        state + error if whole else state,
        name,
        view.size_text(database["size"]) if database else "",
        _age(database["created_at"]) if database else "",
        *([_url(document)] if urls else []),
    )
    return table.TableRow(tuple(map(shown, cells)), {2 + several: _STYLES.get(state, "")})


def _url(document: view.Document) -> str:
    """The URLs of the timeline's app, and its state if it isn't the usual one."""
    if not document["url"]:
        return "–"
    urls = " ".join([*document["domains"], document["url"]])
    return urls + ("" if document["state"] in ("running", "sleeping") else f" ({document['state']})")


def retries(database: view.Document) -> str:
    """How many attempts there were, and when the next automatic retry is."""
    if not database["attempts"]:
        return ""
    tried = "once" if database["attempts"] == 1 else f"{database['attempts']} times"
    return f" (tried {tried}{', next retry at ' + database['retry_at'] if database['retry_at'] else ''})"


def _state(document: view.Document, database: view.Document | None) -> tuple[str, str]:
    """The status of a row and its reason: that of its database, else that of the timeline's pre-deploy command."""
    if database is None or (document["doubt"] and not database["orphan"]):
        return document["status"], f": {document['doubt']}" if document["doubt"] else ""
    if database["orphan"]:
        return database["status"], f": {database['orphan']}"
    deploy = document["pre_deploy"]
    if database["status"] == "connected" and deploy and deploy["state"] != "succeeded":
        return document["status"], f": {deploy['error'] or _why_not_yet(deploy)}"
    return database["status"], f": {database['error']}{retries(database)}" if database["error"] else ""


def _why_not_yet(deploy: view.Document) -> str:
    """Why a pre-deploy command has not run yet, if it was tried."""
    run = deploy["run"]
    tried = f": {run['detail']}" if deploy["state"] == "waiting" and run and run["detail"] else ""
    return f"its pre-deploy command is {deploy['state']}{tried}"


def _age(created_at: str) -> str:
    from datetime import UTC, datetime

    seconds = (datetime.now(UTC) - datetime.fromisoformat(created_at)).total_seconds()
    return about(seconds)
