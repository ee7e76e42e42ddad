"""One thread hears for many databases what other processes write to them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kv_files import opened
from kv_writer import Writer
from support import until

from provisioner.kv.codec.key import encode, point
from provisioner.kv.codec.value import encode as value
from provisioner.kv.errors import Closed
from provisioner.kv.model import AtomicWrite, Mutation, MutationKind
from provisioner.kv.stores.sqlite import wal_watch
from provisioner.kv.stores.sqlite.store import SqliteStore

pytestmark = pytest.mark.slow

MANY = 200
KEY = encode(("key",))


@pytest.fixture
def elsewhere() -> Iterator[Writer]:
    """Another process, which writes where it is told."""
    process = Writer()
    yield process
    process.close()


class Heard:
    """When each store was woken."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.at: dict[object, float] = {}
        self.count = 0

    def by(self, name: object) -> Callable[[], None]:
        def wake() -> None:
            with self.changed:
                self.at[name] = time.perf_counter()
                self.count += 1
                self.changed.notify_all()

        return wake

    def wait(self, name: object, since: float) -> float:
        """Seconds from `since` until it was woken."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.at.get(name, 0) > since, 60), name
            return self.at[name] - since


def put(store: SqliteStore) -> None:
    store.write([AtomicWrite((), (Mutation(MutationKind.SET, KEY, *value(1)),), ())])


def kinds() -> list[str]:
    return [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _there(name)]


def _there(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux shows")
def test_two_hundred_databases_are_heard_within_a_moment_by_one_thread(tmp_path: Path, elsewhere: Writer) -> None:
    heard = Heard()
    stores = {name: SqliteStore(tmp_path / str(name)) for name in range(MANY)}
    stores[0].watch([KEY], heard.by(0))
    threads, instances = threading.active_count(), kinds().count("anon_inode:inotify")
    for name, store in stores.items():
        store.watch([KEY], heard.by(name))
    assert threading.active_count() == threads
    assert kinds().count("anon_inode:inotify") == instances == 1
    took = []
    for name in stores:
        acknowledged = elsewhere.write(tmp_path / str(name))
        with heard.changed:
            assert heard.changed.wait_for(lambda name=name: name in heard.at, 60), name  # type: ignore[misc]
            took.append(heard.at[name] - acknowledged)
    for store in stores.values():
        store.close()
    took.sort()
    print(f"heard after the acknowledgement: median {took[MANY // 2] * 1000:.1f} ms, slowest {took[-1] * 1000:.1f} ms")
    assert took[MANY // 2] < 0.05


def test_each_of_two_stores_of_one_file_hears_until_it_is_closed(tmp_path: Path, elsewhere: Writer) -> None:
    heard = Heard()
    one, other = SqliteStore(tmp_path / "kv"), SqliteStore(tmp_path / "kv")
    one.watch([KEY], heard.by("one"))
    other.watch([KEY], heard.by("other"))
    began = time.perf_counter()
    elsewhere.write(tmp_path / "kv")
    heard.wait("one", began)
    heard.wait("other", began)
    one.close()
    put(other)
    began = time.perf_counter()
    elsewhere.write(tmp_path / "kv")
    heard.wait("other", began)
    other.close()
    again = SqliteStore(tmp_path / "kv")
    again.watch([KEY], heard.by("again"))
    began = time.perf_counter()
    elsewhere.write(tmp_path / "kv")
    heard.wait("again", began)
    assert heard.at["one"] < began
    again.close()


def test_stores_are_closed_and_opened_while_their_reports_are_on_the_way(tmp_path: Path, elsewhere: Writer) -> None:
    heard = Heard()
    with closing(SqliteStore(tmp_path / "other")) as other:
        other.watch([KEY], heard.by("other"))
        for turn in range(50):
            store = SqliteStore(tmp_path / "kv")
            store.watch([KEY], heard.by(turn))
            elsewhere.write(tmp_path / "kv", wait=False)
            if turn % 2:
                heard.wait(turn, 0)
            store.close()
            elsewhere.wait()
        began = time.perf_counter()
        elsewhere.write(tmp_path / "other")
        heard.wait("other", began)


def test_a_waker_may_close_its_store_and_one_that_fails_harms_nobody(tmp_path: Path, elsewhere: Writer) -> None:
    heard = Heard()
    own, failing, store = (SqliteStore(tmp_path / name) for name in ("own", "failing", "kv"))
    own.watch([KEY], own.close)
    own.watch([KEY], heard.by("own"))
    failures = [RuntimeError("as was asked for")]

    def fail() -> None:
        if failures:
            raise failures.pop()

    failing.watch([KEY], fail)
    store.watch([KEY], heard.by("store"))
    elsewhere.write(tmp_path / "own")
    heard.wait("own", 0)
    elsewhere.write(tmp_path / "failing")
    until(lambda: not failures)
    elsewhere.write(tmp_path / "kv")
    heard.wait("store", 0)
    with pytest.raises(Closed):
        own.read([point(KEY)])
    failing.close()
    store.close()


def test_a_slow_commit_is_heard_when_it_is_done(tmp_path: Path) -> None:
    heard = Heard()
    store = SqliteStore(tmp_path / "kv")
    store.watch([KEY], heard.by("store"))
    with opened(tmp_path / "kv") as connection:
        connection.execute("pragma cache_size = 1; begin immediate")
        for number in range(100):  # more than the cache holds, so it goes to the log before the commit
            connection.execute("insert into kv values (?, zeroblob(3000), 0, 1, 0, -1)", (b"%d" % number,))
        quiet = time.perf_counter()
        while time.perf_counter() < quiet + 4 * wal_watch.LONGEST_PAUSE:
            assert heard.count == 0
        connection.execute("commit")
        done = time.perf_counter()
        heard.wait("store", quiet)
    assert heard.at["store"] - done < 0.5  # it is under 0.05 on a machine that does nothing else
    store.close()


def test_own_writes_wake_nobody_who_watches_another_key(tmp_path: Path) -> None:
    heard = Heard()
    store = SqliteStore(tmp_path / "kv")
    store.watch([KEY], heard.by("store"))
    store.watch([b"other"], heard.by("other"))
    for _ in range(20):
        put(store)
    until(lambda: store._file._watcher is not None and store._file._watcher.due is None)
    assert heard.count == 20
    assert "other" not in heard.at
    store.close()


def test_what_others_write_between_own_writes_is_heard(tmp_path: Path, elsewhere: Writer) -> None:
    heard = Heard()
    store = SqliteStore(tmp_path / "kv")
    store.watch([b"other"], heard.by("store"))
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            put(store)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            began = time.perf_counter()
            elsewhere.write(tmp_path / "kv")
            heard.wait("store", began)
    finally:
        over.set()
        thread.join()
    store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux counts")
def test_at_rest_it_uses_no_processor(tmp_path: Path, elsewhere: Writer) -> None:
    heard = Heard()
    stores = [SqliteStore(tmp_path / str(number)) for number in range(20)]
    for store in stores:
        store.watch([KEY], heard.by(store))
        put(store)
        elsewhere.write(Path(store._file.path))
    watchers = [store._file._watcher for store in stores]
    until(lambda: all(watcher is not None and watcher.due is None for watcher in watchers))
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "kv watcher"]
    switches = Path(f"/proc/self/task/{thread.native_id}/status")
    until(lambda: _waits(thread.native_id))

    def count() -> str:
        return next(line for line in switches.read_text().splitlines() if line.startswith("voluntary_ctxt_switches"))

    before = count()
    deadline = time.monotonic() + 0.5
    until(lambda: time.monotonic() > deadline)
    assert count() == before
    for store in stores:
        store.close()


def _waits(thread: int | None) -> bool:
    return "poll" in Path(f"/proc/self/task/{thread}/wchan").read_text()


class Refused:
    """Reports from an operating system whose limit is reached."""

    def __init__(self) -> None:
        raise OSError(24, "Too many open files")


@pytest.mark.parametrize("reports", [wal_watch.Directories, Refused])
def test_without_inotify_it_hears_as_well(
    tmp_path: Path, elsewhere: Writer, reports: Callable[[], wal_watch.Reports], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_watch, "_hubs", [wal_watch.Hub(reports)])
    heard = Heard()
    stores = [SqliteStore(tmp_path / str(number)) for number in range(3)]
    for number, store in enumerate(stores):
        store.watch([KEY], heard.by(number))
    for _ in range(3):
        for number in range(3):
            began = time.perf_counter()
            elsewhere.write(tmp_path / str(number))
            heard.wait(number, began)
    for store in stores:
        store.close()
