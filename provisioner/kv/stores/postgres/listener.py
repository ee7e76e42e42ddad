"""Hears of commits by other processes: PostgreSQL delivers what a transaction says on a channel when it commits.

All transactions of a server that notify wait for each other, including those of other databases. So no writer notifies
unless a listener is registered: a listener registers under the lock of the writers, and gets every commit
after that. Commits before that, or during a lost connection, are not reported; so after
registering, all waiting readers are woken, and read again. Nothing is lost.
"""

from __future__ import annotations

import logging
import os
import random
import select
import threading
import time
from base64 import b64decode
from contextlib import suppress
from typing import Any, Final

import psycopg

from provisioner.kv.errors import Busy
from provisioner.kv.stores.postgres.connection import PooledConnection, Row
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.schema import CHANNEL, WRITING
from provisioner.kv.stores.postgres.writer import EVERYTHING, hashed
from provisioner.kv.stores.subscriptions import Wakeups
from provisioner.system.backoff import Backoff
from provisioner.system.service_thread import ServiceThread

RENEWAL: Final = 20.0  # seconds
_LEASE: Final = "interval '90 seconds'"
ANSWER: Final = 10.0  # seconds for an answer of the server
LEAVING: Final = 2.0  # seconds that closing waits for it; without an answer, it ends later
POLL: Final = 5.0  # seconds between looks where too many databases listen already
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0

_LISTEN: Final = f"listen {CHANNEL}"
_LOCK: Final = f"select pg_advisory_xact_lock({WRITING})"
_REGISTER: Final = (
    "with old as (delete from deno_kv.listeners where until < clock_timestamp() - interval '1 day')"
    f" insert into deno_kv.listeners values (%b, clock_timestamp() + {_LEASE})"
    " on conflict (id) do update set until = excluded.until"
)
_RENEW: Final = (
    f"update deno_kv.listeners set until = clock_timestamp() + {_LEASE}"
    " where id = %b and until > clock_timestamp() returning true"
)
_LEAVE: Final = "delete from deno_kv.listeners where id = %b"
_LAST_COMMITS: Final = "select writer, token from deno_kv.commits"

_log = logging.getLogger("provisioner.kv")


class NotifyListener:
    """The listener of one store, started when the first reader waits."""

    def __init__(self, lines: ConnectionPool, conninfo: str, me: str, wakeups: Wakeups) -> None:
        self._lines = lines
        self._conninfo = conninfo
        self._me = me
        self._wakeups = wakeups
        self._starting = threading.Lock()
        self._thread: ServiceThread | None = None
        self._closed = False
        self._stop, self._tell = -1, -1
        self._seen: list[Row] | None = None  # where it only looks now and then

    def begin(self) -> None:
        """From now on, wake who waits for what others commit."""
        with self._starting:
            if self._thread is None and not self._closed:
                self._stop, self._tell = os.pipe()
                self._thread = ServiceThread("kv listener", self._run)
                self._thread.start()

    def close(self) -> None:
        with self._starting:
            self._closed = True
            if self._thread is None:
                return
            os.write(self._tell, b"\0")
        self._thread.join(LEAVING)

    def _run(self) -> None:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while not self._closed:
            began = time.monotonic()
            try:
                with self._lines.kept(self._conninfo) as line:
                    if line is None:
                        self._poll()
                    else:
                        self._seen = None
                        self._listen(line)
            except (psycopg.Error, Busy) as error:
                if time.monotonic() - began > RENEWAL:
                    backoff.reset()
                _log.debug("hearing of commits broke off and restarts: %s", error)
                self._ends(backoff.next())
            except Exception:  # of a callback
                _log.exception("hearing of commits failed and restarts")
                self._ends(backoff.pause)
        os.close(self._stop)
        os.close(self._tell)

    def _listen(self, line: PooledConnection) -> None:
        line.add_notify_handler(lambda said: self._hear(said.payload))
        self._put_down(line)
        while not self._ends(RENEWAL, line):
            if not self._asked(line, _RENEW, (self._me,)):  # it was idle for too long, and got no notifications
                self._put_down(line)
        with suppress(psycopg.Error):
            self._asked(line, _LEAVE, (self._me,))

    def _put_down(self, line: PooledConnection) -> None:
        line.until = time.monotonic() + 3 * ANSWER
        line.ask(_LISTEN)
        line.ask_all(("begin", ()), (_LOCK, ()), (_REGISTER, (self._me,)), ("commit", ()))
        self._wakeups.everything()

    def _asked(self, line: PooledConnection, statement: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
        line.until = time.monotonic() + ANSWER
        return line.ask(statement, parameters)

    def _ends(self, seconds: float, line: PooledConnection | None = None) -> bool:
        """Wait for `seconds`, and pass on notifications. Returns whether it is over."""
        end = time.monotonic() + seconds
        wanted = select.poll()
        wanted.register(self._stop, select.POLLIN)
        if line is not None:
            wanted.register(line.fileno(), select.POLLIN)
        while not self._closed and (left := end - time.monotonic()) > 0:
            ready = [descriptor for descriptor, _ in wanted.poll(left * 1000)]
            if line is not None and line.fileno() in ready:
                line.pgconn.consume_input()
                while (said := line.pgconn.notifies()) is not None:
                    self._hear(said.extra.decode())
        return self._closed

    def _hear(self, payload: str) -> None:
        who, _, said = payload.partition(" ")
        queue, _, named = said.partition(" ")
        if who == self._me:
            return
        try:
            if named == EVERYTHING:
                self._wakeups.everything()
            else:
                self._wakeups.hashed(b64decode(named, validate=True), hashed, queue=queue == "1")
        except ValueError:  # another program's notification on this channel
            self._wakeups.everything()

    def _poll(self) -> None:
        """Until a connection may be kept: look for commits now and then."""
        with self._lines.lent(self._conninfo, time.monotonic() + ANSWER) as line:
            now = sorted(line.ask(_LAST_COMMITS))
        if now != self._seen:
            self._seen = now
            self._wakeups.everything()
        self._ends(POLL * random.uniform(0.8, 1.2))  # noqa: S311
