"""A process that has a database open may look at its file by other means, and nobody loses anything by it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from provisioner.kv import open_kv
from provisioner.kv.stores.sqlite import file as sqlite_file
from provisioner.kv.stores.sqlite.schema import why_not_a_database
from provisioner.kv.stores.sqlite.store import SqliteStore

pytestmark = pytest.mark.slow

COMES_AND_GOES = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('select * from kv').fetchall(); c.close()"
)
KEEPS = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("pragma locking_mode = exclusive")
c.execute("begin immediate")
print("mine", flush=True)
sys.stdin.read()
c.close()
"""
READS = "import sys; from provisioner.kv import open_kv\nwith open_kv(sys.argv[1]) as kv: print(kv.get(('a',)).value)"


def elsewhere(program: str, file: Path) -> str:
    """What another process prints."""
    return subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("looks", [0, 1, 50])
def test_a_look_at_an_open_file_does_not_let_go_of_it(tmp_path: Path, looks: int) -> None:
    file = tmp_path / "kv.sqlite3"
    with open_kv(file) as kv:
        kv.set(("a",), 0)
        for number in range(1, 4):
            for _ in range(looks):
                assert why_not_a_database(str(file)) == ""
            elsewhere(COMES_AND_GOES, file)
            assert file.with_name("kv.sqlite3-wal").exists(), "another process took itself for the last one"
            kv.set(("a",), number)
            assert elsewhere(READS, file) == f"{number}\n"
    assert elsewhere(READS, file) == "3\n"


def test_looks_while_stores_come_and_go(tmp_path: Path) -> None:
    file = tmp_path / "kv.sqlite3"
    open_kv(file).close()
    stopped = threading.Event()

    def look() -> None:
        while not stopped.is_set():
            assert why_not_a_database(str(file)) == ""

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for number in range(100):
            with open_kv(file) as kv:
                kv.set(("a",), number)
                if not number % 10:
                    elsewhere(COMES_AND_GOES, file)
                    kv.set(("a",), number)
                    assert elsewhere(READS, file) == f"{number}\n"
    finally:
        stopped.set()
        looker.join()


@pytest.mark.timeout(60)
def test_a_file_that_somebody_keeps_to_himself_makes_nobody_wait_for_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 3600)
    kept, free = tmp_path / "kept.sqlite3", tmp_path / "free.sqlite3"
    open_kv(kept).close()
    open_kv(free).close()
    holder = subprocess.Popen([sys.executable, "-c", KEEPS, kept], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"mine\n"
    opened = threading.Thread(target=lambda: SqliteStore(kept, lean=True).close())
    opened.start()
    try:
        with open_kv(free) as kv:
            kv.set(("a",), 1)
            assert why_not_a_database(str(free)) == ""
        assert opened.is_alive()
    finally:
        holder.communicate(b"")
        opened.join()


def test_a_file_that_was_let_go_is_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "kv.sqlite3"
    open_kv(file).close()
    file.write_bytes(b"no database at all")
    assert why_not_a_database(str(file)) == "is not an SQLite database"
    assert why_not_a_database(str(tmp_path / "none")).startswith("cannot be read")
