"""`doctor --deep`: read every database and every snapshot from beginning to end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

from provisioner.cli.commands.doctor.processes import Finding
from provisioner.core.counts import counted
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Status
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import Source
from provisioner.registry.snapshots import snapshots
from provisioner.registry.store import Registry


def deep(registry: Registry) -> Iterator[Finding]:
    """A finding for each database that is damaged or cannot be read, and one for the total."""
    sources = [
        (app, source)
        for app in registry.apps(removed=True)
        for database in registry.databases(app.id)
        if database.connected_at is not None and database.status is not Status.PURGED
        for source in (Source(database), *(Source(database, item.id) for item in snapshots(registry, database.id)))
    ]
    wrong = 0
    with _Progress(len(sources)) as progress:
        for app, source in sources:
            progress.next(source.database.name)
            if text := _problem(registry, source, progress.alive):
                wrong += 1
                yield f"app {app.slug} {source.database.name}", False, text
    whole = sum(source.snapshot_id is None for _, source in sources)
    read = f"{counted(whole, 'database')} and {counted(len(sources) - whole, 'snapshot')}"
    yield "deep", True, f"read {read} to the end: {len(sources) - wrong} of {len(sources)} intact"


def _problem(registry: Registry, source: Source, alive: Callable[[], None]) -> str:
    database = source.database
    what = f"its snapshot {source.snapshot_id}" if source.snapshot_id else "it"
    try:
        instance = registry.storage_of(database)
        problem = engine_of(instance).deep_damage(instance, source, alive)
    except ProvisionerError as error:
        return f"{what} was not read: {error}"
    except OSError as error:
        return f"{what} was not read: {error.strerror}"
    if not problem:
        return ""
    if source.snapshot_id:
        return f"{what} is damaged: {problem}. Delete it: provisioner database snapshot delete {source.snapshot_id}"
    return f"{what} is damaged: {problem}. Restore a snapshot: provisioner database snapshot list {database.name}"


class _Progress:
    """What is being read, on standard error if that is a terminal: n of m, with a spinner."""

    _MARKS = "|/-\\"

    def __init__(self, count: int) -> None:
        self._count, self._number, self._turn, self._name = count, 0, 0, ""
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def next(self, name: str) -> None:
        self._number, self._name = self._number + 1, shown(name)
        self.alive()

    def alive(self) -> None:
        if self._shown:
            self._turn += 1
            mark = self._MARKS[self._turn % len(self._MARKS)]
            text = f"{mark} Reading {self._name}: {self._number} of {self._count}"
            sys.stderr.write(f"\r\x1b[K{text[: os.get_terminal_size(2).columns - 1]}")
            sys.stderr.flush()
