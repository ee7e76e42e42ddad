"""Dumps of databases that their engine dumps as a whole: in pg_dump's formats."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import deque

from provisioner.cli import standard_input
from provisioner.cli.common_options import note
from provisioner.cli.context import confirm, print_json, the_home
from provisioner.cli.data_source import WholeDatabase, readable
from provisioner.cli.output_file import written
from provisioner.cli.terminal import TERMINAL, carry_out
from provisioner.core.errors import NotReady, ProvisionerError, UsageError
from provisioner.core.model import Database, Instance, Status
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import Dumps
from provisioner.operations import load_dump
from provisioner.registry.store import Registry
from provisioner.system.atomic_file import sync_path

NO_DUMP = "Use a dump. To empty the database, run: provisioner database reset TARGET"


def dump_whole(whole: WholeDatabase, output: str | None, form: str | None, *, as_json: bool) -> None:
    _, database, instance = whole
    dumps = _dumps(instance)
    form = form or dumps.formats[0]
    if form not in dumps.formats:
        raise UsageError(
            f"no dump format {form!r} for databases of {instance.engine}", f"Use one of {', '.join(dumps.formats)}"
        )
    _must_be_connected(database)
    if form == "directory" and output is not None:
        _directory(dumps, whole, output)
    elif output is None and sys.stdout.isatty() and form != "plain":
        raise UsageError("a dump in this format cannot be shown on a terminal", "Add --output FILE")
    else:
        with written(output) as file:
            file.flush()
            dumps.dump(instance, database, form, file.fileno())
    if as_json:
        size = os.path.getsize(str(output)) if os.path.isfile(str(output)) else None
        print_json({"database": database.name, "file": output, "format": form, "size": size})
    else:
        note(shown(f"Dumped {database.name} in the format {form}"))


def _directory(dumps: Dumps, whole: WholeDatabase, output: str) -> None:
    _, database, instance = whole
    target = os.path.abspath(output)
    try:
        beside = tempfile.mkdtemp(prefix=".dump-", dir=os.path.dirname(target))
        try:
            dumps.dump(instance, database, "directory", os.path.join(beside, "dump"))
            if os.path.isdir(target) and os.path.exists(os.path.join(target, "toc.dat")):
                os.rename(target, os.path.join(beside, "old"))
            os.rename(os.path.join(beside, "dump"), target)
            sync_path(os.path.dirname(target))
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise ProvisionerError(f"{output} cannot be written: {error.strerror}") from error


def load_whole(
    whole: WholeDatabase, file: str, *, replace: bool, keep: bool, deploy: bool, yes: bool, as_json: bool
) -> None:
    app, database, _ = whole
    _must_be_connected(database)
    if file != "-" and not os.path.exists(file):
        raise ProvisionerError(f"{file} cannot be read: no such file")
    with tempfile.TemporaryDirectory(prefix="provisioner-") as directory, Registry.open(the_home()) as registry:
        if file == "-":
            path = os.path.join(directory, "dump")
            with open(path, "wb") as copy, standard_input.stream("a dump", NO_DUMP) as stream:
                shutil.copyfileobj(stream, copy, 1 << 20)
        else:
            path = os.path.abspath(file)
            _must_hold_something(path)
        proposal = load_dump.load(registry, app, database, path, replace=replace, keep=keep, deploy=deploy)
        if as_json:
            if proposal.question:
                confirm(proposal.question, yes, typed=proposal.typed)
            deque(proposal.do(TERMINAL), maxlen=0)
            print_json({"database": database.name, "file": file})
        else:
            carry_out(proposal, yes=yes)


def _must_hold_something(path: str) -> None:
    if os.path.isfile(path):
        with readable(path) as source, standard_input.filled(source, path, "a dump", NO_DUMP):
            pass


def _must_be_connected(database: Database) -> None:
    if database.status is not Status.CONNECTED:
        raise NotReady(
            f"database {database.name!r} is {database.status}", f"See: provisioner database show {database.name}"
        )


def _dumps(instance: Instance) -> Dumps:
    found = engine_of(instance).dumps
    assert found is not None  # noqa: S101 - callers have checked it
    return found
