"""What is acknowledged while servers of PostgreSQL take over from each other, or no standby answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from kv_steps import A, B, K, N, change, done, names, put, stored
from pg_proxy import Cut, proxied
from pg_server import QUICK, PgServer, pg_running
from pg_standby import both, caught_up, promote, standby_of
from support import until

from provisioner.kv.errors import StoreFailed, Uncertain, Unreachable
from provisioner.kv.model import AtomicWrite, Check, KvU64, MutationKind
from provisioner.kv.stores.postgres import writer as postgres_writing
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.store import PostgresStore

WAITING = "select pid, query_start from pg_stat_activity where wait_event = 'SyncRep'"


@pytest.fixture
def primary() -> Iterator[PgServer]:
    with pg_running(QUICK) as server:
        yield server


def test_versions_go_on_behind_those_of_commits_that_a_failover_lost(primary: PgServer) -> None:
    with standby_of(primary) as standby:
        url = both(primary, standby)
        with closing(PostgresStore(url, lines=ConnectionPool())) as store:
            kept = done(store, put(A, "kept"))
            caught_up(primary, standby)
            standby.stop()
            lost = [done(store, put(B, "lost")) for _ in range(20)]
            primary.kill()
            standby.start()
            promote(standby)
            assert names(store) == [A]
            later = [done(store, put(K, number)) for number in range(3)]
            assert kept < max(lost) < later[0] < later[1] < later[2]
            assert int.from_bytes(later[1][:8], "big") - int.from_bytes(later[0][:8], "big") <= 9
            checked = [AtomicWrite((Check(A, kept),), (put(B, "new"),))]
            assert done(store, put(K)) < store.write(checked)[0].versionstamp  # type: ignore[union-attr]
            assert stored(store, B) == "new"


def test_writers_are_carried_over_to_the_server_that_takes_over(primary: PgServer) -> None:
    """With a synchronous standby nothing that was acknowledged is lost, and nothing is done twice."""
    with standby_of(primary) as standby:
        set_standbys(primary, "*")
        until(lambda: primary.ask("select sync_state from pg_stat_replication") == [("sync",)])
        with closing(PostgresStore(both(primary, standby), lines=ConnectionPool())) as store:
            stamps: list[bytes] = []
            over = threading.Event()

            def write() -> None:
                while not over.is_set():
                    stamps.append(done(store, change(MutationKind.SUM, N, KvU64(1))))

            writers = [threading.Thread(target=write) for _ in range(8)]
            for writer in writers:
                writer.start()
            until(lambda: len(stamps) > 50)
            primary.kill()
            promote(standby)
            before = len(stamps)
            until(lambda: len(stamps) > before + 50)
            over.set()
            for writer in writers:
                writer.join()
            assert stored(store, N) == KvU64(len(stamps))
            assert len(set(stamps)) == len(stamps)


@pytest.mark.parametrize("ending", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("checked", [False, True])
def test_a_commit_that_no_standby_has_is_not_acknowledged(primary: PgServer, ending: str, checked: bool) -> None:
    """PostgreSQL itself reports it as done when somebody ends the wait."""
    with closing(PostgresStore(primary.url(), lines=ConnectionPool())) as store:
        done(store, put(N, KvU64(0)))
        set_standbys(primary, "nobody")
        stamps: list[bytes] = []
        mutation = change(MutationKind.SUM, N, KvU64(1)) if checked else put(A)
        writer = threading.Thread(target=lambda: stamps.append(done(store, mutation)))
        writer.start()
        for _ in range(3):
            end_a_wait(primary, ending)
            assert not stamps
        set_standbys(primary, "")
        writer.join(60)
        assert len(stamps) == 1
        assert stored(store, N) == KvU64(1 if checked else 0)
        assert names(store) == ([N] if checked else [A, N])


def end_a_wait(server: PgServer, ending: str) -> None:
    until(lambda: len(server.ask(WAITING)) == 1)
    (waited,) = server.ask(WAITING)
    server.ask(f"select {ending}(%s)", waited[0])
    until(lambda: waited not in server.ask(WAITING))


def test_a_write_of_which_nobody_can_tell_is_uncertain(primary: PgServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        proxied(primary.port) as proxy,
        closing(PostgresStore(proxy.url(primary.url()), lines=ConnectionPool())) as store,
    ):
        done(store, put(A))
        monkeypatch.setattr(postgres_writing, "PATIENCE", 0.3)
        proxy.plan.append(Cut.UNANSWERED)
        proxy.refusing = True
        with pytest.raises(Uncertain):
            done(store, put(B))
        with pytest.raises(Unreachable):
            done(store, put(K))
        monkeypatch.undo()
        proxy.refusing = False
        assert names(store) == [A, B]


def test_what_cannot_be_opened_says_why(primary: PgServer) -> None:
    with pytest.raises(StoreFailed, match="has no tables of Deno KV"):
        PostgresStore(primary.url(), must_exist=True)
    for url, why in (
        (primary.url("nothing"), 'database "nothing" does not exist'),
        (primary.url(password="wrong-one"), "password authentication failed"),
        (primary.url().replace(f":{primary.port}/", ":1/"), "refused"),
    ):
        with pytest.raises(Unreachable, match=why) as caught:
            PostgresStore(url)
        assert primary.password not in str(caught.value)
        assert "wrong-one" not in str(caught.value)


def set_standbys(server: PgServer, names: str) -> None:
    server.ask(f"alter system set synchronous_standby_names = '{names}'")
    server.ask("select pg_reload_conf()")
    until(lambda: server.ask("show synchronous_standby_names") == [(names,)])
