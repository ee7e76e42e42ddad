"""The dashboard with 10,000 timelines and a database of 1,000,000 keys, and what its visitors cost the apps.

A page's time is that until its first byte, which comes with all others: pages are made whole. The no-op is an asset that
the same server answers from memory.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from bench.dump import filled
from bench.scale import MANY
from bench.served import Database, Served, h2load, point_read, served
from bench.table import Row, milliseconds, spread
from bench.world import World, world
from provisioner.kv.codec.key import encode

KEYS = 1_000_000
READS = 20_000
LARGEST = 1_000_000  # bytes, of a page
NO_OP = "/static/icon.svg"


class Visitor:
    """Logged in with an admin token, on one connection."""

    def __init__(self, server: Served, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        self._headers = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", "/login", urlencode({"secret": token}), self._headers)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != http.HTTPStatus.SEE_OTHER:
            raise RuntimeError(f"logging in was answered {answer.status}")
        self._headers["cookie"] = (answer.getheader("set-cookie") or "").partition(";")[0]

    def read(self, path: str) -> bytes:
        self._connection.request("GET", path, headers=self._headers)
        return self._connection.getresponse().read()

    def get(self, path: str) -> tuple[float, int]:
        """Seconds until the first byte, and how many there are."""
        started = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        took = time.perf_counter() - started
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path} was answered {answer.status}")
        return took, len(answer.read())


def measure(runs: int) -> list[Row]:
    with world() as here:
        path = here.bare("many.git", here.repository("client"))
        here.branches(path, MANY)
        here.provisioner(path, "init", "--no-hooks", "--name", "shop")
        token = here.provisioner(path, "token", "create", "--admin").split()[0]
        _fill(here)
        with served(here) as server:
            database = server.databases()[0]
            rows = [*_pages(Visitor(server, token), database, runs)]
            return [*rows, *_cost(server, database, token, runs)]


def _fill(here: World) -> None:
    """Production with a million keys, below ten first parts."""
    (production,) = json.loads(here.provisioner(here.path, "status", "--app", "shop", "--json"))[0]["databases"]
    made = Path(here.path) / "filled.sqlite3"
    filled(made, KEYS).close()
    shutil.copyfile(made, production["path"])


def _pages(visitor: Visitor, database: Database, runs: int) -> Iterator[Row]:
    one = f"/databases/{database.id}"
    timeline = re.findall(rb'href="(/timelines/[^"]+)"', visitor.read(one))[0].decode()
    middle, end = (quote(f'["users", {number}]') for number in (KEYS // 2, KEYS))
    pages = {
        "databases": "/",
        "instance": "/instances/default",
        "app": "/apps/shop",
        "app, found by name": "/apps/shop?q=09999",
        "app, last page": f"/apps/shop?skip={MANY - 100}",
        "app, names to choose": "/apps/shop/names?q=branch",
        "app, previews": "/apps/shop/previews",
        "app, variables": "/apps/shop/variables",
        "app, settings": "/apps/shop/settings",
        "timeline": timeline,
        "database": one,
        "database, snapshots": f"{one}/copies",
        "keys, tree": f"{one}/keys",
        "keys, list": f"{one}/keys?as=list&start={middle}&end={end}",
        "entry": f"{one}/entry?key={encode(('users', KEYS // 2)).hex()}",
        "activity": "/activity",
    }
    for name, path in pages.items():
        mine, others, size = [], [], 0
        for _ in range(runs + 1):
            took, size = visitor.get(path)
            mine.append(took)
            others.append(visitor.get(NO_OP)[0])
        ratio = statistics.median(mine[1:]) / statistics.median(others[1:])
        limit = "" if size <= LARGEST else ", TOO LARGE"
        ours = f"{spread(mine[1:])}, {size / 1000:.0f} kB{limit}"
        yield Row(f"page: {name}", ours, milliseconds(statistics.median(others[1:])), ratio, None)


def _cost(server: Served, database: Database, token: str, runs: int) -> Iterator[Row]:
    """Reads of apps while somebody reloads the largest pages as fast as they come, and while nobody does."""
    body, headers = point_read("users", 1), database.headers()

    def read() -> float:
        return h2load(database.endpoint("snapshot_read"), body, headers, READS)

    alone, beside = [], []
    for _ in range(max(3, runs // 2)):
        alone.append(read())
        with _visited(Visitor(server, token), ["/apps/shop", "/activity", f"/databases/{database.id}/keys"]):
            beside.append(read())
    ratio = statistics.median(beside) / statistics.median(alone)
    yield Row(f"{READS} reads beside a visitor", spread(beside), spread(alone), ratio, None)


@contextmanager
def _visited(visitor: Visitor, paths: list[str]) -> Iterator[None]:
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            for path in paths:
                visitor.get(path)

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
