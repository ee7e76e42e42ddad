"""`provisioner database diff`: comparing pages finds what reading everything finds, and what is printed says it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import apsw
import pytest
from small_disks import disk
from support import git, ok, provisioner, shop

from provisioner.kv import open_kv
from provisioner.kv.codec.key import encode
from provisioner.kv.codec.value import encode as encoded
from provisioner.kv.dump.diff import EntryChange, Kind, Side, diff
from provisioner.kv.dump.full_scan import of_store
from provisioner.kv.model import StoredRow
from provisioner.kv.stores.sqlite import page_diff, shared_extents
from provisioner.kv.stores.sqlite.store import SqliteStore

pytestmark = pytest.mark.slow

SIZES = (10, 10, 10, 80, 600, 1100, 3000, 9000, 60_000)  # bytes: on one page with others, alone, over several


class Pair:
    """A database and its fork, both open, which were one file with `count` entries."""

    def __init__(
        self, directory: Path, count: int, seed: int, stack: ExitStack, sizes: tuple[int, ...] = SIZES
    ) -> None:
        self.random = random.Random(seed)
        self._sizes = sizes
        self.paths = [directory / "one.sqlite3", directory / "other.sqlite3"]
        with closing(SqliteStore(self.paths[0], synchronous="normal")) as store:
            rows = [self._row(("n", number)) for number in range(count)]
            for start in range(0, count, 500):
                store.load(rows[start : start + 500], keep=False, after=None, to_end=False)
        os.sync()
        subprocess.run(["cp", "--reflink=auto", *self.paths], check=True)
        self.stores = [stack.enter_context(closing(SqliteStore(path))) for path in self.paths]
        self._count = count

    def _row(self, key: tuple[str | int, ...]) -> tuple[bytes, bytes, int, None, int]:
        size = self.random.choice(self._sizes)
        data = bytes(self.random.getrandbits(8) for _ in range(4)) * (size // 4)
        return encode(key), data, 3, None, self.random.choice((-1, 2**50))

    def change(self, store: SqliteStore, times: int) -> None:
        """Some sets, some deletes, some of many neighbours."""
        for _ in range(times):
            number = self.random.randrange(self._count)
            what = self.random.randrange(4)
            if what == 0:
                last = encode(("n", number + self.random.choice((1, 1, 1, 30))))
                row = self._row(("n", number))
                store.load([(last, *row[1:])], keep=False, after=row[0], to_end=False)
            elif what == 1:
                store.load(
                    [self._row(("n", number, "new" * self.random.choice((1, 400))))],
                    keep=False,
                    after=None,
                    to_end=False,
                )
            else:
                store.load([self._row(("n", number))], keep=False, after=None, to_end=False)

    def compare(self) -> tuple[list[EntryChange], list[EntryChange] | None]:
        """By reading everything, and by pages; None where there was too much to compare so."""
        with ExitStack() as stack:
            one, other = (stack.enter_context(of_store(store, pages=True)) for store in self.stores)
            one_more, another = (stack.enter_context(of_store(store)) for store in self.stores)
            read = list(diff(one_more, another))
            return read, list(diff(one, other)) if page_diff.maybe_different(one, other) is not None else None


@pytest.mark.parametrize("seed", range(8))
def test_pages_tell_what_reading_everything_tells(tmp_path: Path, seed: int) -> None:
    with ExitStack() as stack:
        pair = Pair(tmp_path, (0, 50, 3000, 3000)[seed % 4], seed, stack)
        for turn in range(6):
            read, by_pages = pair.compare()
            assert by_pages is not None or turn
            assert by_pages in (read, None)
            assert turn or not read
            for store in pair.stores:
                if pair._count:
                    pair.change(store, pair.random.choice((1, 5, 40)))
            if turn % 2:
                with closing(apsw.Connection(str(pair.paths[turn % 4 // 2]))) as connection:
                    connection.execute("pragma wal_checkpoint(truncate)").fetchall()


@pytest.fixture(params=["xfs", "btrfs"])
def cloning(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system that shares the blocks of copies."""
    with disk(request.param, tmp_path, size=400) as directory:
        yield directory


