"""`provisioner database load`: the entries of a dump into a database."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from provisioner.cli import standard_input
from provisioner.cli.commands.database.dump import progress
from provisioner.cli.commands.database.fork import deploy_option
from provisioner.cli.commands.database.pg_dump import NO_DUMP, load_whole
from provisioner.cli.commands.kv import kv_errors
from provisioner.cli.common_options import note
from provisioner.cli.context import (
    confirm,
    dry_run_option,
    end_dry_run,
    json_option,
    plan_item,
    print_json,
    the_home,
    yes_option,
)
from provisioner.cli.data_source import (
    DataSource,
    WholeDatabase,
    must_be_connected,
    opened,
    readable,
    source_of,
)
from provisioner.cli.selectors import NamedTarget, target_argument
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import now_ms
from provisioner.core.counts import counted, verb
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.naming import shown
from provisioner.kv.dump import load as loading
from provisioner.kv.dump.json_lines import Dump
from provisioner.kv.errors import DumpInvalid
from provisioner.operations.deploys import after_change
from provisioner.operations.fork_reset import at_stake
from provisioner.reconcile.changes.snapshots import take_snapshots
from provisioner.registry.snapshots import mark_changed
from provisioner.registry.store import Registry


@click.command()
@target_argument("TARGET [FILE]", required=True, most=1, unparsed=True)
@click.option("--replace", is_flag=True, help="Replace all data with the dump; other keys are deleted.")
@click.option("--merge", is_flag=True, help="Add the dump's entries, replacing those with the same keys.")
@click.option(
    "--keep-versionstamps", is_flag=True, help="Keep the dump's versionstamps. Only by file, without --merge."
)
@click.option("--no-snapshot", is_flag=True, help="Do not keep the current data as a snapshot.")
@click.option("--from-line", type=click.IntRange(1), default=1, metavar="N", help="Continue an interrupted load here.")
@deploy_option
@dry_run_option
@yes_option
@json_option
@kv_errors
def load(
    wanted: NamedTarget,
    words: list[str],
    replace: bool,
    merge: bool,
    keep_versionstamps: bool,
    no_snapshot: bool,
    from_line: int,
    no_deploy: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Load a dump into a database.

    A database that is not empty needs --replace or --merge. A branch's current data is kept as a snapshot. A postgres
    database takes what pg_dump writes.

    TARGET is a branch, a timeline, a database, a file, or a connect URL (with its token in DENO_KV_ACCESS_TOKEN). The
    pre-deploy command runs on a branch's new data.
    """
    file = words[0] if words else "-"
    if replace and merge:
        raise UsageError("--replace and --merge cannot be used together", "Choose one")
    if keep_versionstamps and merge:
        raise UsageError("--keep-versionstamps and --merge cannot be used together", "Use --replace, or omit one")
    if from_line > 1 and not (replace or merge):
        raise UsageError("--from-line requires --replace or --merge", "Add the one that the first load had")
    target = source_of(wanted)
    if isinstance(target, DataSource) and target.kept:
        raise UsageError(f"{target.name} is data of the past, which can only be read", "Choose a branch")
    into = target.database.name if target.database is not None else str(wanted.text)
    replaced = " Its current data is replaced." if replace else ""
    item = plan_item("load", target.app, None, into, target.database.id if target.database is not None else None, file)
    end_dry_run(f"Load {file} into {into}?{replaced}", [item])
    if isinstance(target, WholeDatabase):
        if merge or keep_versionstamps or from_line > 1:
            raise UsageError(
                "a postgres database can only be replaced as a whole", "Use --replace, or no option if it is empty"
            )
        load_whole(
            *(target, file),
            replace=replace,
            keep=not no_snapshot,
            deploy=not no_deploy,
            yes=yes,
            as_json=as_json,
        )
        return
    must_be_connected(target)
    with _input(file) as stream, opened(target, create=target.database is None) as store:
        goal = loading.target(store, keep=keep_versionstamps)
        source = Dump(stream)
        _must_be_whole(source, replace)
        empty = loading.is_empty(store)
        if not empty:
            if not (replace or merge):
                raise ProvisionerError(
                    f"{target.name} is not empty",
                    "Use --replace to replace its data with the dump, or --merge to add the dump to it",
                )
            users, typed = _at_stake(target)
            confirm(f"{'Replace all' if replace else 'Change'} entries of {target.name}?{users}", yes, typed=typed)
        if not (empty or no_snapshot or from_line > 1):
            _keep(target)
        _record(target, "database.load-begun", file)
        try:
            loaded = _load(source, goal, _size(file), replace=replace, start=from_line)
        except loading.LoadStopped as stopped:
            _record(target, "database.load-stopped", f"{counted(stopped.loaded.entries, 'entry')} of {file}: {stopped}")
            how = "--merge" if not (replace or keep_versionstamps) else "--replace"
            raise _stopped(
                stopped, target, file, f"{how} --keep-versionstamps" if keep_versionstamps else how
            ) from stopped
        _record(target, "database.load", f"{counted(loaded.entries, 'entry')} of {file}", deploy=not no_deploy)
    if as_json:
        print_json({"database": target.name, "entries": loaded.entries, "deleted": loaded.deleted})
    else:
        deleted = f", deleted {counted(loaded.deleted, 'other')}" if replace else ""
        click.echo(shown(f"Loaded {counted(loaded.entries, 'entry')} into {target.name}{deleted}"))
    _deploy(target, wanted=not no_deploy, quiet=as_json)


