"""Many databases on one PostgreSQL server that has few connections: they are shared, and nobody waits for ever.

100 databases; 2,000 with KV_NIGHTLY in the environment, or so many as KV_DATABASES says. Each takes 8 MB of TMPDIR.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from connect_world import serving
from kv_instance_world import kv_shop
from kv_steps import A, done, put
from pg_server import QUICK, PgServer, pg_running
from pg_world import environment
from support import until

from provisioner.kv import open_kv
from provisioner.kv.errors import Unreachable
from provisioner.kv.model import ReadRange
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.pool_limits import PoolLimits
from provisioner.kv.stores.postgres.store import PostgresStore

NIGHTLY = os.environ.get("KV_NIGHTLY") == "1"
BRANCHES = int(os.environ.get("KV_DATABASES", 2000 if NIGHTLY else 100))
CONNECTIONS = 30
POOL = 12
CLIENTS = 20  # at once
OURS = "select count(*) from pg_stat_activity where usename like 'pv%%'"


@pytest.fixture(scope="module")
def small() -> Iterator[PgServer]:
    """A server with few connections."""
    with pg_running({**QUICK, "max_connections": str(CONNECTIONS), "superuser_reserved_connections": "3"}) as server:
        yield server
        server.stop(signal.SIGQUIT)  # nobody reads its files again


@pytest.mark.timeout(max(180, 2 * BRANCHES))
def test_many_databases_share_a_dozen_connections(tmp_path: Path, home: Path, small: PgServer) -> None:
    names = [f"b{number}" for number in range(BRANCHES - 1)]
    began = time.monotonic()
    repo = kv_shop(tmp_path / "shop", small, *names)
    print(f"{BRANCHES} databases were made in {time.monotonic() - began:.1f} s")
    with serving(home, "--pool-size", str(POOL), "--pool-per-database", "3") as server:
        given = [environment(repo, name) for name in names]
        before = server.resident()
        seen = []
        served: list[object] = []
        passed: list[int] = []

        def use(each: dict[str, str]) -> object:
            before = len(served)
            with open_kv(each["DENO_KV_DEFAULT_PATH"], access_token=each["DENO_KV_ACCESS_TOKEN"]) as kv:
                kv.set(("mark",), each["DENO_TIMELINE"])
                found = kv.get(("mark",)).value
            passed.append(len(served) - before)
            served.append(found)
            return found

        with ThreadPoolExecutor(CLIENTS) as threads:
            asked = [threads.submit(use, each) for each in given]
            while not all(each.done() for each in asked):
                seen.append(small.ask(OURS)[0][0])
            assert [each.result() for each in asked] == [each["DENO_TIMELINE"] for each in given]
        grown = (server.resident() - before) / len(given)
        print(f"connections {max(seen)}, others served meanwhile {max(passed)}, memory of each {grown / 1024:.0f} KiB")
        assert 1 < max(seen) <= POOL + 2  # those that are going may still be shown
        # Between a client's begin and end about as many others are served as there are at once; one that is kept waiting
        # while all others have their turns would see nearly all of them.
        assert max(passed) < len(given) * 9 // 10
        until(lambda: small.ask(OURS) == [(0,)])


def test_where_the_server_has_none_to_spare_those_that_are_idle_are_given_up(small: PgServer) -> None:
    with ExitStack() as stack:
        names = [stack.enter_context(small.database()) for _ in range(3)]
        lines = ConnectionPool(PoolLimits(100, 100))
        stores = [stack.enter_context(closing(PostgresStore(small.url(name), lines=lines))) for name in names[:2]]
        others = filled(small, stack)
        assert lines.count == 2
        done(stores[0], put(A))
        third = stack.enter_context(closing(PostgresStore(small.url(names[2]), lines=lines)))
        done(third, put(A))
        for store in (*stores, third):
            assert len(store.read([ReadRange(A, A + b"\0", 1)])[0]) == 1 - (store is stores[1])
        for store in (*stores, third):
            store.rest()
        others += filled(small, stack)
        with pytest.raises(Unreachable, match=r"too many clients|remaining connection slots"):
            PostgresStore(small.url(names[0]), lines=lines)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(done, third, put(A))
            until(lambda: lines.count)
            others[0].close()
            assert waiting.result(60)


def filled(server: PgServer, stack: ExitStack) -> list[psycopg.Connection[tuple[object, ...]]]:
    """All connections that it has left."""
    found = []
    while True:
        try:
            found.append(stack.enter_context(closing(server.connect())))
        except psycopg.OperationalError:
            return found