def test_what_two_clones_share_on_the_disk_is_not_read(cloning: Path) -> None:
    with ExitStack() as stack:
        pair = Pair(cloning, 3000, 3, stack)
        with ExitStack() as inner:
            pages = [inner.enter_context(store.moment(pages=True)).pages for store in pair.stores]
            assert pages[0] is not None
            assert pages[1] is not None
            size = pair.paths[0].stat().st_size
            parts = shared_extents.shared(pages[0].descriptor, pages[1].descriptor, size)
            assert sum(end - start for start, end in parts) == size
        for turn in range(4):
            read, by_pages = pair.compare()
            assert read == by_pages
            assert turn or not read
            for store in pair.stores:
                pair.change(store, 10)
            with closing(apsw.Connection(str(pair.paths[turn % 2]))) as connection:
                connection.execute("pragma wal_checkpoint(truncate)").fetchall()


def test_a_large_value_that_differs_at_its_end_alone_is_found(tmp_path: Path) -> None:
    """Its new pages are those that the old ones left, so that nothing on the page with its key changes."""
    with ExitStack() as stack:
        pair = Pair(tmp_path, 2000, 1, stack, sizes=(8,))
        for store in pair.stores:
            store.load([(encode(("n", 5)), b"x" * 20_000, 3, None, -1)], keep=False, after=None, to_end=False)
        read, by_pages = pair.compare()
        assert read == by_pages == []
        pair.stores[1].load(
            [(encode(("n", 5)), b"x" * 19_999 + b"y", 3, None, -1)], keep=False, after=None, to_end=False
        )
        read, by_pages = pair.compare()
        assert read == by_pages
        assert [change.key for change in read] == [encode(("n", 5))]


def test_what_is_written_and_copied_meanwhile_does_not_show(tmp_path: Path) -> None:
    with ExitStack() as stack:
        pair = Pair(tmp_path, 3000, 2, stack, sizes=(80,))
        pair.change(pair.stores[0], 10)
        before = pair.compare()[0]
        one, other = (stack.enter_context(of_store(store, pages=True)) for store in pair.stores)
        for path, store in zip(pair.paths, pair.stores, strict=True):
            pair.change(store, 200)
            with closing(apsw.Connection(str(path))) as connection:
                connection.execute("pragma wal_checkpoint(passive)").fetchall()
            pair.change(store, 200)
        assert page_diff.maybe_different(one, other) is not None
        assert list(diff(one, other)) == before
        assert before


