"""`provisioner database diff`: the keys that differ between two databases."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import click

from provisioner.cli.commands.database.dump import progress
from provisioner.cli.commands.kv import kv_errors
from provisioner.cli.context import json_option
from provisioner.cli.data_source import DataSource, located, place, registered, snapshot, with_keys
from provisioner.cli.selectors import HERE, NamedTarget, selector_options
from provisioner.core.errors import Ambiguous, UsageError
from provisioner.core.model import Database
from provisioner.core.naming import shown
from provisioner.environment.resolve import Selectors
from provisioner.kv.codec import json_notation
from provisioner.kv.dump import json_lines
from provisioner.kv.dump.diff import EntryChange, Kind, Side
from provisioner.kv.dump.diff import diff as differences
from provisioner.kv.model import NEVER, StoredRow
from provisioner.operations.target import Target

_MARKS = {Kind.ADDED: "+", Kind.CHANGED: "~", Kind.REMOVED: "-"}
_SIDES = {Side.FIRST: "a", Side.SECOND: "b", Side.BOTH: "both"}


@click.command()
@click.argument("a", metavar="[A]", default="@{parent}")
@click.argument("b", metavar="[B]", default=HERE)
@click.option("--values", is_flag=True, help="Also print the values in A and in B.")
@click.option("--stat", is_flag=True, help="Print only the counts.")
@click.option("--exit-code", is_flag=True, help="Exit with code 1 if there are differences.")
@selector_options("app", "instance")
@json_option
@kv_errors
def diff(a: str, b: str, values: bool, stat: bool, exit_code: bool, selectors: Selectors, as_json: bool) -> None:
    """Show the keys that differ between two databases.

    + only in B, - only in A, ~ different in B.

    A and B are databases, timelines, branches, files, dumps, or connect URLs. Databases of two timelines are compared on
    each instance that both have. If one is a fork of the other, keys deleted in one are distinguished from keys added
    in the other. If both are files, only the pages that differ are read.
    """
    if a == b == "-":
        raise UsageError("A and B cannot both be standard input", "Use a file for one of them")
    pairs = _pairs(NamedTarget(selectors, a), NamedTarget(selectors, b))
    if as_json and len(pairs) > 1:
        names = ", ".join(first.name for first, _ in pairs)
        raise Ambiguous(f"{a} has {len(pairs)} Deno KV databases: {names}", "Choose one: --instance INSTANCE")
    differ = [_compared(*pair, values=values, stat=stat, as_json=as_json) for pair in pairs]
    if exit_code and any(differ):
        sys.exit(1)


def _pairs(one: NamedTarget, other: NamedTarget) -> list[tuple[DataSource, DataSource]]:
    """The pairs to compare: for two timelines, their Deno KV databases on each instance that both have."""
    first, second = registered(one), registered(other)
    if first is None or second is None:
        return [(place(one), place(other))]
    found = [{item.instance_id: item for item in with_keys(each)} for each in (first, second)]
    both = [instance_id for instance_id in found[0] if instance_id in found[1]]
    if not both:
        return [(place(one), place(other))]
    return [(_place(first, found[0][each]), _place(second, found[1][each])) for each in both]


def _place(target: Target, database: Database) -> DataSource:
    found = located(target, database)
    assert isinstance(found, DataSource)  # noqa: S101 - it has keys
    return found


def _compared(first: DataSource, second: DataSource, *, values: bool, stat: bool, as_json: bool) -> bool:
    """Print how two databases differ, and return whether they do."""
    fork = fork_version(first, second)
    counts: Counter[Kind] = Counter()
    with ExitStack() as stack:
        one, other = (stack.enter_context(snapshot(each, pages=True)) for each in (first, second))
        advance = stack.enter_context(progress("diff", None, "differences"))
        found = _counted(differences(one, other, fork_version=fork), counts, advance)
        if as_json:
            _print_json(first, second, fork, () if stat else found, values)
        elif not stat:
            for change in found:
                click.echo(_line(change, values))
        for _ in found:  # count what is not printed
            pass
        if as_json:
            click.echo(f"{_json({kind.value: counts[kind] for kind in Kind})[1:-1]}}}")
    if not as_json:
        said = ", ".join(f"{counts[kind]:,} {kind.value}" for kind in Kind)
        click.echo(shown(f"{first.name} and {second.name}: {said}" if counts else "no difference"), err=not stat)
    return bool(counts)


def fork_version(first: DataSource, second: DataSource) -> int | None:
    """The version at which one of the two was forked from the other; None if no fork is known."""
    for one, other in ((first.database, second.database), (second.database, first.database)):
        if one is not None and other is not None and one.forked_from == other.id:
            return one.fork_version
    return None


def _counted(changes: Iterable[EntryChange], counts: Counter[Kind], advance: Any) -> Iterator[EntryChange]:
    for change in changes:
        counts[change.kind] += 1
        if not counts.total() % 1000:
            advance(counts.total())
        yield change


def _line(change: EntryChange, values: bool) -> str:
    line = f"{_MARKS[change.kind]} {_json(json_lines.documents_of(change.before or change.after)[0])}"  # type: ignore[arg-type]
    if values:
        line += "".join(f"\t{_json(_value(row))}" for row in (change.before, change.after) if row is not None)
    return line


def _print_json(
    first: DataSource, second: DataSource, fork: int | None, changes: Iterable[EntryChange], values: bool
) -> None:
    """One document, printed as changes are found, with the counts at its end."""
    head = {"a": first.name, "b": second.name, "fork": None if fork is None else json_lines.stamp(fork)}
    click.echo(f'{_json(head)[:-1]}, "changes": [', nl=False)
    before = "\n"
    for change in changes:
        key = json_lines.documents_of(change.before or change.after)[0]  # type: ignore[arg-type]
        document: dict[str, Any] = {"key": key, "change": change.kind.value, "by": change.by and _SIDES[change.by]}
        for name, row in (("a", change.before), ("b", change.after)):
            document[name] = None if row is None else _entry(row, values)
        click.echo(before + _json(document), nl=False)
        before = ",\n"
    click.echo("], ", nl=False)


def _entry(row: StoredRow, values: bool) -> dict[str, Any]:
    document = {
        "versionstamp": None if row[3] is None else json_lines.stamp(row[3]),
        "expire_at": None if row[4] == NEVER else row[4],
    }
    return {"value": _value(row), **document} if values else document


def _value(row: StoredRow) -> Any:
    return json_lines.documents_of(row)[1]


def _json(document: object) -> str:
    return json_notation.text_of(document)
