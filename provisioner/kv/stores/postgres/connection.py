"""One connection to PostgreSQL: the settings of its session, its time limits, and its notifications."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, Final, Self

import psycopg
from psycopg import waiting
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg.types.numeric import Int8BinaryDumper

Row = tuple[Any, ...]
Statement = tuple[str, tuple[Any, ...]]
"""A statement with its parameters."""

STATEMENT_SECONDS: Final = 30
LOCK_SECONDS: Final = 20
HOLDER_SECONDS: Final = 10  # a writer that is idle in its transaction for longer loses it: others wait for it
_INTERVAL: Final = 0.1
FOR_EVER: Final = float("inf")

NOTICING: Final = {
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""A host that went away without a word is given up after some ten seconds."""

# What a URL may say itself.
_DEFAULTS: Final = {
    "application_name": "provisioner",
    "connect_timeout": "5",
    "target_session_attrs": "read-write",
    **NOTICING,
}

# Each statement has one good plan, along an index; with few or no statistics PostgreSQL would choose others. A
# commit that is not flushed, or that no standby has if there are some, is not durable.
_SETTINGS: Final = f"""
set statement_timeout = '{STATEMENT_SECONDS}s'; set lock_timeout = '{LOCK_SECONDS}s';
set idle_in_transaction_session_timeout = '{HOLDER_SECONDS}s';
set default_transaction_isolation = 'read committed'; set search_path = ''; set client_min_messages = 'warning';
set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off; set jit = off;
set plan_cache_mode = 'force_generic_plan';
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local')
"""


class Bounded(psycopg.Connection[Row]):
    """`until` bounds every wait on it, by time.monotonic(), including one in progress, and `longest` is how many seconds one has;
    a wait that times out closes it."""

    until: float = FOR_EVER
    longest: float = FOR_EVER

    def wait(self, gen: Any, interval: float = _INTERVAL, timeout: float | None = None) -> Any:
        """An interruption closes the connection: half of an exchange cannot be distinguished from the next one."""
        try:
            return waiting.wait(self._bounded(gen), self.pgconn.socket, interval=interval)
        except (KeyboardInterrupt, SystemExit, psycopg.OperationalError) as error:
            if not isinstance(error, psycopg.Error) or error.sqlstate is None:
                self.pgconn.finish()
            raise

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The same steps, until the time is over."""
        latest = time.monotonic() + self.longest
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > min(self.until, latest):
                    raise psycopg.OperationalError("the server did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


class PooledConnection(Bounded):
    """`warned`: the server has said something since this was set to False."""

    warned: bool = False

    @classmethod
    def to(cls, conninfo: str) -> Self:
        """Connect. Raises psycopg.Error."""
        line = cls.connect(conninfo, autocommit=True, prepare_threshold=0)
        line.until = time.monotonic() + STATEMENT_SECONDS
        line.adapters.register_dumper(int, Int8BinaryDumper)  # else each size of a number is a separate statement
        line.add_notice_handler(line._hear)
        try:
            line.execute(_SETTINGS, prepare=False)
        except BaseException:
            line.close()
            raise
        return line

    def ask(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
        """The rows of one statement. Raises psycopg.Error."""
        with self.cursor(binary=True) as cursor:
            cursor.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def ask_all(self, *statements: Statement) -> list[list[Row]]:
        """The rows of each, in one journey. After one that fails none is done. Raises psycopg.Error."""
        cursors = []
        with self.pipeline():
            for statement, parameters in statements:
                cursor = self.cursor(binary=True)
                cursor.execute(statement.encode(), parameters)
                cursors.append(cursor)
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]

    def end(self) -> None:
        """The transaction, which has only read."""
        self.until = time.monotonic() + STATEMENT_SECONDS
        with suppress(psycopg.Error):
            self.ask("commit")

    @property
    def usable(self) -> bool:
        """Can the next one have it: it is connected, and in no transaction?"""
        return not self.closed and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE

    def _hear(self, diagnostic: Diagnostic) -> None:
        self.warned = True


def completed(url: str, dbname: str | None = None) -> str:
    """The connection string with its defaults, and with `dbname`. Raises psycopg.ProgrammingError if it is invalid."""
    said = {name: value for name, value in conninfo_to_dict(url).items() if value is not None}
    other = {} if dbname is None else {"dbname": dbname}
    return make_conninfo("", **{**_DEFAULTS, **said, **other})


def shown(conninfo: str) -> str:
    """Its target, without secrets."""
    said = conninfo_to_dict(conninfo)
    hosts = str(said.get("host") or said.get("hostaddr") or "localhost").split(",")
    ports = str(said.get("port") or 5432).split(",")
    places = [f"{host}:{ports[min(at, len(ports) - 1)]}" for at, host in enumerate(hosts)]
    return f"{','.join(places)}/{said.get('dbname') or said.get('user') or ''}"
