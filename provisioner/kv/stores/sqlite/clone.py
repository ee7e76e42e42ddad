"""A copy of a database as it was at one moment, while others write to it, whatever its size.

Writers wait only while the end of the write-ahead log is copied: under the write lock, nothing is appended to the log. A
reader that begins there pins what the database file holds: no checkpoint goes beyond where it reads, and where it reads
the file alone, none writes to it. So the file can be copied when writers continue: a page that changes at the same time is one
that the copied log has too, and the log goes before the file.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import closing
from struct import Struct
from typing import Final, NamedTuple

import apsw

from provisioner.kv import reflink
from provisioner.kv.errors import Busy, StoreFailed
from provisioner.kv.stores.sqlite import open_files
from provisioner.kv.stores.sqlite.connection import connect
from provisioner.kv.stores.sqlite.errors import refused
from provisioner.kv.stores.sqlite.file import File, Opening, number
from provisioner.kv.stores.sqlite.file_names import Names, names

# What may be left of the log to be copied while writers wait, and how often to try for that.
_SHORT: Final = 512 * 1024
_MOST_LOOKS: Final = 20
_MOST_LOCKS: Final = 5

_VERSION: Final = "select version from data_version where k = 0"
_QUEUES: Final = ("queue", "queue_running")


class Clone(NamedTuple):
    """`version`: that of the last write in it. `paused`: how many seconds writers had to wait for it at most.
    `shared`: source and clone share their blocks on the disk."""

    version: int
    paused: float
    shared: bool


def clone(source: str, target: str, *, with_queue: bool = False, beyond: int = 0) -> Clone:
    """Make the file `target` a database with what `source` holds at one moment; synced, but not its directory.

    It is one file, without a log, and its next write has a version beyond `beyond`. Its queue is empty unless
    `with_queue`: what the source delivers, it would deliver again. Nothing is at `target` before; after an error, its remains
    must be removed. Raises KvError and OSError.
    """
    file = File(source, Opening(must_exist=True), lambda: None)
    try:
        made, logged, queued = _copied(file, target)
        if file.moved():
            raise StoreFailed(f"{source} has been moved while it was copied")
    except apsw.Error as error:
        raise file.failure(error) from error
    finally:
        file.close()
    try:
        if logged or (queued and not with_queue) or made.version < beyond:
            _make_whole(target, with_queue, beyond)
        _sync(target)
    except apsw.Error as error:
        raise refused(target, error) from error
    return made


def version_of(path: str) -> int:
    """The version of the last write in a database. Raises KvError."""
    file = File(path, Opening(must_exist=True), lambda: None)
    try:
        reader = file.reader()
        try:
            return number(reader.execute(_VERSION).fetchall())
        finally:
            file.release(reader)
    except apsw.Error as error:
        raise file.failure(error) from error
    finally:
        file.close()


def _copied(file: File, target: str) -> tuple[Clone, bool, bool]:
    """File and log, not synced; whether there is a log with it, and whether messages are in it."""
    reader = file.reader()
    source = names(reader)
    log = _WriteAheadLog(source, target)
    try:
        _read(reader)
        log.open()
        version, paused = _pinned(file, reader, log)
        log.write()
        queued = any(_any_in(reader, table) for table in _QUEUES)
        shared = reflink.copy(open_files.descriptor(source.file), target)
        reader.execute("commit")
    finally:
        log.close()
        file.release(reader)
    return Clone(version, paused, shared), log.needed, queued


def _pinned(file: File, reader: apsw.Connection, log: _WriteAheadLog) -> tuple[int, float]:
    """Choose the moment: the reader sees it from now on, and the log has been read up to it. Version and pause."""
    for tries in itertools.count(1):
        log.follow()
        with file.transaction():
            since = time.perf_counter()
            # writers who wait for the lock beside us may have written much before it was ours
            if short := log.short() or tries == _MOST_LOCKS:
                reader.execute("commit")
                version = _read(reader)
                log.finish()
        if short:
            break
    return version, time.perf_counter() - since


def _read(reader: apsw.Connection) -> int:
    """Begin to read, which lasts until the transaction ends; the version of what is read."""
    reader.execute("begin")
    return number(reader.execute(_VERSION).fetchall())


def _any_in(connection: apsw.Connection, table: str) -> bool:
    return bool(connection.execute(f"select 1 from {table} limit 1").fetchall())  # noqa: S608


class _Index(NamedTuple):
    """The log's index in shared memory: how many frames are committed, and how many of these are in the file.

    `generation` changes when the log has been restarted.
    """

    generation: bytes
    page_size: int
    frames: int
    in_file: int

    def size(self, frames: int) -> int:
        """Bytes of a log with `frames` frames."""
        return 32 + frames * (24 + self.page_size) if frames else 0


class _WriteAheadLog:
    """A write-ahead log (sqlite.org/walformat.html) and its copy. No locks are on it, so it may be opened and closed."""

    _HEADER = Struct("=14xH I 12x 8s 8x")
    _IN_FILE = Struct("=I")

    def __init__(self, source: Names, target: str) -> None:
        self._path, self._target = source.log, target + "-wal"
        self._shared_memory_path = source.log_index
        self._source = self._copy = -1
        self._generation = b""
        self._done = 0  # bytes
        self._rest = b""
        self.needed = True

    def open(self) -> None:
        """SQLite has read the database, so both are there."""
        self._shared_memory = open_files.descriptor(self._shared_memory_path)
        self._source = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        for fd in (self._source, self._copy):
            if fd >= 0:
                os.close(fd)

    def follow(self) -> None:
        """Copy the existing part already, so that little is left for when writers wait."""
        for _ in range(_MOST_LOOKS):
            if self.short():
                return
            self._copy_to(self._look())

    def short(self) -> bool:
        """Is little left to be copied?"""
        index = self._look()
        done = self._done if index.generation == self._generation else 0
        return index.in_file == index.frames or index.size(index.frames) - done < _SHORT

    def finish(self) -> None:
        """Remember the rest. The caller has the write lock, and a reader that began since: so it is only read here,
        for a file system may take its time over a write."""
        index = self._look()
        self._begin(index)
        if index.in_file != index.frames:
            self._rest = os.pread(self._source, index.size(index.frames) - self._done, self._done)
            if self._done + len(self._rest) != index.size(index.frames):
                raise StoreFailed(f"{self._path} is shorter than its index says")
        self.needed = index.in_file != index.frames

    def write(self) -> None:
        """Complete the copy."""
        if not self.needed:  # the file has all of it
            if self._copy >= 0:
                os.unlink(self._target)
            return
        self._make()
        os.ftruncate(self._copy, self._done)
        with memoryview(self._rest) as rest:
            written = 0
            while written < len(rest):
                written += os.pwrite(self._copy, rest[written:], self._done + written)

    def _make(self) -> None:
        if self._copy < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._copy = os.open(self._target, flags, reflink.MODE)

    def _begin(self, index: _Index) -> None:
        """What was copied of another log is worth nothing."""
        if self._generation != index.generation:
            self._generation, self._done = index.generation, 0

    def _copy_to(self, index: _Index) -> None:
        self._begin(index)
        self._make()
        end = index.size(index.frames)
        while self._done < end:
            count = reflink.copy_range(self._source, self._copy, self._done, end - self._done)
            if not count:
                raise StoreFailed(f"{self._path} is shorter than its index says")
            self._done += count

    def _look(self) -> _Index:
        """SQLite writes the index's header twice, the second one first: if both are equal, the header is complete."""
        for _ in range(1000):
            first, second = (os.pread(self._shared_memory, self._HEADER.size, at) for at in (0, self._HEADER.size))
            in_file = os.pread(self._shared_memory, self._IN_FILE.size, 2 * self._HEADER.size)
            if first == second and len(in_file) == self._IN_FILE.size:
                page_size, frames, generation = self._HEADER.unpack(first)
                return _Index(generation, page_size if page_size > 1 else 65536, frames, *self._IN_FILE.unpack(in_file))
        raise Busy(f"the index of {self._path} does not hold still")


def advance(path: str, beyond: int) -> None:
    """Give the next write to a database that only the caller has open a version beyond this one; synced. Raises KvError."""
    try:
        _make_whole(path, True, beyond)
    except apsw.Error as error:
        raise refused(path, error) from error
    _sync(path)


def _make_whole(path: str, with_queue: bool, beyond: int) -> None:
    """Bring the log into the file, which only the caller has open."""
    with closing(connect(path, apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.execute("pragma synchronous = off")  # all of it is synced at once when it is whole
        for table in _QUEUES if not with_queue else ():
            if _any_in(connection, table):
                connection.execute(f"delete from {table}")  # noqa: S608
        connection.execute("update data_version set version = ?1 where k = 0 and version < ?1", (beyond,))
        ((busy, _, _),) = connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        if busy:
            raise StoreFailed(f"{path} is in use before it is made")


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
