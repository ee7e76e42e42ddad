"""Transactions that write: one at a time in a database, in the order of their versions, and each one once.

Each begins by taking the database's lock, and keeps it until its commit can be read by everybody. So the order of commits
is that of the versions, and nothing that a writer has read can change under it.

Where the connection breaks after COMMIT was sent, nobody knows whether it happened. Then the same is tried again, and
sees: behind the lock the first try has ended in one way or the other, and if it was committed its token is there. The
token is a row that each transaction writes.
"""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar
from uuid import uuid4
from zlib import crc32

import psycopg

from provisioner.kv import postgres_refusal as refusal
from provisioner.kv.errors import Busy, Closed, Uncertain
from provisioner.kv.postgres_line import Line, Row, Statement, shown
from provisioner.kv.postgres_lines import Lines
from provisioner.kv.postgres_schema import WRITING

T = TypeVar("T")

PATIENCE: Final = 60.0  # seconds for a server that restarts, or another that takes its place
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
CHANNEL: Final = "deno_kv"
EVERYTHING: Final = "*"
_MOST_NAMED: Final = 1000  # keys of a notification, which has at most 8,000 bytes
# A server that took over from another may lack its last commits, whose versions were seen. Fewer than that many.
_AHEAD: Final = 1 << 32

_LOCK: Final = (f"select pg_advisory_xact_lock({WRITING})", ())
_STATE: Final = (
    "select wal_timeline, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),"
    " (select last_value from deno_kv.version),"
    " exists (select from deno_kv.commits where writer = %b and token = %b),"
    " exists (select from deno_kv.listeners where id <> %b and until > clock_timestamp())"
    " from deno_kv.state"
)
_MARK: Final = (
    "with last as (delete from deno_kv.commits where writer = %b and token < %b)"
    " insert into deno_kv.commits (writer, token) values (%b, %b)"
)
_AGAIN: Final = "update deno_kv.commits set at = clock_timestamp() where writer = %b and token = %b"
_VERSION: Final = "select setval('deno_kv.version', %b)"
_TIMELINE: Final = "update deno_kv.state set wal_timeline = %b"
_NOTIFY: Final = f"select pg_notify('{CHANNEL}', %b)"
# A cancelled wait for standbys is no failure to PostgreSQL, and the commit is reported as one.
_FOR_EVER: Final = ("set local statement_timeout = 0", ())
_COMMIT: Final = ("commit", ())


class Moment(NamedTuple):
    """What holds while the lock is held: the version of the last commit, and the answers to the questions."""

    version: int
    answers: Sequence[list[Row]]


@dataclass(frozen=True, slots=True)
class Deed(Generic[T]):
    """What a transaction does, and what comes of it once that is durable.

    `version` is the last one that it gives, or None. `changed` are the keys that others may watch, None: any.
    """

    result: T
    statements: Sequence[Statement] = ()
    version: int | None = None
    changed: Sequence[bytes] | None = ()
    queue: bool = False


class Writing:
    """The transactions of one store."""

    def __init__(self, lines: Lines, conninfo: str) -> None:
        self.me = uuid4().hex
        self.closed = False
        self._lines = lines
        self._conninfo = conninfo
        self._turn = threading.Lock()
        self._token = 0

    def do(self, questions: Sequence[Statement], work: Callable[[Moment], Deed[T]]) -> T:
        """Ask the questions and do what `work` makes of the answers, in one transaction. `work` may be called again.

        Raises KvError: Uncertain where nobody can tell whether it happened, else nothing was written.
        """
        until = time.monotonic() + PATIENCE
        if not self._turn.acquire(timeout=PATIENCE):
            raise Busy(f"{shown(self._conninfo)}: other writes of this process took too long")
        try:
            self._token += 1
            return _Trial(self, self._token, questions, work).result(until)
        finally:
            self._turn.release()


class _Trial(Generic[T]):
    """One transaction, as often as it takes. `sent` is what it does, from when its COMMIT is under way."""

    def __init__(
        self, writing: Writing, token: int, questions: Sequence[Statement], work: Callable[[Moment], Deed[T]]
    ) -> None:
        self._writing = writing
        self._token = token
        self._questions = questions
        self._work = work
        self._sent: Deed[T] | None = None

    def result(self, until: float) -> T:
        lines, conninfo = self._writing._lines, self._writing._conninfo
        pause = FIRST_PAUSE
        while True:
            if self._writing.closed and self._sent is None:
                raise Closed("the database is closed")
            failure: Exception
            try:
                with lines.lent(conninfo, until) as line:
                    return self._once(line)
            except (psycopg.Error, Busy, _Warned) as error:
                failure = error
            if self._sent is None and isinstance(failure, psycopg.Error) and not refusal.passes(failure):
                raise refusal.refused(shown(conninfo), failure) from failure
            if time.monotonic() + pause > until:
                raise self._given_up(failure) from failure
            lines.forget(conninfo)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(self, line: Line) -> T:
        own = (self._writing.me, self._token)
        question = (_STATE, (*own, self._writing.me))
        _, _, (state,), *answers = line.ask_all(("begin", ()), _LOCK, question, *self._questions)
        before, now, version, done, others = state
        if done and self._sent is not None:
            # On a standby, too: what waits for standbys now is behind it in the log.
            self._commit(line, (_AGAIN, own))
            return self._sent.result
        self._sent = None
        moved = bool(before) and before != now
        deed = self._work(Moment(version + _AHEAD if moved else version, answers))
        statements = list(deed.statements)
        if deed.version is not None:
            statements.append((_VERSION, (deed.version,)))
            if before != now:
                statements.append((_TIMELINE, (now,)))
        if not statements:
            line.ask(*_COMMIT)
            return deed.result
        statements.append((_MARK, (*own, *own)))
        if others and (deed.queue or deed.changed is None or deed.changed):
            statements.append((_NOTIFY, (notification(self._writing.me, deed.changed, queue=deed.queue),)))
        self._sent = deed
        self._commit(line, *statements)
        return deed.result

    def _commit(self, line: Line, *statements: Statement) -> None:
        """Raises psycopg.Error; where the server itself has said that it was not committed, nothing counts as sent."""
        line.warned = False
        try:
            line.ask_all(*statements, _FOR_EVER, _COMMIT)
        except psycopg.Error as error:
            if error.sqlstate is not None and not line.closed and statements[0][0] is not _AGAIN:
                self._sent = None
            raise
        if line.warned:
            raise _Warned("the wait for a standby was ended")

    def _given_up(self, failure: Exception) -> Exception:
        place = shown(self._writing._conninfo)
        if self._sent is not None:
            return Uncertain(
                f"{place}: the connection broke while a write was committed ({failure}). It happened, or it did not."
                " Read before you write it again"
            )
        return refusal.refused(place, failure) if isinstance(failure, psycopg.Error) else failure


class _Warned(Exception):  # noqa: N818
    """The server committed, and said something: it no longer waited for its standbys."""


def notification(me: str, changed: Sequence[bytes] | None, *, queue: bool) -> str:
    """Who wrote, whether there are messages, and the keys by their hashes: one that is alike wakes for nothing."""
    if changed is None or len(changed) > _MOST_NAMED:
        named = EVERYTHING
    else:
        named = b64encode(b"".join(hashed(key) for key in changed)).decode()
    return f"{me} {int(queue)} {named}"


def hashed(key: bytes) -> bytes:
    return crc32(key).to_bytes(4, "big")
