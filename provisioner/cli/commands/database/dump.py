"""`provisioner database dump`: a database as lines of JSON, in the format that docs/dump.md describes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from provisioner.cli.commands.database.pg_dump import dump_whole
from provisioner.cli.commands.kv import kv_errors
from provisioner.cli.common_options import note
from provisioner.cli.context import confirm, json_option, print_json, yes_option
from provisioner.cli.data_source import (
    WholeDatabase,
    snapshot,
    source_of,
)
from provisioner.cli.output_file import written
from provisioner.cli.selectors import NamedTarget, target_argument
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.counts import counted
from provisioner.core.errors import UsageError
from provisioner.core.naming import shown
from provisioner.kv.codec import json_notation
from provisioner.kv.codec.key import Selector
from provisioner.kv.dump import json_lines

Advance = Callable[[int], None]


@click.command()
@target_argument("TARGET", required=True, unparsed=True)
@click.option("-o", "--output", metavar="FILE", help="Write to this file, which appears when it is complete.")
@click.option("--prefix", metavar="KEY", help="Dump only keys that start with KEY's parts.")
@click.option("--no-versionstamps", is_flag=True, help="Omit versionstamps, so that equal data gives equal dumps.")
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    help="Format for a postgres database: custom (default), plain, tar, directory.",
)
@yes_option
@json_option
@kv_errors
def dump(
    wanted: NamedTarget,
    output: str | None,
    prefix: str | None,
    no_versionstamps: bool,
    form: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Export a database as JSON lines, or with pg_dump.

    TARGET is a branch, a timeline, a database, a file or a connect URL (with its token in DENO_KV_ACCESS_TOKEN).
    """
    if output == "-":
        output = None
    if as_json and output is None:
        raise UsageError("--json requires --output", "Add --output FILE")
    source = source_of(wanted)
    if output is not None and (os.path.isfile(output) or os.path.isdir(output)):
        confirm(f"Replace {output}?", yes)
    selector = None if prefix is None else Selector.of(json_notation.key_of(prefix), None, None)
    if isinstance(source, WholeDatabase):
        if prefix is not None:
            raise UsageError("--prefix is for Deno KV databases", "Omit it")
        dump_whole(source, output, form, as_json=as_json)
        return
    if form is not None:
        raise UsageError("--format is for postgres databases", "Omit it: this dump is lines of JSON")
    with snapshot(source) as found, written(output) as file:
        version = None if found.version is None else json_lines.stamp(found.version)
        parts = None if prefix is None else json.loads(prefix)
        header = json_lines.Header(source.name, rfc3339(now_ms()) or "", version, found.whole, found.expiry, parts)
        file.write(json_lines.header_line(header))
        entries = 0
        with progress("dump", found.count() if selector is None and sys.stderr.isatty() else None, "keys") as advance:
            for row in found.rows() if selector is None else found.rows(selector.start, selector.end):
                file.write(json_lines.entry_line(row, versionstamps=not no_versionstamps))
                entries += 1
                if not entries % 1000:
                    advance(entries)
        file.write(json_lines.end_line(entries))
    size = os.path.getsize(output) if output is not None else None
    if as_json:
        print_json({"database": source.name, "file": output, "entries": entries, "size": size, **header._asdict()})
    else:
        note(shown(f"Dumped {counted(entries, 'entry')} of {source.name}"))
    if not found.whole:
        click.echo(
            "provisioner: a dump over the network has no expiry times, and may miss writes that happened during it",
            err=True,
        )


@contextmanager
def progress(verb: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Progress on a terminal: called with the total done so far."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    done: Any = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), done, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=total)
        yield lambda count: bar.update(task, completed=count)
