"""Group commit by itself: who leads, who waits, and what happens when a transaction fails."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence

import pytest
from test_kv import until

from provisioner.kv.errors import StoreFailed
from provisioner.kv.model import AtomicWrite, Committed
from provisioner.kv.store import Outcome
from provisioner.kv.stores.group_commit import GroupCommit


class Disk:
    """Takes down the size of each transaction, and holds them until it may go on."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.open = threading.Event()
        self.begun = threading.Semaphore(0)
        self.failure: Exception | None = None

    def transact(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        self.sizes.append(len(writes))
        self.begun.release()
        self.open.wait()
        if self.failure is not None:
            raise self.failure
        return [Committed(len(self.sizes).to_bytes(10, "big")) for _ in writes]


@pytest.fixture
def disk() -> Disk:
    return Disk()


def writers(group: GroupCommit, count: int) -> tuple[list[threading.Thread], list[object]]:
    results: list[object] = []

    def write() -> None:
        try:
            results.extend(group.write([AtomicWrite()]))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=write) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def test_a_lone_writer_waits_for_nobody(disk: Disk) -> None:
    disk.open.set()
    group = GroupCommit(disk.transact)
    for _ in range(3):
        assert len(group.write([AtomicWrite(), AtomicWrite()])) == 2
    assert disk.sizes == [2, 2, 2]


def test_who_comes_while_one_writes_shares_the_next_transaction(disk: Disk) -> None:
    group = GroupCommit(disk.transact)
    first, _ = writers(group, 1)
    disk.begun.acquire()
    others, results = writers(group, 20)
    until(lambda: len(group._queue) == 20)
    disk.open.set()
    for thread in first + others:
        thread.join(60)
    assert disk.sizes == [1, 20]
    assert len(results) == 20


def test_a_transaction_that_fails_fails_each_of_its_writers_and_nobody_else(disk: Disk) -> None:
    group = GroupCommit(disk.transact)
    first, _ = writers(group, 1)
    disk.begun.acquire()
    disk.failure = StoreFailed("the disk is full")
    others, results = writers(group, 5)
    until(lambda: len(group._queue) == 5)
    disk.open.set()
    for thread in first + others:
        thread.join(60)
    assert [type(result) for result in results] == [StoreFailed] * 5
    assert len({id(result) for result in results}) == 5
    disk.failure = None
    assert group.write([AtomicWrite()])


def test_an_interrupted_writer_does_not_stop_the_others(disk: Disk) -> None:
    group = GroupCommit(disk.transact)
    first, _ = writers(group, 1)
    disk.begun.acquire()
    second, interrupted = writers(group, 1)
    until(lambda: len(group._queue) == 1)
    others, results = writers(group, 3)
    until(lambda: len(group._queue) == 4)
    thread = second[0].ident
    assert thread is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
    disk.open.set()
    for each in first + second + others:
        each.join(60)
        assert not each.is_alive()
    assert len(results) == 3
    assert len(interrupted) == 1
    assert group.write([AtomicWrite()])
