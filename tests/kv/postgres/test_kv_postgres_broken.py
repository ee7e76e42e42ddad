"""Connections to PostgreSQL that break at the worst instant: what was acknowledged is there, and nothing is there twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from kv_server import served
from kv_steps import DEAD, EVERYTHING, NOW, A, B, K, N, change, do, done, enqueued, names, put, stored
from pg_proxy import Cut, Proxy, proxied
from pg_server import PgServer, pg_running

from provisioner.connect.client.store import RemoteStore
from provisioner.kv.codec import key, value
from provisioner.kv.errors import Uncertain
from provisioner.kv.model import AtomicWrite, Check, ChecksFailed, Committed, KvU64, MutationKind
from provisioner.kv.store import Store
from provisioner.kv.stores.postgres import writer
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.store import PostgresStore

LONG = "KV_NIGHTLY" in os.environ


@pytest.fixture
def broken(pg: PgServer) -> Iterator[tuple[PostgresStore, Proxy]]:
    """A store behind a proxy."""
    with (
        pg.database() as name,
        proxied(pg.port) as proxy,
        closing(PostgresStore(proxy.url(pg.url(name)), lines=ConnectionPool())) as store,
    ):
        done(store)
        yield store, proxy


def count(store: PostgresStore) -> None:
    done(store, change(MutationKind.SUM, N, KvU64(1)))


@pytest.mark.parametrize("cut", Cut)
def test_a_write_whose_connection_breaks_is_done_once(broken: tuple[PostgresStore, Proxy], cut: Cut) -> None:
    store, proxy = broken
    count(store)
    proxy.plan.append(cut)
    timer = threading.Timer(0.2, proxy.late.set)
    timer.start()
    count(store)
    assert stored(store, N) == KvU64(2)
    assert proxy.cuts == 1
    timer.cancel()


@pytest.mark.parametrize("cut", Cut)
def test_its_versionstamp_is_that_of_what_is_there(broken: tuple[PostgresStore, Proxy], cut: Cut) -> None:
    store, proxy = broken
    proxy.plan.append(cut)
    threading.Timer(0.2, proxy.late.set).start()
    stamp = done(store, put(A), put(B))
    assert [entry.versionstamp for entry in store.read([EVERYTHING])[0]] == [stamp, stamp]
    assert done(store, put(K)) > stamp
    assert proxy.cuts == 1


@pytest.mark.parametrize("cut", Cut)
def test_a_check_is_not_refused_by_the_write_itself(broken: tuple[PostgresStore, Proxy], cut: Cut) -> None:
    store, proxy = broken
    proxy.plan.append(cut)
    threading.Timer(0.2, proxy.late.set).start()
    outcomes = store.write([AtomicWrite((Check(A, None),), (put(A),)), AtomicWrite((Check(A, None),), (put(B),))])
    assert [type(outcome) for outcome in outcomes] == [Committed, ChecksFailed]
    assert names(store) == [A]


@pytest.mark.parametrize("cut", Cut)
def test_a_message_is_claimed_and_fails_once(broken: tuple[PostgresStore, Proxy], cut: Cut) -> None:
    store, proxy = broken
    enqueued(store, value.to_v8("m"), NOW, (10,), DEAD)
    proxy.plan.append(cut)
    threading.Timer(0.2, proxy.late.set).start()
    ((message,), _) = store.claim(NOW, 5)
    proxy.late.clear()
    proxy.plan.append(cut)
    threading.Timer(0.2, proxy.late.set).start()
    store.finish(message.id, False, NOW)
    assert store.claim(NOW, 5) == ([], NOW + 10)
    ((again,), _) = store.claim(NOW + 10, 5)
    store.finish(again.id, False, NOW)
    assert stored(store, DEAD) == "m"
    assert proxy.cuts == 2


def test_of_many_commits_no_trace_stays(pg: PgServer) -> None:
    with pg.database() as name, closing(PostgresStore(pg.url(name), lines=ConnectionPool())) as store:
        for number in range(20):
            done(store, put(A, number))
            store.write([AtomicWrite((Check(A, None),), (put(A),))])  # refused, so not committed
        assert len(pg.ask("select writer, token from deno_kv.commits", database=name)) == 1


def test_many_writers_through_a_network_that_breaks_lose_nothing_and_double_nothing(
    broken: tuple[PostgresStore, Proxy],
) -> None:
    store, proxy = broken
    proxy.plan.extend(each for cut in [*Cut, *Cut, *Cut] for each in (cut, None))
    proxy.chance = 0.2
    proxy.late.set()
    counted = hammered(store, 16, 200 if LONG else 25)
    proxy.chance = 0.0
    assert stored(store, N) == KvU64(counted)
    assert len(names(store)) == counted + 1
    print(f"{counted} commits, {proxy.cuts} connections cut")
    assert proxy.cuts >= 9


def hammered(store: Store, threads: int, turns: int, between: Callable[[], object] = lambda: None) -> int:
    """Sums, and sets of keys that are each written once: how many were acknowledged."""
    stamps: list[bytes] = []

    def write(thread: int) -> None:
        for turn in range(turns):
            stamps.append(done(store, change(MutationKind.SUM, N, KvU64(1)), put(key.encode(("one", thread, turn)))))

    running = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    while any(thread.is_alive() for thread in running):
        between()
    for thread in running:
        thread.join()
    assert len(set(stamps)) == threads * turns
    return threads * turns


def test_sessions_that_are_terminated_are_replaced(pg: PgServer) -> None:
    with pg.database() as name, closing(PostgresStore(pg.url(name))) as store:
        killed = 0

        def terminate() -> None:
            nonlocal killed
            time.sleep(0.02)
            killed += len(pg.ask("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", name))

        counted = hammered(store, 8, 300 if LONG else 60, terminate)
        assert stored(store, N) == KvU64(counted)
        print(f"{counted} commits, {killed} sessions terminated")
        assert killed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_a_server_that_starts_again_is_waited_for(number: signal.Signals) -> None:
    with pg_running() as server, closing(PostgresStore(server.url())) as store:
        restarts = 0

        def restart() -> None:
            nonlocal restarts
            if restarts < (10 if LONG else 2):
                if number is signal.SIGKILL:
                    server.kill()
                else:
                    server.stop(number)
                server.start()
                restarts += 1

        counted = hammered(store, 8, 100 if LONG else 40, restart)
        assert stored(store, N) == KvU64(counted)
        assert restarts


def test_writers_behind_a_server_of_ours_wait_as_well(tmp_path: Path) -> None:
    with pg_running() as pg, served(tmp_path) as server:
        made = server.on_postgres(pg)
        with closing(RemoteStore(made.url, made.token)) as store:
            restarts = 0

            def restart() -> None:
                nonlocal restarts
                if restarts < 2:
                    pg.kill()
                    pg.start()
                    restarts += 1

            counted = hammered(store, 8, 40, restart)
            assert stored(store, N) == KvU64(counted)
            assert restarts


def test_of_a_write_that_nobody_can_tell_a_server_says_so_and_of_others_that_they_may_be_tried_again(
    tmp_path: Path, pg: PgServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(pg.port) as proxy, served(tmp_path) as server:
        made = server.on_postgres(replace(pg, port=proxy.port))
        with closing(RemoteStore(made.url, made.token, patience=1)) as store:
            done(store, put(A))
            monkeypatch.setattr(writer, "PATIENCE", 0.3)
            proxy.plan.append(Cut.UNANSWERED)
            proxy.refusing = True
            assert isinstance(do(store, put(B)), Uncertain)
            assert "cannot be reached" in str(do(store, put(K)))
            proxy.refusing = False
            assert names(store) == [A, B]


def test_without_psycopg_it_is_said_what_to_install() -> None:
    program = "import sys; sys.modules['psycopg'] = None; from provisioner import open_kv; open_kv('postgresql://x/y')"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "timeline-provisioner[postgres]" in result.stderr.splitlines()[-1]
