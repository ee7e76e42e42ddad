"""What a tenant puts into the schema of its database does not run when provisioner works on that."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kv_files import integrity

from provisioner import open_kv
from provisioner.kv.errors import KvError
from provisioner.kv.stores.sqlite.clone import clone

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
COSTLY = "like('%a%a%a%a%a%a%a%a%a%a%a%a%b', cast(k as text) || printf('%.*c', 4000, 'a'))"

TRAPS = {
    "a trigger": [
        f"create trigger t{number} {when} on {table} begin insert into trap {ENDLESS}; end"
        for number, (when, table) in enumerate(
            (when, table)
            for table in ("kv", "data_version", "queue", "queue_running")
            for when in ("after insert", "after update", "after delete")
        )
    ],
    "a view": ["alter table queue rename to hidden", f"create view queue as {ENDLESS}"],
    "a check": [
        "pragma writable_schema = on",
        f"update sqlite_schema set sql = replace(sql, 'v blob', 'v blob check (not {COSTLY.replace(chr(39), chr(39) * 2)})')"
        " where name = 'kv'",
    ],
    "an index": ["create index i on kv (length(zeroblob(900000000 + length(k))))"],
}


def trapped(path: Path, how: str) -> None:
    with open_kv(str(path)) as kv:
        kv.set(("aaaa",), "before")
        kv.enqueue("a message", delay=600)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table trap (n)")
        for statement in TRAPS[how]:
            connection.execute(statement)
        connection.commit()


def in_time(work: Callable[[], object]) -> None:
    """It ends, or raises what a store raises; it does not go on for as long as a query wants."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except KvError:
            return
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it hangs"
    assert failed == []


@pytest.mark.parametrize("how", TRAPS)
def test_a_copy_is_made_without_running_it(tmp_path: Path, how: str) -> None:
    source, target = tmp_path / "source.sqlite3", tmp_path / "target.sqlite3"
    trapped(source, how)
    in_time(lambda: clone(str(source), str(target), beyond=1 << 40))
    if how == "a trigger":
        assert integrity(target) == "ok"
        with closing(sqlite3.connect(target)) as copied:
            assert copied.execute("select count(*) from queue").fetchone() == (0,)
            assert copied.execute("select count(*) from trap").fetchone() == (0,)


@pytest.mark.parametrize("how", TRAPS)
def test_a_store_writes_and_reads_without_running_it(tmp_path: Path, how: str) -> None:
    path = tmp_path / "kv.sqlite3"
    trapped(path, how)

    def use() -> None:
        with open_kv(str(path)) as kv:
            kv.set(("aaaa",), "after")
            kv.enqueue("another", delay=600)
            assert kv.get(("aaaa",)).value == "after"
            kv.delete(("aaaa",))

    in_time(use)
