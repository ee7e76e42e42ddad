"""All of a database on PostgreSQL at one moment: dumps, loads, comparisons, and reads that travel together."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from kv_steps import NOW, A, B, C, D, K, N, change, done, names, put, stored
from paths import DOCS
from pg_server import PgServer

from provisioner.kv.client import async_client
from provisioner.kv.client.read_coalescing import MOST_READS, ReadCoalescer
from provisioner.kv.codec import key
from provisioner.kv.dump.diff import diff
from provisioner.kv.dump.full_scan import of_store
from provisioner.kv.dump.load import target
from provisioner.kv.errors import StoreFailed
from provisioner.kv.local_store import DirectStore
from provisioner.kv.model import KvU64, MutationKind, ReadRange
from provisioner.kv.stores.memory import MemoryStore
from provisioner.kv.stores.postgres.pool import ConnectionPool
from provisioner.kv.stores.postgres.store import PostgresStore
from provisioner.kv.stores.sqlite.store import SqliteStore


@pytest.fixture
def store(pg: PgServer) -> Iterator[PostgresStore]:
    with pg.database() as name, closing(PostgresStore(pg.url(name), lines=ConnectionPool())) as made:
        yield made


def test_a_moment_stays_what_it_is_while_others_write(store: PostgresStore) -> None:
    for start in range(0, 3000, 1000):
        done(store, *(put(key.encode((number,))) for number in range(start, start + 1000)))
    before = store.version()
    with of_store(store) as moment:
        assert moment.whole
        assert moment.version == before
        entries = moment.rows()
        first = next(entries)
        done(store, put(A), put(first[0], "new"))
        assert 1 + sum(1 for _ in entries) == moment.count() == 3000
    assert len(names(store, ReadRange(A, A + b"\0", 1))) == 1
    assert store.version() > before


def test_no_commit_falls_between_a_moment_and_its_version(store: PostgresStore) -> None:
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            done(store, put(A), put(B))

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(30):
            with store.moment() as moment:
                assert {row[3] for row in moment.rows()} in ({moment.version}, set())
    finally:
        over.set()
        for writer in writers:
            writer.join()


def test_what_is_pinned_is_read_from_one_state(store: PostgresStore) -> None:
    done(store, put(A), put(B))
    pinned = store.pinned()
    done(store, put(C))
    assert [
        [row[0] for row in found] for found in pinned.rows([ReadRange(A, D, 9), ReadRange(A, D, 1, reverse=True)])
    ] == [
        [A, B],
        [B],
    ]
    pinned.close()
    assert names(store) == [A, B, C]


def test_an_entry_is_shown_with_its_expiry(store: PostgresStore) -> None:
    done(store, put(A, 1, expire_at=NOW))
    row = store.row(A)
    assert row is not None
    assert row[4] == NOW
    assert store.row(B) is None


def test_rows_are_loaded_as_they_were(store: PostgresStore, tmp_path: object) -> None:
    done(store, put(K), put(D))
    last = store.version()
    rows = [(A, b"\xff\x0fI\2", 1, 3, -1), (B, b"\xff\x0fI\4", 1, last + 50, NOW), (C, b"raw", 3, None, -1)]
    assert target(store, keep=True).put(rows, b"", True) == 2
    assert names(store) == [A, B, C]
    with store.moment() as moment:
        loaded = list(moment.rows())
        assert [list(moment.rows(B)), list(moment.rows(end=B)), list(moment.rows(B, C))] == [
            loaded[1:],
            loaded[:1],
            loaded[1:2],
        ]
    assert [row[3] for row in loaded[:2]] == [3, last + 50]
    assert loaded[1][4] == NOW
    assert last < loaded[2][3] <= last + 9  # type: ignore[operator]
    assert store.version() == last + 50
    assert int.from_bytes(done(store, put(A))[:8], "big") > last + 50


def test_rows_are_loaded_with_a_new_version(store: PostgresStore) -> None:
    done(store, put(A), put(B), put(D))
    assert store.load([(B, b"\xff\x0fI\2", 1, 1, -1)], keep=False, after=A, to_end=False) == 0
    assert store.load([(K, b"\xff\x0fI\2", 1, 1, -1)], keep=False, after=A, to_end=False) == 2
    assert names(store) == [A, K]
    assert stored(store, K) == 1


def test_a_database_on_postgresql_is_compared_with_a_file(store: PostgresStore, tmp_path: object) -> None:
    with closing(SqliteStore(f"{tmp_path}/kv.sqlite3")) as file:
        for each in (store, file):
            done(each, put(A), change(MutationKind.SUM, N, KvU64(3)))
        done(file, put(B))
        with of_store(store) as one, of_store(file) as other:
            changes = list(diff(one, other))
    assert [found.key for found in changes] == [B]


def test_the_program_of_the_document_runs(pg: PgServer, store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    document = DOCS / "kv-postgres.md"
    (program,) = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    database = store.place.rpartition("/")[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PROVISIONER_KV_URL": pg.url(database)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_stores_that_have_the_entries_themselves_can_say_more(store: PostgresStore) -> None:
    assert isinstance(store, DirectStore)
    assert not isinstance(MemoryStore(), DirectStore)


def test_reads_that_wait_travel_together(pg: PgServer, store: PostgresStore) -> None:
    done(store, *(put(key.encode(("k", number)), number) for number in range(200)))

    async def read() -> list[object]:
        async with async_client.Kv(store) as kv:
            one = asyncio.gather(*(kv.get(("k", number)) for number in range(200)))
            many = [entry.value async for entry in kv.list(("k",), batch_size=50)]
            assert many == list(range(200))
            return [entry.value for entry in await one]

    assert asyncio.run(read()) == list(range(200))


def test_a_journey_that_fails_fails_those_who_took_part_alone() -> None:
    fetched: list[int] = []

    async def fetch(ranges: Sequence[ReadRange]) -> list[list[bytes]]:
        await asyncio.sleep(0)
        fetched.append(len(ranges))
        if any(wanted.start == B for wanted in ranges):
            raise StoreFailed("B cannot be read")
        return [[wanted.start] for wanted in ranges]

    async def read() -> list[object]:
        reads = ReadCoalescer(fetch)
        bad = reads.read([ReadRange(B, C, 1)])
        rest = [reads.read([ReadRange(A, B, 1), ReadRange(C, D, 1)]) for _ in range(MOST_READS + 10)]
        found = await asyncio.gather(bad, *rest, return_exceptions=True)
        assert (await reads.read([ReadRange(D, K, 1)])) == [[D]]
        return list(found)

    bad, *rest = asyncio.run(read())
    assert isinstance(bad, StoreFailed)
    good = [each for each in rest if each == [[A], [C]]]
    assert len(good) >= 10
    assert all(isinstance(each, StoreFailed) for each in rest if each != [[A], [C]])
    assert max(fetched) <= 2 * MOST_READS
