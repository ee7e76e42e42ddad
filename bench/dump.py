"""Dump and load against reading the rows alone; comparing two forks by their pages against reading both."""

from __future__ import annotations

import io
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.kv import timed, versus
from bench.table import Row, compared
from provisioner.kv.codec import key, value
from provisioner.kv.dump import json_lines, load
from provisioner.kv.dump.diff import diff, merged
from provisioner.kv.dump.full_scan import of_store
from provisioner.kv.dump.json_lines import Dump, Header
from provisioner.kv.stores.sqlite.store import SqliteStore

DUMPED = 100_000
COMPARED = 1_000_000
DIFFERENT = 100


def measure(runs: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        return [*_moved(Path(directory), runs), *_compared(Path(directory), runs)]


def filled(path: Path, count: int) -> SqliteStore:
    """Entries of 85 bytes of a small object each."""
    store = SqliteStore(path, synchronous="normal")
    data, encoding = value.encode({"name": "x" * 60, "age": 5, "tags": ["a", "b"]})
    for start in range(0, count, 20_000):
        rows = [(key.encode(("users", number)), data, encoding, None, -1) for number in range(start, start + 20_000)]
        store.load(rows, keep=False, after=None, to_end=False)
    return store


def _moved(directory: Path, runs: int) -> Iterator[Row]:
    with closing(filled(directory / "source.sqlite3", DUMPED)) as store:

        def selected() -> float:
            with of_store(store) as snapshot:
                return timed(lambda: sum(1 for _ in snapshot.rows()))

        def dumped() -> bytes:
            out = io.BytesIO()
            out.write(json_lines.header_line(Header()))
            with of_store(store) as snapshot:
                out.writelines(json_lines.entry_line(row) for row in snapshot.rows())
            out.write(json_lines.end_line(DUMPED))
            return out.getvalue()

        data = dumped()

        def loaded() -> float:
            with closing(SqliteStore(directory / "loaded.sqlite3")) as into:
                taken = timed(
                    lambda: list(load.load(Dump(io.BytesIO(data)), load.DirectLoadTarget(into, False), replace=False))
                )
            for end in ("", "-wal", "-shm"):
                Path(f"{directory}/loaded.sqlite3{end}").unlink(missing_ok=True)
            return taken

        works: dict[str, Callable[[], float]] = {"dump": lambda: timed(dumped), "load": loaded}
        for name, work in works.items():
            pairs = [(work(), selected()) for _ in range(runs + 1)][1:]
            ours, peer = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            row = compared(f"{name} of {DUMPED:,}, against selecting the rows", ours, peer, None)
            yield replace(row, ours=f"{row.ours}, {DUMPED / median(ours):,.0f} keys/s")


def _compared(directory: Path, runs: int) -> Iterator[Row]:
    """Two forks of one database, of which one has other values and more keys."""
    one, other = directory / "one.sqlite3", directory / "other.sqlite3"
    filled(one, COMPARED).close()
    shutil.copyfile(one, other)
    os.sync()
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(SqliteStore(path))) for path in (one, other)]
        for number in random.sample(range(COMPARED), DIFFERENT):
            name = key.encode(("users", number) if number % 2 else ("users", number, "new"))
            stores[1].load([(name, *value.encode("changed"), None, -1)], keep=False, after=None, to_end=False)

        def by_pages() -> float:
            with ExitStack() as inner:
                a, b = (inner.enter_context(of_store(store, pages=True)) for store in stores)
                return timed(lambda: list(diff(a, b)))

        def by_reading() -> float:
            with ExitStack() as inner:
                a, b = (inner.enter_context(of_store(store)) for store in stores)
                return timed(lambda: list(merged(a.rows(), b.rows())))

        yield versus(runs, "diff of a million, 100 differ, against reading both", by_pages, by_reading, 1 / 20)
