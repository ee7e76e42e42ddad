"""A fork against `cp` and an fsync, on the disk of TMPDIR: the copy by itself, and all of it until it is connected."""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing

from bench.table import Row, compared, milliseconds, spread
from bench.world import alternated, world
from provisioner.core.clock import now_ms
from provisioner.engines.protocol.engine import Source
from provisioner.kv.stores.sqlite.clone import clone
from provisioner.reconcile.changes.replace import ReplacementData, put_in_place
from provisioner.registry.store import Registry
from provisioner.system.atomic_file import sync_path
from provisioner.system.home import Home

MEGABYTES = (10, 100, 1000)
VALUE = 60_000  # bytes
LONGEST_MS = 30  # that a whole fork may take over `cp --reflink=always`
SHARED, COPIED = 1.0, 1.3


def measure(runs: int) -> list[Row]:
    with world() as here:
        path = here.repository("ours")
        here.git(path, "branch", "fork")
        here.provisioner(path, "init", "--no-hooks")
        with Registry.open(Home(here.home)) as registry:
            (app,) = registry.apps()
            timelines = {timeline.id: timeline.production for timeline in registry.timelines(app.id)}
            databases = {timelines[item.timeline_id]: item for item in registry.databases(app.id)}
            production, fork = databases[True], databases[False]
            location = registry.instance_of(production.instance_id).location
            file = os.path.join(location, "live", production.id, "kv.sqlite3")

            def whole(_: int) -> float:
                took = _timed(
                    lambda: put_in_place(
                        registry, app, [ReplacementData(fork, Source(production), "bench")], now_ms(), action="fork"
                    )
                )
                for kept in os.scandir(os.path.join(location, "snapshots", fork.id)):
                    shutil.rmtree(kept.path)
                return took

            rows = []
            held = 0
            for megabytes in MEGABYTES:
                _fill(file, megabytes - held)
                held = megabytes
                rows += _rows(runs, file, megabytes, whole)
        return rows


def _rows(runs: int, file: str, megabytes: int, whole: Callable[[int], float]) -> list[Row]:
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(file))), "bench")

    def ours(_: int) -> float:
        return _once(beside, lambda target: clone(file, target))

    shares = _once(beside, lambda target: _cp(file, target, "always")) if _reflinks(file) else None
    kind = "never" if shares is None else "always"

    def peer(_: int) -> float:
        return _once(beside, lambda target: _cp(file, target, kind))

    mine, theirs, all_of_it = alternated(runs, ours, peer, whole)
    name = f"{megabytes} MB"
    copy = compared(f"fork, the copy, {name} / cp --reflink={kind}", mine, theirs, COPIED if shares is None else SHARED)
    if shares is None:
        return [copy, compared(f"fork until connected, {name}", all_of_it, theirs, None)]
    over = (statistics.median(all_of_it) - statistics.median(theirs)) * 1000
    peer_median = milliseconds(statistics.median(theirs))
    return [copy, Row(f"fork until connected, {name} (ms over cp)", spread(all_of_it), peer_median, over, LONGEST_MS)]


def _fill(file: str, megabytes: int) -> None:
    """So much more, of which nothing is left in the log."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany(
            "insert into kv (k, v, v_encoding, version) values (?, ?, 3, 1)",
            ((os.urandom(16), os.urandom(VALUE)) for _ in range(megabytes * 1_000_000 // VALUE)),
        )
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    os.sync()


def _once(directory: str, copy: Callable[[str], object]) -> float:
    """Seconds that a copy took, which is gone again."""
    os.mkdir(directory)
    try:
        return _timed(lambda: copy(os.path.join(directory, "kv.sqlite3")))
    finally:
        shutil.rmtree(directory)


def _cp(source: str, target: str, reflink: str) -> None:
    subprocess.run(["cp", f"--reflink={reflink}", source, target], check=True)
    sync_path(target)


def _reflinks(file: str) -> bool:
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.dirname(os.path.dirname(file)))) as directory:
        command = ["cp", "--reflink=always", file, os.path.join(directory, "copy")]
        return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
