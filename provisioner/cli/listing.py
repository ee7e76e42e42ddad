"""Lists: a table with a heading that fits the terminal, one page of it, and one line if there is nothing to list."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from provisioner.cli import table
from provisioner.cli.common_options import colored, note, settings
from provisioner.cli.context import print_json
from provisioner.core.errors import UsageError
from provisioner.core.naming import shown
from provisioner.operations.documents import Document

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ListOptions:
    """`limit` documents at most, behind the one that `cursor` names; `wide`: nothing is shortened."""

    as_json: bool
    limit: int | None
    cursor: str | None
    wide: bool


@dataclass(frozen=True, slots=True)
class ListLayout:
    """How a kind of thing is listed. `key`: the keys of a document that tell it from others. `row`: its cells, by heading.
    `nothing` is what to do if there is none. `archived`: what is not listed unless it is asked for, and by which command."""

    columns: tuple[table.Column, ...]
    key: tuple[str, ...]
    row: Callable[[Document], Mapping[str, str]]
    nothing: str
    archived: tuple[str, str] = ("", "")


def list_options(command: _Command) -> _Command:
    """``--json``, ``--limit``, ``--cursor``, ``--wide``, handed on as `listing`."""

    @wraps(command)
    def with_listing(
        *args: Any, as_json: bool, limit: int | None, cursor: str | None, wide: bool, **others: Any
    ) -> Any:
        listing = ListOptions(as_json or settings().as_json, limit, cursor, wide)
        return command(*args, listing=listing, **others)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON array."),
        click.option("--wide", is_flag=True, help="Shorten nothing, however narrow the terminal is."),
        click.option("--cursor", metavar="CURSOR", help="Continue where an earlier list ended."),
        click.option(
            "--limit", type=click.IntRange(1), metavar="N", help="List at most N; stderr gets the next cursor."
        ),
    ):
        with_listing = option(with_listing)
    return with_listing  # type: ignore[return-value]


def print_list(
    documents: Sequence[Document], layout: ListLayout, listing: ListOptions, *, archived: bool = True
) -> None:
    """One page, as JSON or as a table; not `archived`: a table without what is. Raises UsageError if the cursor is of no
    document."""
    listed = documents if archived or listing.as_json else without_archived(documents)
    page, following = paged(listed, layout.key, listing)
    if listing.as_json:
        print_json(page)
    elif page:
        _print_table(page, layout, wide=listing.wide)
    elif not documents:
        note(layout.nothing)
    tell_cursor(following, as_json=listing.as_json)
    note_archived(len(documents) - len(listed), *layout.archived)


def paged(documents: Sequence[Document], key: Sequence[str], listing: ListOptions) -> tuple[list[Document], str | None]:
    """The documents of one page, and the cursor of the next one."""
    names = [cursor_of(document, key) for document in documents]
    first = 0
    if listing.cursor is not None:
        if listing.cursor not in names:
            raise UsageError(
                f"{listing.cursor!r} is not a cursor of this list", "Use the one that was printed, or omit it"
            )
        first = names.index(listing.cursor) + 1
    end = len(names) if listing.limit is None else min(len(names), first + listing.limit)
    return list(documents[first:end]), names[end - 1] if first < end < len(names) else None


def cursor_of(document: Document, key: Sequence[str]) -> str:
    return "/".join(str(document[name]) for name in key)


def tell_cursor(cursor: str | None, *, as_json: bool) -> None:
    """Print the cursor of the next page on standard error."""
    if cursor is not None:
        click.echo(json.dumps({"cursor": cursor}) if as_json else shown(f"cursor: {cursor}"), err=True)


def _print_table(documents: Sequence[Document], layout: ListLayout, *, wide: bool) -> None:
    cells = [layout.row(document) for document in documents]
    columns = [column for column in layout.columns if any(row.get(column.title) for row in cells)]
    rows = [table.TableRow(tuple(shown(row.get(column.title, "")) for column in columns)) for row in cells]
    width = None if wide else table.room(sys.stdout)
    for line in table.lines(columns, rows, width=width, styled=colored(sys.stdout)):
        click.echo(line)


archived_options = (
    click.option("--all", "everything", is_flag=True, help="Every app, or all of --app; archived included."),
    click.option("--archived", is_flag=True, help="Archived included."),
)


def with_archived(command: _Command) -> _Command:
    """``--all`` and ``--archived``, handed on as `everything` and `archived`."""
    for option in reversed(archived_options):
        command = option(command)
    return command


def without_archived(documents: Sequence[Document]) -> list[Document]:
    """Those that are not archived, or need attention."""
    return [item for item in documents if item["status"] != "archived" or needs_attention(item)]


def note_archived(count: int, what: str, command: str) -> None:
    """How many are not listed, and what lists them."""
    if count:
        are = (
            f"1 archived {what} is hidden. To show it"
            if count == 1
            else f"{count} archived {what}s are hidden. To show them"
        )
        note(f"{are}: provisioner {command} --archived")


def needs_attention(document: Document) -> bool:
    """Is it production's, or did something fail? Of a timeline, or of a database."""
    if document.get("context") == "production" or document["timeline"] == "production" or document.get("doubt"):
        return True
    databases = document.get("databases", [document])
    return any(item["error"] or item["orphan"] for item in databases)