def test_files_that_were_never_one_are_read_whole(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stores = []
        for name, extra in (("one", 7), ("other", 13)):
            store = stack.enter_context(closing(SqliteStore(tmp_path / name, synchronous="normal")))
            rows = [
                (encode(("n", number * (2 if name == "one" else 3))), b"x" * 50, 3, None, -1)
                for number in range(20_000)
            ]
            store.load([*rows, (encode(("z", extra)), b"", 3, None, -1)], keep=False, after=None, to_end=False)
            stores.append(store)
        one, other = (stack.enter_context(of_store(store, pages=True)) for store in stores)
        assert page_diff.maybe_different(one, other) is None
        kinds = [change.kind for change in diff(one, other)]
        assert (kinds.count(Kind.REMOVED), kinds.count(Kind.ADDED)) == (13334, 13334)


class Rows:
    """A snapshot that holds these."""

    whole = expiry = True

    def __init__(self, *rows: StoredRow) -> None:
        self.version: int | None = None
        self._rows = rows

    def rows(self, start: bytes = b"", end: bytes | None = None) -> Iterator[StoredRow]:
        return (row for row in self._rows if start <= row[0] and (end is None or row[0] < end))

    def count(self) -> int | None:
        return None


def test_a_fork_point_tells_who_made_a_difference(tmp_path: Path) -> None:
    def row(name: str, version: int, value: str = "") -> tuple[bytes, bytes, int, int, int]:
        return (encode((name,)), value.encode(), 3, version, -1)

    one = Rows(
        row("a", 1), row("b", 12), row("c", 5, "new"), row("d", 12, "x"), row("e", 12, "x"), row("g", 2), row("h", 11)
    )
    other = Rows(row("c", 11, "old"), row("d", 5), row("e", 13), row("f", 9), row("f2", 11), row("g", 2), row("h", 12))
    found = [(change.key[1:-1].decode(), change.kind, change.by) for change in diff(one, other, fork_version=10)]
    assert found == [
        ("a", Kind.REMOVED, Side.SECOND),
        ("b", Kind.REMOVED, Side.FIRST),
        ("c", Kind.CHANGED, Side.SECOND),
        ("d", Kind.CHANGED, Side.FIRST),
        ("e", Kind.CHANGED, Side.BOTH),
        ("f", Kind.ADDED, Side.FIRST),
        ("f2", Kind.ADDED, Side.SECOND),
    ]
    assert {change.by for change in diff(one, other)} == {None}


def test_the_same_value_in_the_bytes_of_another_v8_is_no_difference() -> None:
    data, _ = encoded({"a": [1, "b"]})
    one, other = Rows((b"k", data, 1, 1, -1)), Rows((b"k", b"\xff\x10" + data[2:], 1, 1, -1))
    assert list(diff(one, other)) == []
    assert len(list(diff(one, Rows((b"k", encoded({"a": [1, "c"]})[0], 1, 1, -1))))) == 1


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = shop(tmp_path / "shop", "login")
    for branch, entries in (("main", {"a": 1, "b": 2}), ("login", {"b": 3, "c": 4})):
        for key, value in entries.items():
            ok(repo, "kv", "set", "--branch", branch, json.dumps([key]), json.dumps(value))
    return repo


def test_it_prints_what_differs(repo: Path) -> None:
    assert ok(repo, "database", "diff", "main", "login").splitlines() == ['- ["a"]', '~ ["b"]', '+ ["c"]']
    assert ok(repo, "database", "diff", "main", "login", "--values").splitlines() == [
        '- ["a"]\t1',
        '~ ["b"]\t2\t3',
        '+ ["c"]\t4',
    ]
    assert ok(repo, "database", "diff", "main", "login", "--stat").endswith(": 1 added, 1 changed, 1 removed\n")
    assert provisioner(repo, "database", "diff", "main", "login", "--exit-code").returncode == 1
    assert provisioner(repo, "database", "diff", "main", "main", "--exit-code").returncode == 0
    document = json.loads(ok(repo, "database", "diff", "main", "login", "--json", "--values"))
    assert (document["added"], document["changed"], document["removed"], document["fork"]) == (1, 1, 1, None)
    changes = document["changes"]
    assert [(each["key"], each["change"], each["by"]) for each in changes] == [
        (["a"], "removed", None),
        (["b"], "changed", None),
        (["c"], "added", None),
    ]
    assert (changes[1]["a"]["value"], changes[1]["b"]["value"], changes[0]["b"]) == (2, 3, None)
    assert "value" not in json.loads(ok(repo, "database", "diff", "main", "login", "--json"))["changes"][0]["a"]
    none = json.loads(ok(repo, "database", "diff", "main", "main", "--json"))
    assert (none["changes"], none["added"]) == ([], 0)
    stat = json.loads(ok(repo, "database", "diff", "main", "login", "--json", "--stat"))
    assert (stat["changes"], stat["added"]) == ([], 1)


def test_dumps_are_compared_too(repo: Path) -> None:
    ok(repo, "database", "dump", "login", "-o", "login.jsonl")
    assert ok(repo, "database", "diff", "login.jsonl", "login", "--stat") == "no difference\n"
    assert ok(repo, "database", "diff", "main", "login.jsonl").splitlines() == ['- ["a"]', '~ ["b"]', '+ ["c"]']
    git(repo, "branch", "-q", "no-database-yet")
    assert provisioner(repo, "database", "diff", "main", "nothing").returncode == 3


def test_a_changed_expiry_is_a_difference(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with open_kv(tmp_path / name) as kv:
            kv.set(("a",), 1, expire_in=86_400_000 if name == "one" else None)
    assert ok(tmp_path, "database", "diff", "./one", "./other") == '~ ["a"]\n'


def test_a_fork_and_its_parent_say_who_made_each_difference(repo: Path) -> None:
    ok(repo, "database", "fork", "main", "login", "--yes")
    assert ok(repo, "database", "diff", "main", "login", "--stat") == "no difference\n"
    ok(repo, "kv", "set", "--branch", "login", '["new"]', "1")
    ok(repo, "kv", "delete", "--branch", "main", "--yes", '["a"]')
    ok(repo, "kv", "set", "--branch", "main", '["b"]', "9")
    document = json.loads(ok(repo, "database", "diff", "main", "login", "--json"))
    assert [(each["key"], each["change"], each["by"]) for each in document["changes"]] == [
        (["a"], "added", "a"),
        (["b"], "changed", "a"),
        (["new"], "added", "b"),
    ]
    assert document["fork"] is not None
    backwards = json.loads(ok(repo, "database", "diff", "login", "main", "--json"))
    assert [each["by"] for each in backwards["changes"]] == ["b", "b", "a"]
