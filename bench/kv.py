"""The key-value library against SQLite by hand and against real Deno: 100-byte values, each commit on the disk."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.table import Row, compared
from provisioner.kv import Kv, open_kv
from provisioner.kv.client import async_client, sync_client
from provisioner.kv.codec import key

ENTRIES = 100_000
VALUE = "x" * 100
DENO = str(Path(sys.executable).parent / "deno")
POINT = "select v, v_encoding, version from kv where k = ?"


class Deno:
    """A real Deno on a file or at a URL, which says how long it took."""

    def __init__(self, where: str, environ: Mapping[str, str] | None = None) -> None:
        script = Path(__file__).with_name("kv_peer.ts")
        command = [DENO, "run", "-A", "--no-check", "--unstable-kv", str(script), where]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environ or {})}
        )

    def seconds(self, what: str, count: int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, count, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def filled() -> Iterator[tuple[str, Kv, Deno]]:
    """Our database and Deno's, with the same entries."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/ours.sqlite3"
        deno = Deno(f"{directory}/deno.sqlite3")
        with open_kv(path) as kv:
            for start in range(0, ENTRIES, 500):
                atomic = kv.atomic()
                for number in range(start, start + 500):
                    atomic.set(("entry", number), VALUE)
                atomic.commit()
            deno.seconds("fill", ENTRIES)
            try:
                yield path, kv, deno
            finally:
                deno.close()


def measure(runs: int) -> list[Row]:
    """One row for each line of the table of targets. Ratios are of times: below one is faster."""
    with filled() as (path, kv, deno):
        against_sqlite = encoded(path, runs)
        rows = [against_sqlite]
        rows.append(versus(runs, "kv get, typed", lambda: get(kv, 5000), lambda: deno.seconds("get", 5000), 1 / 3))
        rows.append(versus(runs, "kv set, sequential", lambda: put(kv, 1000), lambda: deno.seconds("set", 1000), 1.0))
        theirs = [deno.seconds("set64", 6400) for _ in range(runs)]
        rows.append(compared("kv set, 64 tasks in flight", [awaited(path, 6400) for _ in range(runs)], theirs, 1 / 5))
        rows.append(compared("kv set, 64 threads", [threaded(kv, 6400) for _ in range(runs)], theirs, 1 / 5))
        rows.append(versus(runs, "kv list, 100,000", lambda: listed(kv), lambda: deno.seconds("list", ENTRIES), 1.0))
        return rows


def versus(runs: int, name: str, ours: Callable[[], float], peer: Callable[[], float], target: float) -> Row:
    """In turns, after one turn each that does not count."""
    pairs = [(ours(), peer()) for _ in range(runs + 1)][1:]
    return compared(name, [pair[0] for pair in pairs], [pair[1] for pair in pairs], target)


def encoded(path: str, runs: int) -> Row:
    """The store below keys and values, against a prepared select by hand. In a process that has one SQLite only."""
    keys = [key.encode(("entry", random.randrange(ENTRIES))) for _ in range(20_000)]
    store = sync_client.open_store(path)
    ranges = [key.point(each) for each in keys]
    program = (
        "import sqlite3, sys, time, pickle\n"
        f"execute = sqlite3.connect({path!r}, isolation_level=None).execute\n"
        "keys = pickle.load(sys.stdin.buffer)\n"
        "for line in range(int(sys.argv[1])):\n"
        "    start = time.perf_counter()\n"
        f"    for key in keys: execute({POINT!r}, (key,)).fetchone()\n"
        "    print(time.perf_counter() - start)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(runs)], input=pickle.dumps(keys), capture_output=True, check=True
    )
    by_hand = [float(line) for line in done.stdout.split()]

    def ours() -> None:
        for wanted in ranges:
            store.read((wanted,))

    mine = [timed(ours) for _ in range(runs)]
    store.close()
    return compared("kv get, encoded, against sqlite3 by hand", mine, by_hand, 1 / 0.6)


def get(kv: Kv, count: int) -> float:
    keys = [("entry", random.randrange(ENTRIES)) for _ in range(count)]

    def work() -> None:
        for each in keys:
            kv.get(each)

    return timed(work)


def put(kv: Kv, count: int) -> float:
    def work() -> None:
        for number in range(count):
            kv.set(("set", number), VALUE)

    return timed(work)


def threaded(kv: Kv, count: int) -> float:
    def writer(number: int) -> None:
        for turn in range(count // 64):
            kv.set(("set", number, turn), VALUE)

    def work() -> None:
        threads = [threading.Thread(target=writer, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return timed(work)


def awaited(path: str, count: int) -> float:
    async def writer(kv: async_client.Kv, number: int) -> None:
        for turn in range(count // 64):
            await kv.set(("set", number, turn), VALUE)

    async def work() -> float:
        async with await async_client.open_kv(path) as kv:
            start = time.perf_counter()
            await asyncio.gather(*(writer(kv, number) for number in range(64)))
            return time.perf_counter() - start

    return asyncio.run(work())


def listed(kv: Kv) -> float:
    def work() -> None:
        assert sum(1 for _ in kv.list(("entry",), batch_size=500)) == ENTRIES

    return timed(work)
