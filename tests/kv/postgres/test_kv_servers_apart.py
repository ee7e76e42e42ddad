"""Instances on several PostgreSQL servers: one that answers no more holds up nobody who uses another."""

from __future__ import annotations

import re
import signal
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from connect_world import Server, serving
from kv_instance_world import kv_shop
from pg_proxy import proxied
from pg_server import PgServer
from pg_world import environment
from support import ok, repository, until

from provisioner.kv import open_kv
from provisioner.kv.errors import KvError

BRANCHES = 40  # each with a read and a write: more than what is asked of one server at a time


def in_flight(server: Server) -> int:
    with urllib.request.urlopen(f"{server.base}/metrics", timeout=60) as answer:
        (found,) = re.findall(r"^\w*requests_in_flight (\d+)", answer.read().decode(), re.MULTILINE)
    return int(found)


@pytest.mark.timeout(300)
def test_a_server_that_is_silent_holds_up_nobody_on_another(tmp_path: Path, home: Path, pg: PgServer) -> None:
    near = kv_shop(tmp_path / "near", pg)
    with proxied(pg.port) as proxy:
        names = [f"b{number}" for number in range(BRANCHES)]
        far = repository(tmp_path / "far", *names)
        ok(far, "instance", "add", "far", "--engine", "deno-kv", "--url", proxy.url(pg.url()))
        ok(far, "app", "add", "--name", "elsewhere")
        ok(far, "assign", "far", "elsewhere")
        with serving(home) as server:
            given = [environment(far, name) for name in names]
            kvs = [open_kv(each["DENO_KV_DEFAULT_PATH"], access_token=each["DENO_KV_ACCESS_TOKEN"]) for each in given]
            for kv in kvs:
                kv.set(("here",), 1)
            here = environment(near, "main")
            with (
                open_kv(here["DENO_KV_DEFAULT_PATH"], access_token=here["DENO_KV_ACCESS_TOKEN"]) as quick,
                ThreadPoolExecutor(2 * BRANCHES) as threads,
            ):
                quick.set(("here",), 0)
                proxy.silent = True
                asked = [threads.submit(kv.set, ("here",), 2) for kv in kvs]
                asked += [threads.submit(kv.get, ("there",)) for kv in kvs]  # type: ignore[arg-type]
                until(lambda: in_flight(server) > 2 * BRANCHES)
                began = time.monotonic()
                for number in range(20):
                    quick.set(("here",), number)
                    assert quick.get(("here",)).value == number
                took = time.monotonic() - began
                still = in_flight(server) - 1
                server.stop(signal.SIGKILL)  # what is under way there would be tried for a minute
                for kv in kvs:
                    kv.close()
                for each in asked:
                    with suppress(KvError):
                        each.result()
        print(f"{took:.2f} s for 20 writes and reads, {still} requests in flight")
        assert still > BRANCHES  # none of them was waited for
