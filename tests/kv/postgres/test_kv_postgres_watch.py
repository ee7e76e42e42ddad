"""Watches and queues across servers on one PostgreSQL database: nothing is lost, and nobody is told who does not listen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from kv_steps import NOW, A, B, N, change, done, enqueued, put, stored
from pg_server import PgServer, pg_running
from support import until

from provisioner.kv import Kv
from provisioner.kv.errors import Closed
from provisioner.kv.model import AtomicWrite, KvU64, MutationKind
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.pool_limits import PoolLimits
from provisioner.kv.stores.postgres.store import PostgresStore

LISTENERS = "select count(*) from deno_kv.listeners"
END_LISTENERS = (
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'listen%%'"
    " or query like '%%deno_kv.listeners%%' and pid <> pg_backend_pid()"
)


@pytest.fixture
def database(pg: PgServer) -> Iterator[str]:
    with pg.database() as name:
        yield name


@pytest.fixture
def here(pg: PgServer, database: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(pg.url(database), lines=ConnectionPool())) as store:
        yield store


@pytest.fixture
def there(pg: PgServer, database: str, here: PostgresStore) -> Iterator[PostgresStore]:
    """Another server's, for which the first is somebody else."""
    with closing(PostgresStore(pg.url(database), must_exist=True, lines=ConnectionPool())) as store:
        yield store


class Woken(threading.Event):
    """Set by what comes after it listened."""

    def __init__(self, pg: PgServer, database: str) -> None:
        super().__init__()
        self._pg, self._database = pg, database

    def ready(self) -> None:
        until(lambda: self._pg.ask(LISTENERS, database=self._database) == [(1,)])
        assert self.wait(60)
        self.clear()


@pytest.fixture
def woken(pg: PgServer, database: str) -> Woken:
    return Woken(pg, database)


def test_what_another_writes_wakes(here: PostgresStore, there: PostgresStore, woken: Woken) -> None:
    here.watch([A], woken.set)
    woken.ready()
    done(there, put(B))
    done(there, put(A))
    assert woken.wait(60)


def test_what_has_nothing_to_do_with_it_wakes_nobody(here: PostgresStore, there: PostgresStore, woken: Woken) -> None:
    other = threading.Event()
    here.watch([A], woken.set)
    woken.ready()
    here.watch([B], other.set)
    done(there, put(B))
    assert other.wait(60)
    assert not woken.is_set()


def test_a_message_of_another_wakes_who_waits_for_the_queue(
    here: PostgresStore, there: PostgresStore, woken: Woken
) -> None:
    here.watch_queue(woken.set)
    woken.ready()
    enqueued(there, b"m", NOW)
    assert woken.wait(60)
    assert [message.payload for message in here.claim(NOW, 5)[0]] == [b"m"]


def test_a_message_that_failed_elsewhere_wakes(here: PostgresStore, there: PostgresStore, woken: Woken) -> None:
    enqueued(there, b"m", NOW, (10,))
    ((message,), _) = there.claim(NOW, 5)
    here.watch_queue(woken.set)
    woken.ready()
    there.finish(message.id, False, NOW)
    assert woken.wait(60)


def test_what_expires_elsewhere_wakes(here: PostgresStore, there: PostgresStore, woken: Woken) -> None:
    done(there, put(A, expire_at=NOW))
    here.watch([A], woken.set)
    woken.ready()
    there.collect(NOW)
    assert woken.wait(60)


def test_a_crowd_of_keys_wakes(here: PostgresStore, there: PostgresStore, woken: Woken) -> None:
    here.watch([A], woken.set)
    woken.ready()
    for at in range(3):
        done(there, *(put(b"\x02%d-%d\0" % (at, number)) for number in range(990)))
    assert not woken.is_set()
    there.write([write for _ in range(2) for write in _crowd()])
    assert woken.wait(60)


def _crowd() -> list[AtomicWrite]:
    return [AtomicWrite((), tuple(put(b"\x02x%d-%d\0" % (at, number)) for number in range(400))) for at in range(4)]


def test_while_the_listener_is_cut_off_nothing_is_lost(
    pg: PgServer, database: str, here: PostgresStore, there: PostgresStore
) -> None:
    """Each time a counter rises it is looked at until it is seen, while the listener's session ends again and again."""
    changed = threading.Event()
    here.watch([N], changed.set)
    for number in range(1, 41):
        if number % 4 == 0:
            pg.ask(END_LISTENERS, database=database)
        done(there, change(MutationKind.SUM, N, KvU64(1)))
        while stored(here, N) != KvU64(number):
            assert changed.wait(60)
            changed.clear()
        assert changed.wait(60)


def test_a_listener_is_no_listener_any_more_when_it_is_closed(
    pg: PgServer, database: str, there: PostgresStore, woken: Woken
) -> None:
    with closing(PostgresStore(pg.url(database), lines=ConnectionPool())) as store:
        store.watch([A], woken.set)
        woken.ready()
    assert pg.ask(LISTENERS, database=database) == [(0,)]


def test_nothing_is_said_while_nobody_else_listens(pg: PgServer, database: str, here: PostgresStore) -> None:
    woken = threading.Event()
    here.watch([A], woken.set)
    until(lambda: pg.ask(LISTENERS, database=database) == [(1,)])
    with closing(pg.connect(database)) as other:
        other.execute("listen deno_kv")
        woken.clear()
        done(here, put(A))
        assert woken.wait(60)
        other.execute("notify deno_kv, 'the last'")
        (said,) = other.notifies(timeout=60, stop_after=1)
        assert said.payload == "the last"


def test_where_too_many_listen_it_looks_now_and_then(pg: PgServer, database: str, there: PostgresStore) -> None:
    woken = threading.Event()
    with closing(PostgresStore(pg.url(database), lines=ConnectionPool(PoolLimits(1)))) as store:
        store.watch([A], woken.set)
        assert woken.wait(60)
        woken.clear()
        done(there, put(A))
        assert woken.wait(60)
        assert pg.ask(LISTENERS, database=database) == [(0,)]


def test_a_watch_goes_on_when_the_server_was_started_again() -> None:
    with (
        pg_running() as server,
        Kv(PostgresStore(server.url(), lines=ConnectionPool())) as here,
        Kv(PostgresStore(server.url(), lines=ConnectionPool())) as there,
        here.watch([("a",)]) as states,
    ):
        assert [entry.value for entry in next(states)] == [None]
        server.stop()
        server.start()
        there.set(("a",), 1)
        assert [entry.value for entry in next(states)] == [1]


def test_a_closed_store_ends_its_watches(here: PostgresStore) -> None:
    woken = threading.Event()
    here.watch([A], woken.set)
    here.close()
    assert woken.is_set()
    with pytest.raises(Closed):
        here.watch([A], woken.set)
