"""What a database costs that is one of many in a process, and that it is closed safely whatever happens to it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from provisioner.kv.client.expiry import Collector
from provisioner.kv.codec.key import point
from provisioner.kv.codec.value import encode as value
from provisioner.kv.errors import Closed, StoreFailed
from provisioner.kv.model import AtomicWrite, Committed, Mutation, MutationKind
from provisioner.kv.stores.sqlite.store import SqliteStore

KEY = b"\x02key\0"
THREADS = 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "kv", lean=True)
    yield made
    made.close()


def put(store: SqliteStore, expire_at: int = -1) -> None:
    (outcome,) = store.write([AtomicWrite((), (Mutation(MutationKind.SET, KEY, *value(1), expire_at),), ())])
    assert isinstance(outcome, Committed)


def descriptors(path: Path) -> list[str]:
    """What this process has open of a database."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the one that lists
            continue
        if name.startswith(str(path)):
            found.append(name)
    return sorted(found)


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux shows")
def test_one_that_is_read_written_and_watched_takes_three_descriptors(store: SqliteStore, tmp_path: Path) -> None:
    store.watch([KEY], lambda: None)
    for _ in range(3):
        put(store)
        assert len(store.read([point(KEY)])[0]) == 1
        assert store.collect(1)[0] == 0
    path = tmp_path / "kv"
    assert descriptors(path) == [f"{path}", f"{path}-shm", f"{path}-wal"]
    store.close()
    assert descriptors(path) == []


def test_reads_do_not_wait_for_a_write(store: SqliteStore) -> None:
    put(store)
    with store._file.transaction():
        assert len(store.read([point(KEY)])[0]) == 1
    store.rest()
    assert len(store.read([point(KEY)])[0]) == 1
    store.close()
    store.rest()


def test_a_snapshot_shows_one_state_and_lets_others_write(store: SqliteStore, tmp_path: Path) -> None:
    put(store)
    with closing(SqliteStore(tmp_path / "kv")) as other:
        snapshot = store.pinned()
        before = snapshot.rows([point(KEY)])
        put(other)
        assert snapshot.rows([point(KEY), point(KEY)]) == before * 2
        snapshot.close()
        assert store.rows([point(KEY)]) != before
        put(store)
    store.close()
    with pytest.raises(Closed):
        store.pinned()


@pytest.mark.parametrize("lean", [True, False])
def test_it_may_be_closed_while_others_use_it(tmp_path: Path, lean: bool) -> None:
    for _ in range(20):
        store = SqliteStore(tmp_path / "kv", lean=lean)
        put(store)
        acknowledged: list[int] = []
        used = threading.Barrier(THREADS + 1)
        strange: list[BaseException] = []

        def use(
            number: int,
            store: SqliteStore = store,
            used: threading.Barrier = used,
            acknowledged: list[int] = acknowledged,
            strange: list[BaseException] = strange,
        ) -> None:
            used.wait()
            try:
                while True:
                    store.read([point(KEY)] * (1 + number % 2))
                    if number % 2:
                        put(store)
                        acknowledged.append(number)
                    if number == 0:
                        store.rest()
            except Closed:
                pass
            except BaseException as error:
                strange.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        used.wait()
        until = time.perf_counter() + 0.01
        while time.perf_counter() < until:
            pass
        store.close()
        for thread in threads:
            thread.join()
        assert strange == []
        if sys.platform == "linux":
            assert descriptors(tmp_path / "kv") == []


def test_it_tells_when_its_first_entry_expires(store: SqliteStore) -> None:
    put(store)
    assert store.next_expiry() is None
    put(store, expire_at=7)
    assert store.next_expiry() == 7


def test_it_knows_that_its_file_is_another_or_gone(store: SqliteStore, tmp_path: Path) -> None:
    assert not store.moved()
    os.rename(tmp_path / "kv", tmp_path / "other")
    assert store.moved()
    SqliteStore(tmp_path / "kv").close()
    assert store.moved()
    with store._file.transaction(), pytest.raises(StoreFailed, match="no longer the file"):
        store.read([point(KEY)])  # would be of the other one
    os.rename(tmp_path / "other", tmp_path / "kv")
    assert not store.moved()


def test_what_must_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        SqliteStore(tmp_path / "absent", must_exist=True)
    assert not (tmp_path / "absent").exists()


def test_a_collector_goes_on_until_the_crowd_is_deleted(store: SqliteStore) -> None:
    woken = threading.Event()
    for start in range(0, 2500, 500):
        mutations = tuple(Mutation(MutationKind.SET, b"\x02%d\0" % n, *value(1), 1) for n in range(start, start + 500))
        store.write([AtomicWrite((), mutations, ())])
    put(store, expire_at=2)
    store.watch([KEY], woken.set)
    collector = Collector(store, lambda: 1000)
    assert woken.wait(60)
    collector.close()
