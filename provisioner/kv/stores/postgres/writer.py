"""Transactions that write: one at a time in a database, in the order of their versions, and each one once.

Each first takes the database's lock, and keeps it until its commit can be read by everyone. So the order of commits
is that of the versions, and nothing that a writer has read can change under it. Writes without prior reads take
one round trip; others take two.

If the connection breaks, it may be unknown whether a transaction was committed. Then it is repeated with
its token, which is a row that it writes: behind the lock, the first try has ended in one way or the other, or it will find
that the second has been there.
"""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import uuid4
from zlib import crc32

import psycopg

from provisioner.kv.errors import Busy, Closed, Uncertain
from provisioner.kv.model import Enqueue
from provisioner.kv.rules.batch import Put
from provisioner.kv.stores.postgres import errors
from provisioner.kv.stores.postgres.connection import PooledConnection, Row, Statement, shown
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.statements import messages
from provisioner.system.backoff import Backoff

T = TypeVar("T")

PATIENCE: Final = 60.0  # seconds for a server that restarts, or another that takes its place
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
EVERYTHING: Final = "*"
_MOST_NAMED: Final = 1000  # keys of a notification, which has at most 8,000 bytes

_BEGIN: Final = "select version, done from deno_kv.begin_writing(%b, %b)"
_END: Final = f"select deno_kv.end_writing({', '.join(['%b'] * 16)})"
# PostgreSQL reports a commit even if its time limit passed while it waited for standbys. If the statement is
# alone, the time ends before the commit begins.
_FOR_EVER: Final = ("set local statement_timeout = 0", ())
_COMMIT: Final = ("commit", ())
_FORGET: Final = "delete from deno_kv.commits where writer <> %b and at < now() - interval '1 day'"


class LockedState(NamedTuple):
    """What holds while the lock is held: the version of the last commit, and the answers to the questions."""

    version: int
    answers: Sequence[list[Row]]


class Changes(NamedTuple):
    """What a transaction puts down, after its `statements`. `version` is the last one that it gives, 0 for none."""

    puts: Mapping[bytes, Put] = {}
    version: int = 0
    enqueues: Sequence[Enqueue] = ()
    statements: Sequence[Statement] = ()
    again: bool = False
    """There may be messages, even if none is new."""
    anything: bool = False
    """Other entries may have changed, too."""

    @property
    def queue(self) -> bool:
        return self.again or bool(self.enqueues)


class TransactionResult(NamedTuple, Generic[T]):
    """The result of a transaction once it is durable, and its changes; None: nothing, so it is not committed."""

    result: T
    changes: Changes | None = None


class Writing:
    """The transactions of one store. `tell` hears what was changed; None: maybe something was. `me` is its name among
    the writers."""

    def __init__(self, lines: ConnectionPool, conninfo: str, tell: Callable[[Changes | None], None]) -> None:
        self.me = uuid4().hex
        self.closed = False
        self.lines = lines
        self.conninfo = conninfo
        self._tell = tell
        self._turn = threading.Lock()
        self._token = 0
        self._last = 0  # the token of what was committed last

    def do(self, questions: Sequence[Statement], work: Callable[[LockedState], TransactionResult[T]]) -> T:
        """Ask the questions and do what `work` makes of the answers, in one transaction. `work` may be called again.

        Raises KvError: Uncertain if the outcome is unknown, else nothing was written.
        """
        outcomes: list[TransactionResult[T]] = []

        def once(attempt: _Attempt, line: PooledConnection) -> T:
            _, ((version, done),), *answers = line.ask_all(("begin", ()), (_BEGIN, attempt.name), *questions)
            if done:
                attempt.end(line, self._ending(attempt, Changes()), _FOR_EVER, _COMMIT)
                return outcomes[-1].result
            attempt.unknown = False
            outcome = work(LockedState(version, answers))
            outcomes.append(outcome)
            if outcome.changes is None:
                line.ask(*_COMMIT)
            else:
                attempt.end(
                    line,
                    *outcome.changes.statements,
                    self._ending(attempt, outcome.changes, version),
                    _FOR_EVER,
                    _COMMIT,
                )
            return outcome.result

        result = self._tried(once)
        if (changes := outcomes[-1].changes) is not None:
            self._tell(changes)
        return result

    def put(self, changes: Changes) -> int:
        """Put it down, whatever is there; its versions count from 0. What they really count from. Raises as `do`."""

        def once(attempt: _Attempt, line: PooledConnection) -> int:
            base: int = attempt.end(line, self._ending(attempt, changes))[0][0][0]
            return base

        result = self._tried(once)
        self._tell(changes)
        return result

    def _tried(self, once: Callable[[_Attempt, PooledConnection], T]) -> T:
        until = time.monotonic() + PATIENCE
        if not self._turn.acquire(timeout=PATIENCE):
            raise Busy(f"{shown(self.conninfo)}: other writes of this process took too long")
        try:
            self._token += 1
            attempt = _Attempt(self, self._token)
            if self._token == 1:
                attempt.until(until, lambda _, line: line.ask(_FORGET, (self.me,)))
            result = attempt.until(until, once)
            if attempt.committed:
                self._last = self._token
            return result
        except Uncertain:
            self._tell(None)
            raise
        finally:
            self._turn.release()

    def _ending(self, attempt: _Attempt, changes: Changes, base: int = 0) -> Statement:
        stay = [(key, *put) for key, put in changes.puts.items() if put.value is not None]
        entries: list[Any] = [list(column) for column in zip(*stay, strict=True)] or [None] * 5
        if stay:
            entries[3] = [version - base for version in entries[3]]
        gone = [key for key, put in changes.puts.items() if put.value is None] or None
        total = changes.version - base if changes.version else 0
        news = None
        if changes.puts or changes.queue or changes.anything:
            news = notification(self.me, None if changes.anything else changes.puts, queue=changes.queue)
        return _END, (*attempt.name, self._last, total, *entries, gone, *messages(changes.enqueues), news)


