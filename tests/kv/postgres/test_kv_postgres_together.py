"""Several processes on one PostgreSQL database at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest
from connect_world import access, serving
from kv_history import Event, count, parsed, violations
from kv_instance_world import kv_shop
from kv_processes import python, running, total
from kv_server import served
from kv_steps import A, K, done, put
from kv_worker import ACCOUNTS, SUM
from paths import SUPPORT
from pg_server import PgServer
from support import until

from provisioner.kv import KvU64, open_kv
from provisioner.kv.codec import key
from provisioner.kv.errors import Busy, StoreFailed
from provisioner.kv.model import AtomicWrite, Check, ChecksFailed, Committed, Mutation, MutationKind, ReadRange
from provisioner.kv.rules import batch
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.pool_limits import PoolLimits
from provisioner.kv.stores.postgres.store import PostgresStore

NIGHTLY = "KV_NIGHTLY" in os.environ
SECONDS = 60 if NIGHTLY else 3
HISTORY = str(SUPPORT / "kv_history.py")


def recorded(urls: Sequence[str], threads: int, disturb: threading.Event) -> list[Event]:
    """What one process for each URL has done; over the network, its token stands behind a space."""
    with ExitStack() as stack:
        workers = []
        for url in urls:
            where, _, token = url.partition(" ")
            command = [
                "env",
                f"DENO_KV_ACCESS_TOKEN={token}",
                sys.executable,
                HISTORY,
                where,
                str(threads),
                str(SECONDS),
            ]
            workers.append(stack.enter_context(running(*command)))
        for each in workers:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        disturb.set()
        events = []
        threads_of = [threading.Thread(target=lambda each=each: events.extend(_end(each))) for each in workers]
        for thread in threads_of:
            thread.start()
        for thread in threads_of:
            thread.join()
        assert all(each.returncode == 0 for each in workers)
        return events


def _end(process: subprocess.Popen[str]) -> list[Event]:
    out, errors = process.communicate("go\n", timeout=SECONDS + 120)
    assert process.returncode == 0, errors
    return parsed(out)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("disturbed", [False, True])
def test_64_writers_through_two_processes_are_linearizable(pg: PgServer, disturbed: bool) -> None:
    began, over = threading.Event(), threading.Event()
    with pg.database() as name:
        url = pg.url(name)
        PostgresStore(url, lines=ConnectionPool()).close()

        def terminate() -> None:
            began.wait()
            while disturbed and not over.wait(0.1):
                pg.ask(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
                    " order by random() limit 3",
                    name,
                )

        disturber = threading.Thread(target=terminate)
        disturber.start()
        try:
            events = recorded([url, url], 32, began)
        finally:
            began.set()
            over.set()
            disturber.join()
        commits = sum(1 for event in events if event.version)
        print(f"{commits} commits and {len(events) - commits} reads")
        assert violations(events) == []
        assert count(url) == commits
        assert commits > 100


@pytest.mark.timeout(400)
def test_64_writers_through_two_servers_of_a_home_are_linearizable(
    pg: PgServer, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = kv_shop(tmp_path / "shop", pg)
    with serving(home) as one, serving(home, "--beside") as other:
        given = access(repo, "main")
        urls = [given.url, given.url.replace(one.base, other.base)]
        events = recorded([f"{url} {given.token}" for url in urls], 32, threading.Event())
        monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", given.token)
        counts = [count(url) for url in urls]
    commits = sum(1 for event in events if event.version)
    print(f"{commits} commits and {len(events) - commits} reads")
    assert violations(events) == []
    assert counts == [commits, commits]
    assert commits > 50


def test_a_watch_at_one_server_sees_what_is_written_at_another(pg: PgServer, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with served(tmp_path / "one") as one, served(tmp_path / "other") as other:
        made = one.on_postgres(pg)
        again = other.adopt(one, made)
        took = []
        listeners = partial(pg.ask, "select count(*) from deno_kv.listeners", database=made.path.split("/")[-1])
        with (
            open_kv(made.url, access_token=made.token) as here,
            open_kv(again.url, access_token=again.token) as there,
            here.watch([("key",)]) as watch,
        ):
            assert [entry.value for entry in next(watch)] == [None]
            until(lambda: listeners() == [(1,)])
            for number in range(30):
                began = time.perf_counter()
                stamp = there.set(("key",), number).versionstamp
                for (entry,) in watch:
                    if entry.versionstamp == stamp:
                        break
                took.append((time.perf_counter() - began) * 1000)
        took.sort()
        print(f"from the start of a set: median {took[15]:.1f} ms, slowest {took[-1]:.1f} ms")
        assert took[15] < 1000  # it looks by itself after five seconds


def test_a_queue_is_listened_to_at_one_server_and_filled_at_another(pg: PgServer, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with served(tmp_path / "one") as one, served(tmp_path / "other") as other:
        made = one.on_postgres(pg)
        again = other.adopt(one, made)
        heard: list[int] = []
        with open_kv(made.url, access_token=made.token) as here, open_kv(again.url, access_token=again.token) as there:
            listener = threading.Thread(target=lambda: here.listen_queue(heard.append))
            listener.start()
            for number in range(20):
                there.enqueue(number)
            until(lambda: len(heard) == 20)
            here.close()
            listener.join()
    assert sorted(heard) == list(range(20))


def test_the_judge_of_histories_finds_what_is_none() -> None:
    write = Event(1, 2, 5, {"a": 0})
    assert violations([write, Event(3, 4, 9, {"a": 5}), Event(5, 6, 0, {"a": 9})]) == []
    assert violations([write, Event(1.5, 3, 0, {"a": 0})]) == []
    assert violations([write, Event(3, 4, 0, {"a": 0})])  # a stale read
    assert violations([write, Event(3, 4, 9, {"a": 0})])  # a lost update
    assert violations([write, Event(3, 4, 4, {"b": 0})])  # versions against the clock
    assert violations([write, Event(1, 2, 5, {"b": 0})])
    both = [write, Event(1, 2, 7, {"b": 0})]
    assert violations([*both, Event(1, 2, 0, {"a": 0, "b": 7})])  # a torn read
    assert violations([*both, Event(1, 9, 0, {"a": 5, "b": 0})]) == []
    # two readers who disagree about the order of two writes
    assert violations([Event(1, 9, 5, {"a": 0}), Event(2, 3, 0, {"a": 5}), Event(4, 5, 0, {"a": 0})])


@pytest.mark.timeout(300)
def test_transfers_of_several_processes_keep_the_sum(pg: PgServer) -> None:
    with pg.database() as name, open_kv(pg.url(name)) as kv, ExitStack() as stack:
        for account in range(ACCOUNTS):
            kv.set(("account", account), {"balance": SUM // ACCOUNTS, "by": "nobody"})
        workers = [stack.enter_context(running(*python("transfer", pg.url(name), f"p{n}"))) for n in range(3)]
        for each in workers:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert total(kv) == SUM
        for each in workers:
            out, errors = each.communicate(timeout=60)
            assert each.returncode == 0, errors
            print(out.strip())
        assert total(kv) == SUM


def test_many_databases_share_few_connections(pg: PgServer) -> None:
    lines = ConnectionPool(PoolLimits(5, 3))
    seen = []
    with ExitStack() as stack:
        names = [stack.enter_context(pg.database()) for _ in range(8)]
        stores = [stack.enter_context(closing(PostgresStore(pg.url(name), lines=lines))) for name in names]

        def use(offset: int) -> None:
            for turn in range(12):
                store = stores[(offset + turn) % len(stores)]
                done(store, put(A, turn))
                store.read([ReadRange(A, A + b"\0", 1)])
                seen.append(lines.count)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            ((count,),) = pg.ask("select count(*) from pg_stat_activity where datname = any(%s)", names)
            seen.append(count - 1)  # one that is going may still be shown
        for thread in threads:
            thread.join()
        assert max(seen) <= 5
        for store in stores:
            store.rest()
        assert lines.count == 0
        until(lambda: pg.ask("select count(*) from pg_stat_activity where datname = any(%s)", names) == [(0,)])


def test_a_crowd_of_large_writes_is_sent_in_portions(pg: PgServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_BYTES", 200_000)
    with pg.database() as name, closing(PostgresStore(pg.url(name), lines=ConnectionPool())) as store:
        large = Mutation(MutationKind.SET, A, bytes(60_000), 3)
        writes = [AtomicWrite((), (large._replace(key=key.encode((number,))),)) for number in range(20)]
        outcomes = store.write([*writes, AtomicWrite((Check(A, b"x" * 10),), ())])
        assert [type(outcome) for outcome in outcomes] == [Committed] * 20 + [ChecksFailed]
        ((token,),) = pg.ask("select max(token) from deno_kv.commits", database=name)
        assert token >= 7
        assert len(store.read([ReadRange(b"\0", b"\xff", 1000)])[0]) == 20


def test_what_cannot_be_sent_is_refused_at_once(pg: PgServer) -> None:
    with pg.database() as name, closing(PostgresStore(pg.url(name), lines=ConnectionPool())) as store:
        with pytest.raises((StoreFailed, OverflowError)):
            done(store, put(A, expire_at=2**70))
        done(store, put(K))


def test_who_finds_no_connection_in_time_is_told_so(pg: PgServer) -> None:
    lines = ConnectionPool(PoolLimits(1))
    with pg.database() as name, closing(PostgresStore(pg.url(name), lines=lines)) as store:
        store.rest()
        now = time.monotonic()
        with lines.lent(pg.url("postgres"), now + 5), pytest.raises(Busy), lines.lent(pg.url(name), now + 0.05):
            pass
        done(store, put(K))


def test_a_writer_that_stands_still_does_not_stop_the_others_for_ever(pg: PgServer) -> None:
    """Its session is ended, and its transaction with it."""
    with pg.database() as name, closing(PostgresStore(pg.url(name))) as store, closing(pg.connect(name)) as other:
        other.execute("set idle_in_transaction_session_timeout = '300ms'")
        other.execute("begin")
        other.execute("select * from deno_kv.begin_writing('somebody', 1)")
        done(store, put(A, KvU64(1)))
