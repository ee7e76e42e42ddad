"""Reads that may be older: a standby answers them, within a bound, and the primary where no standby can."""

from __future__ import annotations

import asyncio
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from connect_world import QUIET, Server, serving
from kv_instance_world import opened
from kv_steps import A, B, done, put
from paths import SUPPORT
from pg_server import QUICK, PgServer, pg_running
from pg_standby import both, caught_up, promote, standby_of
from support import ok, repository, until

from provisioner.kv import Kv
from provisioner.kv.client import async_client
from provisioner.kv.codec import key
from provisioner.kv.codec.value import from_v8
from provisioner.kv.model import ReadRange
from provisioner.kv.stores.postgres import standby_reads
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.store import PostgresStore


@pytest.fixture(scope="module")
def primary() -> Iterator[PgServer]:
    with pg_running(QUICK) as server:
        yield server


@pytest.fixture
def standby(primary: PgServer) -> Iterator[PgServer]:
    with standby_of(primary) as server:
        yield server


@pytest.fixture
def store(primary: PgServer, standby: PgServer) -> Iterator[PostgresStore]:
    with primary.database() as name:
        url = both(primary, standby).replace("/postgres", f"/{name}")
        with closing(PostgresStore(url, lines=ConnectionPool())) as store:
            yield store


def read(store: PostgresStore, key: bytes = A) -> tuple[object, bool]:
    """The value, and whether it is the latest."""
    ((row,),), latest = store.eventual_rows([ReadRange(key, key + b"\0", 1)])
    return from_v8(row[1]), latest


def paused(standby: PgServer) -> None:
    standby.ask("select pg_wal_replay_pause()")
    until(lambda: standby.ask("select pg_get_wal_replay_pause_state()") == [("paused",)])


def resumed(standby: PgServer) -> None:
    standby.ask("select pg_wal_replay_resume()")


def by_the_standby(store: PostgresStore) -> None:
    until(lambda: not read(store)[1])