class _Attempt:
    """One transaction, as often as it takes. `unknown`: it may have been committed; `committed`: it was."""

    def __init__(self, writing: Writing, token: int) -> None:
        self.unknown = self.committed = False
        self.name = (writing.me, token)
        self._writing = writing

    def until(self, until: float, once: Callable[[_Attempt, PooledConnection], T]) -> T:
        """Try it until then, by time.monotonic()."""
        lines, conninfo = self._writing.lines, self._writing.conninfo
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            if self._writing.closed and not self.unknown:
                raise Closed("the database is closed")
            failure: Exception
            try:
                with lines.lent(conninfo, until) as line:
                    return once(self, line)
            except (psycopg.Error, Busy, _Warned) as error:
                failure = error
            hopeless = isinstance(failure, Busy) or (isinstance(failure, psycopg.Error) and not errors.passes(failure))
            ended = self._writing.closed and self.unknown
            if (hopeless and not self.unknown) or ended or time.monotonic() + backoff.pause > until:
                raise self._given_up(failure) from failure
            lines.forget(conninfo)
            time.sleep(backoff.next())

    def end(self, line: PooledConnection, *statements: Statement) -> list[list[Row]]:
        """What commits. Raises psycopg.Error; what the server has refused in words was not committed by this."""
        before, self.unknown = self.unknown, True
        line.warned = False
        try:
            answers = line.ask_all(*statements) if len(statements) > 1 else [line.ask(*statements[0])]
        except psycopg.Error as error:
            if errors.certain(error) and not line.closed:
                self.unknown = before
            raise
        if line.warned:
            raise _Warned("the wait for a standby was ended")
        self.committed = True
        return answers

    def _given_up(self, failure: Exception) -> Exception:
        place = shown(self._writing.conninfo)
        if self.unknown:
            return Uncertain(
                f"{place}: the connection broke while a write was committed ({failure}). It happened, or it did not."
                " Read before you write it again"
            )
        return errors.refused(place, failure) if isinstance(failure, psycopg.Error) else failure


class _Warned(Exception):  # noqa: N818
    """The server committed, and said something: it no longer waited for its standbys."""


def notification(me: str, changed: Collection[bytes] | None, *, queue: bool) -> str:
    """Who wrote, whether there are messages, and the keys by their hashes: one that is alike wakes for nothing. None: any
    key."""
    few = changed is not None and len(changed) <= _MOST_NAMED
    named = b64encode(b"".join(map(hashed, changed or ()))).decode() if few else EVERYTHING
    return f"{me} {int(queue)} {named}"


def hashed(key: bytes) -> bytes:
    return crc32(key).to_bytes(4, "big")
