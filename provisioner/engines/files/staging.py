"""Writing new databases beside their places, many at a time."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Mapping, Sequence

from provisioner.core.ids import DatabaseId, SnapshotId
from provisioner.engines.files.layout import FILE_NAME
from provisioner.engines.protocol.engine import Failures
from provisioner.kv.stores.sqlite.schema import empty_file
from provisioner.system import in_place
from provisioner.system.atomic_file import write_file
from provisioner.system.home import DIRECTORY_MODE

# Two at once, each in a separate directory, take half as long: the kernel does the work, and locks the parent.
_TWO_FROM = 64


def staging(data_id: DatabaseId | SnapshotId) -> str:
    """Where below its instance a database is built; always the same, so that an attempt that was cut off is found."""
    return f"new/{int(data_id[-1], 16) % 2}"


def build_all(directories: Mapping[DatabaseId, str]) -> Failures:
    """Build a database in each directory, by database id; nothing is synced yet."""
    failures: Failures = {}
    if len(directories) < _TWO_FROM:
        _build_each(list(directories.items()), failures)
        return failures
    halves: dict[str, list[tuple[DatabaseId, str]]] = {}
    for database_id, directory in directories.items():
        halves.setdefault(staging(database_id), []).append((database_id, directory))
    threads = [threading.Thread(target=_build_each, args=(half, failures), name="staging") for half in halves.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def _build_each(directories: Sequence[tuple[DatabaseId, str]], failures: Failures) -> None:
    for database_id, directory in directories:
        try:
            build(directory)
        except OSError as error:
            failures[database_id] = reason(error)


def build(directory: str) -> None:
    """Make the directory with an empty database in it."""
    make_anew(directory)
    write_file(os.path.join(directory, FILE_NAME), empty_file())
    in_place.overwrite_new_files(directory)  # but not the file itself: it keeps its checksums, and shares its blocks


def make_anew(directory: str) -> None:
    """Make the directory. What an attempt that was cut off has left there is removed."""
    try:
        os.mkdir(directory, DIRECTORY_MODE)
    except FileExistsError:
        shutil.rmtree(directory)
        os.mkdir(directory, DIRECTORY_MODE)


def reason(error: OSError) -> str:
    """An operating system's error with what to do about it."""
    where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"disk full: no space or no inodes are left{where}"
    if error.errno == errno.EDQUOT:
        return f"disk quota exceeded{where}"
    if error.errno == errno.ENOENT:
        return f"it is not there: is its disk mounted?{where}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"not writable: {error.strerror}{where}"
    return f"{error.strerror}{where}"