def _must_be_whole(source: Dump, replace: bool) -> None:
    """Raises UsageError if a part of a database would replace all of it."""
    if replace and source.header is not None and source.header.prefix is not None:
        part = json.dumps(source.header.prefix)
        raise UsageError(
            f"the dump has only the keys with the prefix {part}", "Use --merge, which deletes no other key"
        )


def _load(source: Dump, into: loading.LoadTarget, size: int | None, *, replace: bool, start: int) -> loading.Loaded:
    with progress("load", size, "bytes") as advance:
        loaded = loading.Loaded(start - 1, 0, 0)
        try:
            for step in loading.load(source, into, replace=replace, start=start):
                loaded = step
                advance(source.bytes_read)
        except KeyboardInterrupt as interrupted:
            raise loading.LoadStopped(loaded, interrupted) from interrupted
    return loaded


def _stopped(stopped: loading.LoadStopped, target: DataSource, file: str, how: str) -> ProvisionerError:
    done = stopped.loaded
    kept = "nothing was loaded"
    if done.entries:
        stay = verb(done.entries, "is loaded and stays", "are loaded and stay")
        kept = f"{counted(done.entries, 'entry')}, up to line {done.line}, {stay}"
    if isinstance(stopped.reason, KeyboardInterrupt):
        what = "stopped"
    elif isinstance(stopped.reason, DumpInvalid):
        what = str(stopped.reason)
    else:
        what = f"line {done.line} or later: {stopped.reason}"
    words = f"{shlex.quote(target.name)} {shlex.quote(file)}"
    again = f"provisioner database load {words} {how} --from-line {done.line + 1}"
    return ProvisionerError(f"{what}; {kept}", f"To continue, run: {again}")


def _at_stake(target: DataSource) -> tuple[str, str]:
    """As `at_stake`; nothing of a file."""
    if target.app is None or target.database is None:
        return "", ""
    with Registry.open(the_home()) as registry:
        return at_stake(registry, target.app, target.database)


def _keep(target: DataSource) -> None:
    if target.database is None or target.app is None:
        return
    with Registry.open(the_home()) as registry:
        (kept,) = take_snapshots(registry, [target.database], now_ms(), label="", cause="load")
    note(f"Kept the current data of {target.name} as snapshot {kept.id}")


def _record(target: DataSource, action: str, detail: str, *, deploy: bool | None = None) -> None:
    """Add it to the database's history; with `deploy`, as a replacement of its data."""
    if target.database is None or target.app is None:
        return
    database_id = target.database.id
    with Registry.open(the_home()) as registry, registry.change():
        registry.record(now_ms(), action, "user", app_id=target.app.id, database_id=database_id, detail=detail[:500])
        if deploy is not None:
            mark_changed(registry, database_id, deploy=deploy)


def _deploy(target: DataSource, *, wanted: bool, quiet: bool) -> None:
    """Run the pre-deploy command on the loaded data, and report that, or that it was not run."""
    if target.database is None or target.app is None:
        return
    with Registry.open(the_home()) as registry:
        timeline = registry.timeline(target.database.timeline_id)
        for line in after_change(registry, target.app, timeline, TERMINAL, wanted=wanted):
            click.echo(shown(line), err=quiet)


@contextmanager
def _input(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        with standard_input.stream("a dump", NO_DUMP) as stream:
            yield stream
    else:
        with readable(file) as source, standard_input.filled(source, file, "a dump", NO_DUMP) as stream:
            yield stream


def _size(file: str) -> int | None:
    return standard_input.size() if file == "-" else os.path.getsize(file)