def test_a_standby_answers_until_it_is_too_far_behind(
    store: PostgresStore, primary: PgServer, standby: PgServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(store, put(A, "old"))
    assert read(store) == ("old", True), "nobody waits for a standby"
    by_the_standby(store)
    paused(standby)
    done(store, put(A, "new"))
    assert read(store) == ("old", False)
    assert from_v8(store.read([ReadRange(A, A + b"\0", 1)], "eventual")[0][0].value) == "old"
    assert from_v8(store.read([ReadRange(A, A + b"\0", 1)])[0][0].value) == "new"
    until(lambda: read(store)[1], 2 * standby_reads.BOUND)
    assert read(store) == ("new", True)
    monkeypatch.setattr(standby_reads, "BEHIND", 0.0)
    resumed(standby)
    until(lambda: read(store) == ("new", False))


def test_tasks_of_an_event_loop_read_from_the_standby_together(store: PostgresStore, standby: PgServer) -> None:
    async def read_all() -> set[object]:
        async with async_client.Kv(store) as kv:
            await kv.set(("a",), "old")
            async with asyncio.timeout(60):
                while (await asyncio.to_thread(read, store, key.encode(("a",))))[1]:
                    await asyncio.sleep(0.01)
            paused(standby)
            await kv.set(("a",), "new")
            eventual = await asyncio.gather(*(kv.get(("a",), consistency="eventual") for _ in range(50)))
            strong = await asyncio.gather(*(kv.get(("a",)) for _ in range(50)))
            assert {entry.value for entry in strong} == {"new"}
            return {entry.value for entry in eventual}

    assert "old" in asyncio.run(read_all())


def test_ranges_are_of_one_moment(store: PostgresStore, standby: PgServer) -> None:
    done(store, put(A, 0), put(B, 0))
    by_the_standby(store)
    by_standby = 0
    for number in range(200):
        done(store, put(A, number), put(B, number))
        (((one,), (other,))), latest = store.eventual_rows([ReadRange(key, key + b"\0", 1) for key in (A, B)])
        assert one[3] == other[3]
        by_standby += not latest
    assert by_standby


def test_a_standby_that_dies_or_is_promoted_is_not_asked(
    store: PostgresStore, primary: PgServer, standby: PgServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_reads, "REFUSED", 0.1)
    done(store, put(A, "here"))
    by_the_standby(store)
    standby.kill()
    assert read(store) == ("here", True)
    standby.start()
    by_the_standby(store)
    promote(standby)
    until(lambda: standby.ask("select pg_is_in_recovery()") == [(False,)])
    for _ in range(20):
        done(store, put(A, "later"))
        assert read(store) == ("later", True)


def test_a_database_that_the_standby_has_not_yet_is_read_from_the_primary(
    primary: PgServer, standby: PgServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_reads, "REFUSED", 0.1)
    paused(standby)
    with primary.database() as name:
        url = both(primary, standby).replace("/postgres", f"/{name}")
        with closing(PostgresStore(url, lines=ConnectionPool())) as store:
            done(store, put(A, "here"))
            refused = store._standby
            until(lambda: read(store) == ("here", True) and refused._refused_until > 0)
            assert read(store) == ("here", True)
            resumed(standby)
            by_the_standby(store)


class Client:
    """A program that reads the mark when it is told to: strong, then eventual."""

    def __init__(self, repo: Path, *command: str) -> None:
        self.process = subprocess.Popen(
            ["provisioner", "exec", "--branch", "main", "--", *command],
            cwd=repo,
            env={**os.environ, **QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def reads(self) -> tuple[str, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        strong, eventual = self.process.stdout.readline().split()
        return strong, eventual

    def close(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


@pytest.mark.timeout(180)
def test_programs_are_told_of_an_endpoint_that_may_lag(
    primary: PgServer, standby: PgServer, tmp_path: Path, home: Path, node_modules: Path
) -> None:
    """@deno/kv and ours read there what may be older; Deno itself asks for everything where reads are strong."""
    repo = repository(tmp_path / "shop")
    ok(repo, "instance", "add", "keys", "--engine", "deno-kv", "--url", both(primary, standby))
    ok(repo, "app", "add", "--name", "shop")
    ok(repo, "assign", "keys", "shop")
    (repo / "node_modules").symlink_to(node_modules)
    script = repo / "reads.mjs"
    script.write_text((SUPPORT / "eventual_reads.mjs").read_text())
    with serving(home) as server, opened(repo, "main") as kv, ExitStack() as stack:
        deno, node = (
            stack.enter_context(closing(Client(repo, *command, str(script))))
            for command in (("deno", "run", "-A", "--unstable-kv"), ("node",))
        )
        for number in range(5):  # a busy machine may take longer for a turn than a standby may lag
            kv.set(("mark",), number)
            caught_up(primary, standby)
            until(lambda: answered_by_the_standby(server, kv))
            paused(standby)
            kv.set(("mark",), f"{number}-new")
            found = [node.reads(), deno.reads(), kv.get(("mark",), consistency="eventual").value]
            print(found)
            resumed(standby)
            if found == [(f"{number}-new", str(number)), (f"{number}-new", f"{number}-new"), number]:
                break
        else:
            pytest.fail(f"nobody was answered by the standby: {found}")
        standby.kill()
        assert node.reads() == deno.reads() == (f"{number}-new", f"{number}-new")
        assert kv.get(("mark",), consistency="eventual").value == f"{number}-new"


def answered_by_the_standby(server: Server, kv: Kv) -> bool:
    before = answered(server)["standby"]
    kv.get(("mark",), consistency="eventual")
    return answered(server)["standby"] > before


def answered(server: Server) -> dict[str, int]:
    """How many eventual reads were answered by whom."""
    with urllib.request.urlopen(f"{server.base}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    counted = [line.partition('eventual_reads_total{by="')[2] for line in lines if "eventual_reads_total{" in line]
    return {by: int(count) for by, _, count in (line.partition('"} ') for line in counted)}
