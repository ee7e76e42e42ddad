"""The names of the files of an open database, according to SQLite.

It makes the names of the log and of its index when it opens the database, from the path after following links. Made of the
path that was opened, they would be wrong where that is a link; made later, where another link has taken its place.
"""

from __future__ import annotations

from typing import NamedTuple

import apsw


class Names(NamedTuple):
    """Paths of the database's file, of its write-ahead log, and of the log's index in shared memory."""

    file: str
    log: str
    log_index: str


def names(connection: apsw.Connection) -> Names:
    return Names(connection.filename, connection.filename_wal, connection.filename + "-shm")
