"""The two ends of a move: where databases are taken from, and where they are put. Each by where an instance stores."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Protocol, assert_never

from provisioner.core.connection import FileLocation, ServerLocation
from provisioner.core.errors import StorageFailed
from provisioner.core.ids import SnapshotId
from provisioner.core.model import Database, Instance
from provisioner.engines.protocol.engine import Source
from provisioner.kv.bulk_copy import BulkSource, BulkTarget


class MoveEnd(Protocol):
    """`storage` is an instance, storing at this end. Every step may be done again; all raise StorageFailed."""

    def alone(self, storage: Instance, other: Instance) -> str:
        """Why what is put here may be what is taken from the `other` storage of the same kind; empty where it cannot."""

    def make(self, storage: Instance, item: Source) -> None:
        """Put aside whatever lies where this database, or this snapshot of it, is to lie, and begin an empty copy."""

    def copy(self, storage: Instance, item: Source) -> AbstractContextManager[BulkTarget]:
        """The copy that was started."""

    def put_in_place(self, storage: Instance, item: Source) -> None:
        """Have the copy on disk, and where it belongs."""

    def discard(self, storage: Instance, item: Source) -> None:
        """Remove the copy; one at its target, which no program has used, is archived."""

    def original(self, storage: Instance, item: Source) -> AbstractContextManager[BulkSource]:
        """What is to be moved, fenced or not."""

    def fence(self, storage: Instance, item: Source) -> None:
        """From here on no program writes to it, and all acknowledged writes are in it."""

    def unfence(self, storage: Instance, database: Database, snapshot_ids: Sequence[SnapshotId]) -> None:
        """Let programs use a database and its snapshots again, as far as they were fenced."""

    def put_away(self, storage: Instance, database: Database) -> None:
        """Archive the moved data, so that no program takes it for a database."""

    def left(self, storage: Instance) -> tuple[int, str]:
        """How many databases were archived there, and their location."""

    def forget(self, storage: Instance) -> None:
        """Permanently delete what was archived."""

    def tidy(self, storage: Instance) -> None:
        """Remove the last traces of an instance whose databases were all archived."""


_Kind = tuple[str, str]
_FILES: _Kind = ("provisioner.engines.files.move", "FilesMoveEnd")
_SERVER: _Kind = ("provisioner.engines.postgres.move", "ServerMoveEnd")


def end_of(storage: Instance) -> MoveEnd:
    """Raises StorageFailed where a library that it needs is not installed."""
    match storage.location:
        case FileLocation():
            module, name = _FILES
        case ServerLocation():
            module, name = _SERVER
        case _:
            assert_never(storage.location)
    try:
        found: MoveEnd = getattr(import_module(module), name)()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("provisioner"):
            raise
        raise StorageFailed(
            f"moving to or from PostgreSQL needs {error.name}, which is not installed",
            "Run: pip install 'timeline-provisioner[postgres]'",
        ) from error
    return found


def mark() -> str:
    """Part of the name of archived data, different each time."""
    return secrets.token_hex(8)
