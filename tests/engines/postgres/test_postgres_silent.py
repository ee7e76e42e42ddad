"""A PostgreSQL server that answers no more, and does not even say so: everything ends within a time, with a reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from kv_steps import A, done, put
from pg_proxy import Proxy, proxied
from pg_server import PgServer, pg_running
from pg_world import mark, marked
from support import ok, provisioner, repository, until

from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines import catalog
from provisioner.engines.catalog import engine_of
from provisioner.engines.postgres import session as sessions
from provisioner.kv.errors import Closed, Uncertain, Unreachable
from provisioner.kv.model import ReadRange
from provisioner.kv.stores.postgres import store as postgres
from provisioner.kv.stores.postgres import writer
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.store import PostgresStore
from provisioner.registry.store import Registry
from provisioner.system.home import Home


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    print(f"{took:.1f} s")
    assert took < seconds


@pytest.fixture
def proxy(pg: PgServer) -> Iterator[Proxy]:
    with proxied(pg.port) as proxy:
        yield proxy


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer, proxy: Proxy) -> Path:
    path = repository(tmp_path / "shop", "login")
    ok(path, "instance", "add", "main", "--engine", "postgres", "--url", proxy.url(pg.url()))
    ok(path, "app", "add", "--name", "shop", "--grace", "0s")
    ok(path, "assign", "main", "shop")
    return path


@pytest.fixture
def instance(repo: Path, home: Path) -> Instance:
    with Registry.open(Home(str(home))) as registry:
        (found,) = registry.instances()
        return found


@pytest.mark.timeout(180)
def test_commands_end_with_a_reason_and_go_on_when_it_answers_again(repo: Path, proxy: Proxy) -> None:
    mark(repo, "login", "here")
    proxy.silent = True
    with at_most(40):
        done = provisioner(repo, "database", "reset", "login", "--yes")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "provisioner instance test main\n" in done.stderr
    with at_most(40):
        done = provisioner(repo, "instance", "test", "main")
    assert done.returncode == 1
    assert "does not answer" in done.stdout
    with at_most(40):
        provisioner(repo, "status")
    proxy.silent = False
    ok(repo, "database", "fix", "--all")
    ok(repo, "instance", "test", "main")
    assert marked(repo, "login") in ("here", "")
    mark(repo, "login", "again")


def test_sessions_that_are_kept_hang_nobody_and_a_slow_refusal_is_remembered(
    instance: Instance, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "CONNECT_SECONDS", 2)
    with sessions.looking(instance), sessions.looking(instance):
        pass
    proxy.silent = True
    with at_most(25), pytest.raises(StorageFailed, match="does not answer"), sessions.looking(instance):
        pass
    for _ in range(3):
        with at_most(2), pytest.raises(StorageFailed, match="does not answer"), sessions.looking(instance):
            pass
    assert sessions.POOL.refusal(instance.url, time.monotonic() + 15, 0) is not None
    assert sessions.POOL.refusal(instance.url, time.monotonic() + 60, 0) is None
    proxy.silent = False
    sessions.forget_refusals()
    with sessions.looking(instance) as session:
        assert session.execute("select 1").fetchone() == (1,)
    assert sessions.POOL.refusal(instance.url, time.monotonic(), 0) is None


def test_sessions_that_are_kept_end_with_their_owner(instance: Instance) -> None:
    with sessions.looking(instance) as session:
        pass
    assert not session.closed, "it is kept for the next"
    engine_of(instance)
    catalog.close()
    assert session.closed
    with sessions.looking(instance) as session:
        assert session.execute("select 1").fetchone() == (1,)


def test_a_statement_of_the_administrator_has_an_end(
    instance: Instance, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "STATEMENT_SECONDS", 1)
    monkeypatch.setattr(sessions, "_SLACK_SECONDS", 1)
    with sessions.looking(instance) as session:
        ((limit,),) = session.execute("show statement_timeout").fetchall()
        assert limit == "1min"
        with sessions.patiently(session):
            assert session.execute("show statement_timeout").fetchone() == ("0",)
        assert session.execute("show statement_timeout").fetchone() == ("1s",)
    with pytest.raises(StorageFailed, match="took too long"), sessions.looking(instance) as session:
        session.execute("select pg_sleep(30)")
    with sessions.looking(instance) as session:
        proxy.silent = True
        with at_most(30), pytest.raises(psycopg.OperationalError, match="did not answer in time"):
            session.execute("select 1")


def test_sessions_that_are_kept_survive_a_restart_of_the_server(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pg_running() as server:
        ok(tmp_path, "instance", "add", "main", "--engine", "postgres", "--url", server.url())
        with Registry.open(Home(str(home))) as registry:
            (instance,) = registry.instances()
        with sessions.looking(instance), sessions.looking(instance), sessions.looking(instance):
            pass
        server.stop()
        server.start()
        for _ in range(4):
            with sessions.looking(instance) as session:
                assert session.execute("select 1").fetchone() == (1,)


def test_key_values_end_with_a_reason(pg: PgServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pg.database() as name, closing(PostgresStore(proxy.url(pg.url(name)), lines=ConnectionPool())) as store:
        done(store, put(A, "here"))
        monkeypatch.setattr(postgres, "PATIENCE", 1.0)
        monkeypatch.setattr(writer, "PATIENCE", 1.0)
        proxy.silent = True
        with at_most(30), pytest.raises(Unreachable, match=r"did not answer in time|timeout expired"):
            store.read([ReadRange(A, A + b"\0", 1)])
        with at_most(30), pytest.raises(Unreachable, match=r"did not answer in time|timeout expired"):
            done(store, put(A, "not done"))
        proxy.silent = False
        monkeypatch.undo()
        assert len(store.read([ReadRange(A, A + b"\0", 1)])[0]) == 1


def test_who_waits_for_key_values_is_let_go_when_they_are_given_up_at_once(pg: PgServer, proxy: Proxy) -> None:
    with (
        pg.database() as name,
        closing(PostgresStore(proxy.url(pg.url(name)), lines=ConnectionPool())) as store,
        ThreadPoolExecutor(2) as threads,
    ):
        done(store, put(A, "here"))
        proxy.silent = True
        read = threads.submit(store.read, [ReadRange(A, A + b"\0", 1)])
        write = threads.submit(done, store, put(A, "not done"))
        until(lambda: proxy.swallowed >= 2)
        with at_most(25):
            store.give_up(at_once=True)
            assert isinstance(read.exception(), Closed)
            assert isinstance(write.exception(), Closed | Uncertain)
        proxy.silent = False
