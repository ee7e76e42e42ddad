"""The store that is an SQLite file as Deno's own: both may have it open at the same time, in any number of processes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import apsw

from provisioner.kv.errors import Closed, KvError, ReadOnly
from provisioner.kv.local_store import Row
from provisioner.kv.model import (
    AtomicWrite,
    Check,
    ChecksFailed,
    Committed,
    Consistency,
    Message,
    MutationKind,
    RawEntry,
    ReadRange,
    StoredRow,
)
from provisioner.kv.rules import queue
from provisioner.kv.rules.batch import ORDER_IN_BATCH
from provisioner.kv.rules.mutations import Effect, Stored, effects
from provisioner.kv.store import Outcome
from provisioner.kv.stores.group_commit import GroupCommit
from provisioner.kv.stores.sqlite import queue_rows, reads, snapshot
from provisioner.kv.stores.sqlite.file import File, Opening, Synchronous, number
from provisioner.kv.stores.sqlite.pages import pages_of
from provisioner.kv.stores.sqlite.reads import SqliteReadTransaction
from provisioner.kv.stores.sqlite.schema import PUT
from provisioner.kv.stores.sqlite.snapshot import SqliteSnapshot
from provisioner.kv.stores.subscriptions import Wakeups, WakeupSubscription

Answer = TypeVar("Answer")


_SET: Final = MutationKind.SET  # an enum's member is found slowly

_STORED = "select v, v_encoding from kv where k = ?"
_VERSION_OF = "select version from kv where k = ?"
_VERSION = "select version from data_version where k = 0"
_SET_VERSION = "update data_version set version = ? where k = 0"
_DELETE = "delete from kv where k = ?"
_COLLECTED_AT_ONCE: Final = 1000  # so that no other writer waits long


class SqliteStore:
    """`path` is made if it is not there. `synchronous`: "full" flushes each commit to the disk before it is
    acknowledged; "normal" may lose the last ones when the machine (not the process) dies. With `must_exist`, a file that
    is not there is StoreFailed and stays absent. `lean` is for one of many in a process, and never for a main thread, see
    sqlite_file.Opening, as for `cache_kib`."""

    prompt = True
    gathers = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        must_exist: bool = False,
        lean: bool = False,
        cache_kib: int = 2000,
    ) -> None:
        self._random = random.Random()  # noqa: S311 the steps of the version only have to differ
        self._ends: dict[tuple[str, int], int] = {}  # when running messages, by id and deadline, count as left behind
        self._wakeups = Wakeups()
        opening = Opening(synchronous, must_exist, lean, cache_kib)
        self._file = File(os.path.abspath(os.fsdecode(path)), opening, self._wakeups.everything)
        self.read_only = self._file.read_only
        self._reader, self._release = self._file.reader, self._file.release
        self._transaction = self._file.transaction
        self._group = GroupCommit(self._transact)

    def read(self, ranges: Sequence[ReadRange], consistency: Consistency = "strong") -> list[list[RawEntry]]:
        return [
            [
                RawEntry(key, value, encoding, version.to_bytes(8, "big", signed=True) + ORDER_IN_BATCH)
                for key, value, encoding, version in rows
            ]
            for rows in self.rows(ranges)
        ]

    def rows(self, ranges: Sequence[ReadRange]) -> list[list[Row]]:
        """What `read` makes its entries of: key, value, encoding, and the version as a number."""
        connection = self._reader()
        try:
            if len(ranges) == 1:
                return [reads.rows(connection, ranges[0])]
            connection.execute("begin")
            try:
                return [reads.rows(connection, wanted) for wanted in ranges]
            finally:
                connection.execute("commit")
        except apsw.Error as error:
            raise self._file.failure(error) from error
        finally:
            self._release(connection)

    def pinned(self) -> SqliteReadTransaction:
        """For several reads at one instant. Short: it keeps a connection."""
        return SqliteReadTransaction(self._file)

    def write(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        if self._file.closed:
            raise Closed("the database is closed")
        if self.read_only:
            raise ReadOnly(f"{self._file.path} could only be opened for reading")
        return self._group.write(writes)

    def watch(self, keys: Sequence[bytes], wake: Callable[[], None]) -> WakeupSubscription:
        self._file.hear()
        return self._wakeups.add(keys, wake)

    def watch_queue(self, wake: Callable[[], None]) -> WakeupSubscription:
        self._file.hear()
        return self._wakeups.add((), wake, queue=True)

    def claim(self, now: int, most: int) -> tuple[list[Message], int | None]:
        due = self._look(queue_rows.first_due)
        if due is None or due > now:
            return [], due
        with self._transaction() as connection:
            messages = queue_rows.claim(connection, now, most)
            return messages, queue_rows.first_due(connection)

    def renew(self, ids: Sequence[str], now: int) -> None:
        with self._transaction() as connection:
            queue_rows.renew(connection, ids, now)

    def finish(self, id: str, success: bool, now: int) -> None:  # noqa: A002
        with self._transaction() as connection:
            fate = None
            if success:
                queue_rows.forget(connection, id)
            else:
                fate = self._requeue(connection, id, now)
        self._tell(fate)

    def revive(self, now: int) -> tuple[int, int | None]:
        count = 0
        while self._left_behind(self._look(queue_rows.held), now):
            with self._transaction() as connection:
                left = self._left_behind(queue_rows.held(connection), now)
                fates = [self._requeue(connection, id, now) for id in left]  # noqa: A001
            for fate in fates:
                self._tell(fate)
            count += len(fates)
        return count, min(self._ends.values(), default=None)

    def _left_behind(self, held: Sequence[queue_rows.MessageLease], now: int) -> list[str]:
        """Messages whose handlers died. Deno's handlers are invisible: each gets as long as Deno itself would wait."""
        ends = {}
        for message in held:
            end = message.deadline
            if not message.renewed:
                end = max(end, self._ends.get((message.id, end), now + queue.PATIENCE))
            ends[message.id, message.deadline] = end
        self._ends = ends
        return [id for (id, _), end in ends.items() if end <= now]  # noqa: A001

    def next_expiry(self) -> int | None:
        """When the first of its entries expires, which may be in the past."""
        return self._look(queue_rows.first_expiry)

    def version(self) -> int:
        """The version of the last write, which changes with every write."""
        return self._look(lambda connection: number(connection.execute(_VERSION).fetchall()))

    def row(self, key: bytes) -> StoredRow | None:
        """All of an entry, also when it expires."""
        return self._look(lambda connection: SqliteSnapshot(self._file, connection).row(key))

    def collect(self, now: int) -> tuple[int, int | None]:
        expiry = self.next_expiry()
        if expiry is None or expiry > now:
            return 0, expiry
        with self._transaction() as connection:
            keys = queue_rows.collect(connection, now, _COLLECTED_AT_ONCE)
            if keys:
                self._advance(connection, 1)
            expiry = queue_rows.first_expiry(connection)
        self._wakeups.changed(keys)
        return len(keys), expiry

    @contextmanager
    def moment(self, *, pages: bool = False) -> Iterator[SqliteSnapshot]:
        """One moment of all entries, for the block; with its `pages`, for which writers wait a millisecond."""
        if self._file.closed:
            raise Closed("the database is closed")
        connection = self._file.another()
        try:
            connection.execute("begin")
            if pages and not self.read_only:
                with self._transaction():
                    found = SqliteSnapshot(self._file, connection)
                    found.pages = pages_of(connection)
            else:
                found = SqliteSnapshot(self._file, connection)
            yield found
        except apsw.Error as error:
            raise self._file.failure(error) from error
        finally:
            connection.close()

    def load(self, rows: Sequence[StoredRow], *, keep: bool, after: bytes | None, to_end: bool) -> int:
        """Store these in one transaction: with their own versions if `keep`. How many others were deleted.

        Those are, unless `after` is None, the keys behind `after` up to the last one of the rows, or `to_end`.
        """
        if self.read_only:
            raise ReadOnly(f"{self._file.path} could only be opened for reading")
        deleted = 0
        with self._transaction() as connection:
            current = number(connection.execute(_VERSION).fetchall())
            version = current + self._random.randint(1, 9)
            if after is not None:
                deleted = snapshot.sweep(connection, after, [row[0] for row in rows], to_end=to_end)
            version = max(current, snapshot.put(connection, rows, version, keep=keep))
            connection.execute(_SET_VERSION, (version,))
        self._wakeups.everything()
        return deleted

    def rest(self) -> None:
        """It will not be used for a while: give memory and descriptors back. May be called at any time."""
        self._file.rest()

    def give_up(self, *, at_once: bool = False) -> None:
        """A file that was moved needs no wait: it answers at once."""

    def moved(self) -> bool:
        """Is the file at the path another one than this store has open, or none?"""
        return self._file.moved()

    def close(self) -> None:
        if self._file.close():
            self._wakeups.everything()

    def _requeue(self, connection: apsw.Connection, id: str, now: int) -> queue.Retry | queue.GiveUp | None:  # noqa: A002
        version = number(connection.execute(_VERSION).fetchall()) + self._random.randint(1, 9)
        fate = queue_rows.requeue(connection, id, now, version)
        if isinstance(fate, queue.GiveUp) and fate.keys:
            connection.execute(_SET_VERSION, (version,))
        return fate

    def _tell(self, fate: queue.Retry | queue.GiveUp | None) -> None:
        if isinstance(fate, queue.GiveUp):
            self._wakeups.changed(fate.keys)
        elif fate is not None:
            self._wakeups.changed((), queue=True)

    def _advance(self, connection: apsw.Connection, step: int) -> None:
        connection.execute(_SET_VERSION, (number(connection.execute(_VERSION).fetchall()) + step,))

    def _look(self, question: Callable[[apsw.Connection], Answer]) -> Answer:
        """Ask without the write lock."""
        connection = self._reader()
        try:
            return question(connection)
        except apsw.Error as error:
            raise self._file.failure(error) from error
        finally:
            self._release(connection)

    def _transact(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        changed: list[bytes] = []
        with self._transaction() as connection:
            outcomes: list[Outcome] = []
            first = version = number(connection.execute(_VERSION).fetchall())
            for write in writes:
                following = version + 1 + int(self._random.random() * 9)
                outcome = self._one(connection, write, following, changed)
                if isinstance(outcome, Committed):
                    version = following
                outcomes.append(outcome)
            if version != first:
                connection.execute(_SET_VERSION, (version,))
        if self._wakeups:
            queued = any(write.enqueues for write in writes)
            self._wakeups.changed(changed, queue=queued)
        return outcomes

    def _one(self, connection: apsw.Connection, write: AtomicWrite, version: int, changed: list[bytes]) -> Outcome:
        """One write in the open transaction. What cannot be done is known before anything of it is written."""
        versionstamp = version.to_bytes(8, "big", signed=True) + ORDER_IN_BATCH
        if len(write.mutations) == 1 and write.mutations[0].kind is _SET and not write.checks and not write.enqueues:
            _, key, value, encoding, expire_at, *_ = write.mutations[0]  # most writes are this
            connection.execute(PUT, (key, value, int(encoding), version, expire_at))
            changed.append(key)
            return Committed(versionstamp)
        failed = tuple(index for index, check in enumerate(write.checks) if not _holds(connection, check))
        if failed:
            return ChecksFailed(failed)

        def stored(key: bytes) -> Stored | None:
            rows: list[Any] = connection.execute(_STORED, (key,)).fetchall()
            return rows[0] if rows else None

        try:
            done = effects(write.mutations, stored, versionstamp)
        except KvError as error:
            return error
        for effect in done:
            _put(connection, effect, version)
            changed.append(effect.key)
        for enqueue in write.enqueues:
            queue_rows.add(connection, enqueue)
        return Committed(versionstamp)


def _holds(connection: apsw.Connection, check: Check) -> bool:
    rows: list[Any] = connection.execute(_VERSION_OF, (check.key,)).fetchall()
    if not rows:
        return check.versionstamp is None
    version = rows[0][0]
    if not isinstance(version, int):  # a row that neither this store nor Deno has written: no versionstamp is its own
        return False
    return bool(version.to_bytes(8, "big", signed=True) + ORDER_IN_BATCH == check.versionstamp)


def _put(connection: apsw.Connection, effect: Effect, version: int) -> None:
    if effect.value is None:
        connection.execute(_DELETE, (effect.key,))
    else:
        connection.execute(PUT, (effect.key, effect.value, int(effect.encoding), version, effect.expire_at))
