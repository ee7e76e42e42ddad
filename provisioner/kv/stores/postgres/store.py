"""The store that is a database on PostgreSQL: shared by any number of servers, and as durable as that is made."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar

import psycopg

from provisioner.kv.errors import Closed, KvError, OptionInvalid, StoreFailed
from provisioner.kv.model import AtomicWrite, Committed, Consistency, Message, RawEntry, ReadRange, StoredRow
from provisioner.kv.rules import batch, queue
from provisioner.kv.rules.batch import GONE, Batch, Needs, Put, versionstamp
from provisioner.kv.store import Outcome
from provisioner.kv.stores.group_commit import GroupCommit
from provisioner.kv.stores.postgres import errors, schema
from provisioner.kv.stores.postgres import statements as rows
from provisioner.kv.stores.postgres.connection import PooledConnection, Row, completed, shown
from provisioner.kv.stores.postgres.listener import NotifyListener
from provisioner.kv.stores.postgres.pool import ConnectionPool, lines_to
from provisioner.kv.stores.postgres.snapshot import PostgresReadTransaction, PostgresSnapshot
from provisioner.kv.stores.postgres.standby_reads import StandbyReader
from provisioner.kv.stores.postgres.writer import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PATIENCE,
    Changes,
    LockedState,
    TransactionResult,
    Writing,
)
from provisioner.kv.stores.subscriptions import Wakeups, WakeupSubscription
from provisioner.system.backoff import Backoff

T = TypeVar("T")

_COLLECTED_AT_ONCE: Final = 1000  # so that no other writer waits long
_OPENING: Final = 20.0  # seconds


class PostgresStore:
    """`url` is a connection string of libpq's, also with several hosts; `dbname` another database there than it names.

    The tables are made if they are not there, but with `must_exist`: then that is StoreFailed. `lines` are the connections
    that it shares with other stores, by default with all of this process on that server.
    """

    prompt = False
    gathers = True

    def __init__(
        self, url: str, *, dbname: str | None = None, must_exist: bool = False, lines: ConnectionPool | None = None
    ) -> None:
        try:
            self._conninfo = completed(url, dbname)
        except psycopg.Error as error:
            raise OptionInvalid("this is not a connection string of PostgreSQL") from error
        self._random = random.Random()  # noqa: S311 the steps of the version must only differ
        self._lines = lines = lines or lines_to(self._conninfo)
        self._closed = self._given_up = False
        self._wakeups = Wakeups()
        self._writing = Writing(lines, self._conninfo, self._tell)
        self._listening = NotifyListener(lines, self._conninfo, self._writing.me, self._wakeups)
        self._standby = StandbyReader(lines, self._conninfo)
        self._group = GroupCommit(self._transact)
        try:
            with lines.lent(self._conninfo, time.monotonic() + _OPENING) as line:
                _prepare(line, self.place, must_exist=must_exist)
        except psycopg.Error as error:
            raise errors.refused(self.place, error) from error

    @property
    def place(self) -> str:
        """Its location, without a password."""
        return shown(self._conninfo)

    def read(self, ranges: Sequence[ReadRange], consistency: Consistency = "strong") -> list[list[RawEntry]]:
        answers = self.rows(ranges) if consistency == "strong" else self.eventual_rows(ranges)[0]
        return [
            [RawEntry(key, value, encoding, versionstamp(version)) for key, value, encoding, version in found]
            for found in answers
        ]

    def rows(self, ranges: Sequence[ReadRange]) -> list[list[Row]]:
        """What `read` makes its entries of: key, value, encoding, and the version as a number."""
        if not ranges:
            self._must_be_open()
            return []
        return rows.read(ranges, self._ask(*rows.reading(ranges)))

    def eventual_rows(self, ranges: Sequence[ReadRange]) -> tuple[list[list[Row]], bool]:
        """As `rows`, from a standby if one is near enough; whether they are the latest."""
        self._must_be_open()
        found = self._standby.rows(ranges) if ranges else None
        return (self.rows(ranges), True) if found is None else (found, False)

    def write(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        self._must_be_open()
        return self._group.write(writes)

    def watch(self, keys: Sequence[bytes], wake: Callable[[], None]) -> WakeupSubscription:
        self._must_be_open()
        wanted = self._wakeups.add(keys, wake)
        self._listening.begin()
        return wanted

    def watch_queue(self, wake: Callable[[], None]) -> WakeupSubscription:
        self._must_be_open()
        wanted = self._wakeups.add((), wake, queue=True)
        self._listening.begin()
        return wanted

    def claim(self, now: int, most: int) -> tuple[list[Message], int | None]:
        due = self._first(rows.FIRST_DUE)
        if due is None or due > now:
            return [], due

        def work(moment: LockedState) -> TransactionResult[list[Message]]:
            messages = [Message(id, data) for id, data in moment.answers[0]]  # noqa: A001
            taken = (rows.TAKE, (now + queue.DEADLINE, [message.id for message in messages]))
            return TransactionResult(messages, Changes(statements=[taken]) if messages else None)

        return self._writing.do([(rows.DUE, (now, most))], work), self._first(rows.FIRST_DUE)

    def renew(self, ids: Sequence[str], now: int) -> None:
        if ids:
            self._ask(rows.RENEW, (now + queue.DEADLINE, list(ids)))

    def finish(self, id: str, success: bool, now: int) -> None:  # noqa: A002
        if success:
            self._ask(rows.FORGET, ([id],))
        else:
            self._writing.do([(rows.ONE_HELD, (id,))], lambda moment: self._failed(moment, now))

    def revive(self, now: int) -> tuple[int, int | None]:
        count = 0
        while (end := self._first(rows.FIRST_HELD)) is not None and end <= now:
            count += self._writing.do([(rows.LEFT_BEHIND, (now,))], lambda moment: self._failed(moment, now))
        return count, end

    def next_expiry(self) -> int | None:
        """When the first of its entries expires, which may be in the past."""
        return self._first(rows.FIRST_EXPIRY)

    def collect(self, now: int) -> tuple[int, int | None]:
        expiry = self.next_expiry()
        if expiry is None or expiry > now:
            return 0, expiry

        def work(moment: LockedState) -> TransactionResult[int]:
            keys = [key for (key,) in moment.answers[0]]
            if not keys:
                return TransactionResult(0)
            return TransactionResult(len(keys), Changes(dict.fromkeys(keys, GONE), moment.version + 1))

        return self._writing.do([(rows.EXPIRED, (now, _COLLECTED_AT_ONCE))], work), self.next_expiry()

    def version(self) -> int:
        """The version of the last write, which changes with every write."""
        return int(self._ask("select last_value from deno_kv.version")[0][0])

    def row(self, key: bytes) -> StoredRow | None:
        """All of an entry, also when it expires."""
        found = self._ask(rows.WHOLE, (key,))
        return (found[0][0], found[0][1], found[0][2], found[0][3], found[0][4]) if found else None

    @contextmanager
    def moment(self, *, pages: bool = False, versioned: bool = True) -> Iterator[PostgresSnapshot]:
        """One moment of all entries, for the block. There are no `pages` here. If not `versioned` no writer waits for it."""
        self._must_be_open()
        with ExitStack() as stack:
            try:
                line = stack.enter_context(self._lines.lent(self._conninfo, time.monotonic() + _OPENING))
                snapshot = PostgresSnapshot(line, self.place, versioned=versioned)
            except psycopg.Error as error:
                raise errors.refused(self.place, error) from error
            stack.callback(line.end)
            yield snapshot

    def pinned(self) -> PostgresReadTransaction:
        """For several reads at one moment. Short: it keeps a connection."""
        stack = ExitStack()
        return PostgresReadTransaction(stack.enter_context(self.moment(versioned=False)), stack)

    def load(self, entries: Sequence[StoredRow], *, keep: bool, after: bytes | None, to_end: bool) -> int:
        """Store these in one transaction: with their own versions if `keep`. How many others were deleted.

        Those are, unless `after` is None, the keys behind `after` up to the last one of the entries, or `to_end`.
        """
        swept = [] if after is None else rows.sweep(after, [entry[0] for entry in entries], to_end=to_end)

        def work(moment: LockedState) -> TransactionResult[int]:
            puts, version = loaded(entries, moment.version, moment.version + self._step(), keep=keep)
            changes = Changes(puts, version, statements=swept[1:], anything=True)
            return TransactionResult(moment.answers[0][0][0] if swept else 0, changes)

        return self._writing.do(swept[:1], work)

    def give_up(self, *, at_once: bool = False) -> None:
        """It is somewhere else now: further calls get Closed, or Uncertain. It is still to be closed."""
        self._given_up = self._writing.closed = True
        if at_once:
            self._lines.end(self._conninfo)

    def moved(self) -> bool:
        """Never: a database that has connections cannot be renamed, and new ones lead to the one that has the name."""
        return False

    def rest(self) -> None:
        """It will not be used for a while: give connections back. May be called at any time."""
        self._lines.forget(self._conninfo)
        self._standby.rest()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = self._writing.closed = True
        self._listening.close()
        self._standby.close()
        self._lines.forget(self._conninfo)
        self._wakeups.everything()

    def _transact(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        """In one transaction, or several where there is much to send: of what comes behind one, a failure is the outcome."""
        outcomes: list[Outcome] = []
        for portion in batch.portions(writes):
            try:
                outcomes += self._together(portion)
            except KvError as error:
                if not outcomes:
                    raise
                return outcomes + [error] * (len(writes) - len(outcomes))
        return outcomes

    def _together(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        wanted = batch.needs(writes)
        if wanted:
            return self._writing.do(rows.looking_up(wanted), lambda moment: self._done(writes, wanted, moment))
        outcomes, changes = self._done(writes, wanted, LockedState(0, ()))
        if changes is None:
            return outcomes
        base = self._writing.put(changes)
        return [_moved(outcome, base) for outcome in outcomes]

    def _done(
        self, writes: Sequence[AtomicWrite], wanted: Needs, moment: LockedState
    ) -> TransactionResult[list[Outcome]]:
        done = Batch(*rows.looked_up(wanted, moment.answers), moment.version, self._step)
        outcomes = [done.add(write) for write in writes]
        if done.version == moment.version:
            return TransactionResult(outcomes)
        return TransactionResult(outcomes, Changes(done.puts, done.version, done.enqueues))

    def _failed(self, moment: LockedState, now: int) -> TransactionResult[int]:
        """Messages whose handlers failed: how many."""
        (held,) = moment.answers
        if not held:
            return TransactionResult(0)
        version = moment.version + self._step()
        failed = rows.failing(held, now, version)
        given = version if failed.puts else 0
        return TransactionResult(len(held), Changes(failed.puts, given, (), failed.statements, failed.again))

    def _step(self) -> int:
        return 1 + int(self._random.random() * 9)

    def _tell(self, changes: Changes | None) -> None:
        if changes is None or changes.anything:
            self._wakeups.everything()
        elif self._wakeups:
            self._wakeups.changed(changes.puts, queue=changes.queue)

    def _first(self, statement: str) -> int | None:
        found = self._ask(statement)
        return found[0][0] if found else None

    def _ask(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
        """Query, and repeat it if the connection broke: such queries may run twice."""
        until = time.monotonic() + PATIENCE
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            self._must_be_open()
            try:
                with self._lines.lent(self._conninfo, until) as line:
                    return line.ask(statement, parameters)
            except psycopg.Error as error:
                if not errors.passes(error) or time.monotonic() + backoff.pause > until:
                    raise errors.refused(self.place, error) from error
            self._lines.forget(self._conninfo)
            time.sleep(backoff.next())

    def _must_be_open(self) -> None:
        if self._closed or self._given_up:
            raise Closed("the database is closed")


def open_store(url: str, *, dbname: str | None = None, must_exist: bool = False) -> PostgresStore:
    """The database that a connection string names, or another one of that server."""
    return PostgresStore(url, dbname=dbname, must_exist=must_exist)


def loaded(entries: Sequence[StoredRow], last: int, version: int, *, keep: bool) -> tuple[dict[bytes, Put], int]:
    """Entries as they are put down, with their own versions if `keep` and they have any; and the last version then."""
    puts = {
        key: Put(value, encoding, own if keep and own is not None else version, expiry)
        for key, value, encoding, own, expiry in entries
    }
    return puts, max([last, *(put.version for put in puts.values())]) if keep else version


def _moved(outcome: Outcome, base: int) -> Outcome:
    """The outcome of a write whose versions were counted from 0."""
    if not isinstance(outcome, Committed):
        return outcome
    return Committed(versionstamp(int.from_bytes(outcome.versionstamp[:8], "big", signed=True) + base))


def _prepare(line: PooledConnection, place: str, *, must_exist: bool) -> None:
    """Make the tables, unless they are there. Raises psycopg.Error, StoreFailed."""
    if line.ask(schema.FIND) == [(None,)]:
        if must_exist:
            raise StoreFailed(f"{place} has no tables of Deno KV")
        line.ask("begin")
        line.ask(schema.LOCK)
        if line.ask(schema.FIND) == [(None,)]:
            for statement in schema.STATEMENTS:
                line.ask(statement)
        line.ask("commit")
    ((found,),) = line.ask(schema.FORMAT_OF)
    if found > schema.FORMAT:
        raise StoreFailed(f"{place} was made by a newer version of this program. Update it")
