"""Damage to a file is found before the file is copied over anything, and a file in order is never called damaged."""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from provisioner.kv.stores.sqlite import page_check
from provisioner.kv.stores.sqlite.page_check import damage, deep_damage
from provisioner.kv.stores.sqlite.schema import empty_file

DAMAGE = 20_480  # bytes


_INSERT = "insert or replace into kv (k, v, v_encoding, version, expiration_ms) values (?, ?, 1, 1, ?)"


def filled(path: Path, size: int, seed: int, *, page_size: int = 4096, free: bool = True) -> Path:
    """A database with entries of many sizes; `free`: some of them were deleted, so that it has free pages."""
    choose = random.Random(seed)
    path.write_bytes(empty_file())
    with closing(apsw.Connection(str(path))) as connection:
        if page_size != 4096:
            connection.execute("pragma journal_mode = delete")
            connection.execute(f"pragma page_size = {page_size}")
            connection.execute("vacuum")
            connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = off")
        with connection:
            written = 0
            while written < size:
                value = choose.randbytes(choose.choice([0, 10, 100, 900, 3_000, 12_000, 60_000]))
                key = choose.randbytes(choose.choice([3, 30, 300, 1_900]))
                expires = choose.choice([-1, choose.randrange(1 << 40)])
                row = (key, value, expires)
                connection.execute(
                    "insert or replace into kv (k, v, v_encoding, version, expiration_ms) values (?, ?, 1, 1, ?)", row
                )
                written += len(key) + len(value)
            if free:
                connection.execute("delete from kv where k < x'20'")
        connection.execute("pragma wal_checkpoint(truncate)")
    return path


def damaged(source: Path, target: Path, seed: int) -> Path:
    """A copy with 20 kB of anything, or of zeros, in it, behind the first page."""
    choose = random.Random(seed)
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        file.seek(choose.randrange(4096, max(4097, source.stat().st_size - DAMAGE)))
        file.write(choose.choice([bytes(DAMAGE), choose.randbytes(DAMAGE), b"\xff" * DAMAGE]))
    return target


@pytest.mark.parametrize("whole", [page_check.WHOLE, 0], ids=["whole", "sample"])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_file_in_order_is_in_order(tmp_path: Path, page_size: int, whole: int) -> None:
    for seed, size in enumerate((0, 5_000, 200_000, 3_000_000)):
        file = filled(tmp_path / f"{seed}", size, seed, page_size=page_size)
        assert damage(str(file), whole=whole) == ""


def test_damage_anywhere_in_a_file_of_some_megabytes_is_found(tmp_path: Path) -> None:
    source = filled(tmp_path / "source", 9_000_000, 1, free=False)
    for seed in range(25):
        assert damage(str(damaged(source, tmp_path / "damaged", seed)))


def test_a_sample_finds_damage_in_proportion_to_it(tmp_path: Path) -> None:
    source = filled(tmp_path / "source", 9_000_000, 2, free=False)
    found = 0
    for seed in range(20):
        file = damaged(source, tmp_path / "damaged", seed)
        found += bool(damage(str(file), whole=0, choose=random.Random(seed)))
    assert found >= 10


@pytest.mark.parametrize(
    ("at", "data", "said"),
    [
        (0, b"not SQLite at all", "not an SQLite database"),
        (16, b"\x00\x07", "page size"),
        (28, b"\x00\xff\xff\xff", "which is not"),
        (36, b"\x7f\xff\xff\xff", "are said to be free"),
    ],
)
def test_a_head_that_says_what_cannot_be_is_damage(tmp_path: Path, at: int, data: bytes, said: str) -> None:
    file = filled(tmp_path / "file", 100_000, 3)
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)
    for whole in (0, page_check.WHOLE):
        assert said in damage(str(file), whole=whole)


def test_a_file_that_was_cut_off_or_has_other_tables_is_damaged(tmp_path: Path) -> None:
    file = filled(tmp_path / "file", 100_000, 4)
    file.write_bytes(file.read_bytes()[:-10_000])
    assert "which is not" in damage(str(file))
    other = tmp_path / "other"
    with closing(apsw.Connection(str(other))) as connection:
        connection.execute("create table t (a)")
    assert "tables of Deno KV" in damage(str(other))


def test_reading_all_of_it_finds_an_index_that_lacks_an_entry_and_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    file = filled(tmp_path / "file", 300_000, 5)
    before = file.read_bytes(), file.stat().st_mtime_ns
    assert deep_damage(str(file), lambda: None) == ""
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert [path.name for path in tmp_path.glob("file*")] == ["file"]
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("create index other on kv (expiration_ms) where version > 1")
        ((root,),) = connection.execute("select rootpage from sqlite_schema where name = 'other'").fetchall()
        connection.execute("pragma writable_schema = on")
        connection.execute(
            "update sqlite_schema set sql = 'CREATE INDEX other on kv (expiration_ms)' where rootpage = ?", (root,)
        )
    assert "other" in deep_damage(str(file), lambda: None)


def test_reading_all_of_it_waits_for_no_writer_and_keeps_none_waiting(tmp_path: Path) -> None:
    file = filled(tmp_path / "file", 300_000, 6)
    with closing(apsw.Connection(str(file))) as writer:
        writer.execute("begin immediate")
        writer.execute("insert into kv (k, v, v_encoding, version) values (x'ff', x'', 1, 1)")
        assert deep_damage(str(file), lambda: None) == ""
        writer.execute("commit")
        log = (tmp_path / "file-wal").stat().st_size
        assert deep_damage(str(file), lambda: None) == ""
        assert (tmp_path / "file-wal").stat().st_size == log
