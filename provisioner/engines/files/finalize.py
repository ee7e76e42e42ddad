"""A database that other programs have changed beside its place, before it is put there."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from provisioner.core.errors import StorageFailed
from provisioner.engines.files.layout import file_in
from provisioner.engines.files.staging import reason
from provisioner.kv.stores.sqlite import last_write
from provisioner.kv.stores.sqlite.schema import why_not_a_database
from provisioner.system.atomic_file import sync_path

_LONGEST_PATTERN = 4  # see provisioner.kv.stores.sqlite.connection


def seal(directory: str) -> None:
    """Put its log into its file, look whether it is whole, and sync it. Raises StorageFailed where it is not."""
    path = file_in(directory)
    if problem := why_not_a_database(path):
        raise StorageFailed(f"{path} {problem}")
    try:
        with last_write.kept(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("pragma ignore_check_constraints = on")  # who scrubs may have put any there
            connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _LONGEST_PATTERN)
            (busy, *_) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            (found,) = connection.execute("pragma integrity_check(1)").fetchone()
            tables = connection.execute("select count(*) from sqlite_master where name in ('kv', 'data_version')")
            (known,) = tables.fetchone()
            connection.execute("pragma journal_mode = wal")
    except sqlite3.Error as error:
        raise StorageFailed(f"{path} is damaged: {error}") from error
    if busy:
        raise StorageFailed(f"{path} is still being written to")
    if found != "ok":
        raise StorageFailed(f"{path} is damaged: {found}")
    if known != 2:
        raise StorageFailed(f"{path} is no longer a Deno KV database: its tables are gone")
    try:
        for each in (path, os.path.dirname(path), directory):
            sync_path(each)
    except OSError as error:
        raise StorageFailed(f"cannot keep {path}: {reason(error)}") from error
