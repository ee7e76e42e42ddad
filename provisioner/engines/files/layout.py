"""The layout of a deno-kv database in its instance's directory. Light: `exec` imports it.

A database that took the place of another is laid out so that no program which has opened the other one ever gets at this
one's log. SQLite opens a database when it is asked to, and its log at the first read, by a name that it made of the file's.
Were that the same as before, the old file would be read, and written, by the new log.

    <directory>/kv.sqlite3                       a new database: a file with its -wal and -shm

    <directory>/kv.sqlite3                       one that took the place of another: a link to <generation>/kv.sqlite3
    <directory>/<generation>/kv.sqlite3          the file with its -wal and -shm; such a directory never has another one
    <directory>/kv.sqlite3-wal/ kv.sqlite3-shm/  empty, so that no program creates logs with these names

A program that comes too late gets the error "unable to open database file". So does Deno, which follows no links, with
the old path: apps get the path of the file itself.
"""

from __future__ import annotations

import os

from provisioner.system.home import DIRECTORY_MODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provisioner.core.ids import DatabaseId

FILE_NAME = "kv.sqlite3"
OWNER_NAME = "owner.json"


def database_path(location: str, database_id: DatabaseId) -> str:
    """Where apps find a database that is connected, until another takes its place."""
    return file_in(os.path.join(location, "live", database_id))


def file_in(directory: str) -> str:
    """The file of the database in this directory, by its own name: where a link leads to, and no link itself."""
    path = os.path.join(directory, FILE_NAME)
    try:
        return os.path.join(directory, os.readlink(path))
    except OSError:
        return path


def lay_out(directory: str) -> str:
    """Make an empty directory that of a database to take another's place; where its file is to be written."""
    target = os.path.join(os.urandom(16).hex(), FILE_NAME)
    link, file = os.path.join(directory, FILE_NAME), os.path.join(directory, target)
    for made in (os.path.dirname(file), f"{link}-wal", f"{link}-shm"):
        os.mkdir(made, DIRECTORY_MODE)
    os.symlink(target, link)
    return file


def measured(directory: str) -> tuple[str, int, int]:
    """The file of the database in this directory, how many bytes it has with its log, and when (ms since 1970) it was last
    written to. Raises OSError.

    An empty log says nothing of the last write: opening the database makes one.
    """
    file = file_in(directory)
    size = last = 0
    with os.scandir(os.path.dirname(file)) as entries:
        for entry in entries:
            if entry.name.endswith("-shm") or entry.name.startswith(OWNER_NAME):
                continue
            found = entry.stat()
            size += found.st_size
            if found.st_size and entry.name in (FILE_NAME, f"{FILE_NAME}-wal"):
                last = max(last, found.st_mtime_ns)
    return file, size, last // 1_000_000


def size_of(directory: str) -> int:
    """How many bytes the database in this directory has, with its log. Raises OSError."""
    return measured(directory)[1]
