"""Moving a database of a million entries between files and PostgreSQL, while a program writes to it all the time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from bench.postgres_kv import server
from bench.table import Row
from provisioner.core.clock import now_ms
from provisioner.core.connection import FileLocation, ServerLocation
from provisioner.kv import open_kv
from provisioner.kv.stores.sqlite.store import SqliteStore
from provisioner.operations.instance.names import find
from provisioner.reconcile.changes import instance_move
from provisioner.registry import moves
from provisioner.registry.store import Registry
from provisioner.system.home import Home, home_directory

ENTRIES = 1_000_000
VALUE = b'\xff\x0f"d' + b"x" * 100
AT_ONCE = 5000


def measure(runs: int) -> list[Row]:
    """Entries per second of the whole move, and the pause; `runs` is not looked at, for each takes a while."""
    del runs
    with server() as url, tempfile.TemporaryDirectory() as directory:
        os.environ["PROVISIONER_HOME"] = os.path.join(directory, "home")
        repository = os.path.join(directory, "shop")
        for command in (
            ("git", "init", "--quiet", repository),
            (
                "git",
                "-C",
                repository,
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "commit",
                "-qm",
                "a",
                "--allow-empty",
            ),
            (sys.executable, "-m", "provisioner", "init", "--no-hooks", "--name", "shop", repository),
        ):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        home = Home(home_directory(os.environ))
        with Registry.open(home) as registry:
            instance = find(registry, "default")
            (database_id,) = moves.waiting(registry, instance)
            path = Path(instance.location, "live", database_id, "kv.sqlite3")
            _fill(path)
            there = replace(instance, location=ServerLocation(_location(url)), url=url)
            rows = [_moved(registry, "default", there, "files to PostgreSQL", str(path))]
            back = replace(instance, location=FileLocation(os.path.join(directory, "again")))
            rows.append(_moved(registry, "default", back, "PostgreSQL to files", ""))
        return [row for pair in rows for row in pair]


def _location(url: str) -> str:
    return url.replace("bench@", "").rpartition("/")[0]


def _fill(path: Path) -> None:
    store = SqliteStore(path)
    for start in range(0, ENTRIES, AT_ONCE):
        entries = [(b"\x02key\x00" + b"%010d" % number, VALUE, 1, None, -1) for number in range(start, start + AT_ONCE)]
        store.load(entries, keep=False, after=None, to_end=False)
    store.close()


def _moved(registry: Registry, slug: str, target: object, what: str, path: str) -> tuple[Row, Row]:
    from provisioner.core.model import Instance
    from provisioner.engines.catalog import engine_of

    assert isinstance(target, Instance)
    instance = find(registry, slug)
    engine_of(target).prepare(target)
    instance_move.begin(registry, instance, target, now_ms())
    ((app, database_id),) = instance_move.owners(registry, moves.waiting(registry, instance))
    ending = threading.Event()
    writer = threading.Thread(target=_write, args=(path, ending))
    if path:
        writer.start()
    begun = time.monotonic()
    done = instance_move.move(registry, app, database_id, now_ms, lambda *_: None)
    took = time.monotonic() - begun
    ending.set()
    if path:
        writer.join()
    instance_move.end(registry, instance, now_ms())
    assert done is not None
    rate = f"{done.entries / took:,.0f} entries/s, {took:.1f} s"
    return (
        Row(f"move of {done.entries:,} entries, {what}", rate, "-", None, None),
        Row(f"  nobody could use it for, {done.late:,} entries late", f"{done.paused:.2f} s", "-", None, None),
    )


def _write(path: str, ending: threading.Event) -> None:
    """A program that has the file open, until it is refused."""
    with open_kv(path) as kv:
        number = 0
        while not ending.is_set():
            number += 1
            try:
                kv.set(("late", number), number)
            except OSError:
                return
