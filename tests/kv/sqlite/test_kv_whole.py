"""All that a database holds: copied, written to meanwhile, and made the same again; on files, and on PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from pg_server import PgServer

from provisioner.kv.bulk_copy import BulkSource, BulkTarget, QueuedMessage, copy, settle
from provisioner.kv.errors import Unreachable
from provisioner.kv.model import AtomicWrite, Mutation, MutationKind, StoredRow
from provisioner.kv.stores.postgres.bulk_copy import PostgresBulkTarget
from provisioner.kv.stores.postgres.store import PostgresStore
from provisioner.kv.stores.sqlite.bulk_copy import SqliteBulkTarget
from provisioner.kv.stores.sqlite.clone import clone
from provisioner.kv.stores.sqlite.store import SqliteStore

NOW = 5_000_000


def rows_of(whole: BulkSource) -> list[StoredRow]:
    return [row for batch in whole.batches() for row in batch]


@contextmanager
def file(path: Path) -> Iterator[SqliteBulkTarget]:
    SqliteStore(path).close()
    with SqliteBulkTarget(str(path)) as found:
        yield found


@contextmanager
def database(pg: PgServer) -> Iterator[PostgresBulkTarget]:
    with pg.database() as name, ExitStack() as stack:
        PostgresStore(pg.url(name)).close()
        one, other = (stack.enter_context(psycopg.connect(pg.url(name), autocommit=True)) for _ in range(2))
        yield PostgresBulkTarget(one, other, name)


@pytest.fixture(params=["files", "to a server", "from a server"])
def ends(request: pytest.FixtureRequest, tmp_path: Path, pg: PgServer) -> Iterator[tuple[BulkTarget, BulkTarget]]:
    one = database(pg) if request.param == "from a server" else file(tmp_path / "one")
    other = database(pg) if request.param == "to a server" else file(tmp_path / "other")
    with one as source, other as target:
        yield source, target


def some(chance: random.Random, count: int) -> list[StoredRow]:
    keys = sorted({chance.randbytes(chance.randint(1, 3)) for _ in range(count)})
    return [
        (key, chance.randbytes(5), chance.choice((1, 2, 3)), chance.randint(1, 9), chance.choice((-1, 10**13)))
        for key in keys
    ]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_written_while_it_is_copied_it_is_the_same_afterwards(
    ends: tuple[BulkTarget, BulkTarget], seed: int
) -> None:
    source, target = ends
    chance = random.Random(seed)
    source.put(some(chance, 7000))
    there = rows_of(source)
    assert copy(source, target, lambda *_: None) == len(there)
    part = (0.001, 0.3, 1.0)[seed]
    changed = some(chance, int(7000 * part))  # with the same versions and times as others have, too
    source.change(changed, [row[0] for row in there if chance.random() < part])
    messages: list[QueuedMessage] = [(n, f"message {n}", chance.randbytes(4), "[1,2]", "[]") for n in range(100)]
    source.replace_messages(messages, 1000 + seed)
    differed = settle(source, target, NOW)
    assert rows_of(target) == rows_of(source)
    assert (target.messages(NOW), target.version()) == (messages, 1000 + seed)
    assert differed > 0
    assert settle(source, target, NOW) == 0


def test_nobody_writes_to_a_file_that_is_fenced_and_everybody_goes_on_when_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    store = SqliteStore(path)
    write = [AtomicWrite((), (Mutation(MutationKind.SET, b"\2key\0", b"value"),))]
    store.write(write)
    with SqliteBulkTarget(str(path)) as whole:
        whole.fence()
        whole.fence()
        for again in (store, SqliteStore(path, must_exist=True)):
            with pytest.raises(Unreachable, match="moving or has moved"):
                again.write(write)
        with pytest.raises(Unreachable, match="moving or has moved"):
            clone(str(path), str(tmp_path / "copy"), with_queue=False)
        assert [row[0] for row in rows_of(whole)] == [b"\2key\0"]
        whole.unfence()
        whole.unfence()
    store.write(write)
    assert store.row(b"\2key\0") is not None
    store.close()
