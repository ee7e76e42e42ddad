"""The same operations on real Deno and on a database on PostgreSQL: by itself, and through a server.

20 sequences each; 5,000 with KV_NIGHTLY in the environment, or so many as KV_SEQUENCES says.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import connect_compare
import psycopg
import pytest
from hypothesis import given
from kv_compare import CHANGES, Side, answered, compare, compare_messages, compare_rows
from kv_files import restore, rows
from kv_oracle import Oracle, OracleError
from kv_ours import Ours
from kv_sequences import searching, sequences
from kv_server import Made, Served
from kv_steps import emptied
from pg_server import PgServer
from psycopg.rows import dict_row

from provisioner.kv import open_kv
from provisioner.kv.stores.postgres.store import PostgresStore

SEQUENCES = int(os.environ.get("KV_SEQUENCES", 5_000 if "KV_NIGHTLY" in os.environ else 20))

ENTRIES = "select k, v, v_encoding, version, 0 as seq, expiration_ms from deno_kv.kv order by k"
MESSAGES = (
    "select at_ms as ts, id, data, backoff_schedule, keys_if_undelivered from deno_kv.queue where not running"
    " order by at_ms, id"
)


def pg_rows(url: str, statement: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(statement.encode()).fetchall()


@pytest.fixture
def url(pg: PgServer) -> Iterator[str]:
    with pg.database() as name:
        PostgresStore(pg.url(name)).close()
        yield pg.url(name)


@pytest.fixture
def made(pg: PgServer, server: Served, monkeypatch: pytest.MonkeyPatch) -> Made:
    made = server.on_postgres(pg)
    monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", made.token)
    return made


def run(oracle: Oracle, their_file: Path, url: str, commands: list[dict[str, Any]]) -> None:
    emptied(url)
    oracle.send("open", db="it", path=str(their_file))
    theirs = Side(oracle, db="it")
    with open_kv(url) as kv:
        ours = Side(Ours(kv))
        for command in commands:
            risky = any(step["do"] in CHANGES for step in command.get("steps", ()))
            before = {table: rows(their_file, table) for table in ("kv", "queue")} if risky else {}
            answer = answered(theirs, command)
            compare(command, answer, answered(ours, command))
            if isinstance(answer, OracleError) and before:
                restore(their_file, before)  # Deno leaves half of what failed by a type, and ours nothing
        for name in tuple(theirs.watches):
            latest = {"op": "latest", "name": name}
            compare(latest, answered(theirs, latest), answered(ours, latest))
            theirs.unwatch(name)
            ours.unwatch(name)
        everything = {"op": "list", "prefix": []}
        compare(everything, answered(theirs, everything), answered(ours, everything))
    oracle.send("close", db="it")
    compare_rows(theirs, rows(their_file), ours, pg_rows(url, ENTRIES))
    compare_messages(rows(their_file, "queue"), pg_rows(url, MESSAGES))


@pytest.mark.timeout(900 + SEQUENCES)
def test_sequences_of_operations_do_the_same_on_deno_and_on_postgresql(url: str) -> None:
    started = time.monotonic()
    count = 0
    with Oracle() as oracle:

        @searching(SEQUENCES)
        @given(sequences())
        def agree(commands: list[dict[str, Any]]) -> None:
            nonlocal count
            count += 1
            with tempfile.TemporaryDirectory() as directory:
                run(oracle, Path(directory) / "theirs.sqlite3", url, commands)

        agree()
    print(f"{count} sequences agreed in {time.monotonic() - started:.0f} s")


@pytest.mark.timeout(900 + 2 * SEQUENCES)
def test_sequences_of_operations_do_the_same_through_a_server(made: Made) -> None:
    started = time.monotonic()
    count = 0
    with Oracle() as oracle, Oracle() as remote:
        remote.send("open", path=made.url)

        @searching(SEQUENCES)
        @given(sequences())
        def agree(commands: list[dict[str, Any]]) -> None:
            nonlocal count
            count += 1
            with tempfile.TemporaryDirectory() as directory:
                their_file = Path(directory) / "theirs.sqlite3"
                ours = partial(pg_rows, made.path, ENTRIES)
                connect_compare.run(oracle, remote, their_file, ours, connect_compare.without_queues(commands))

        agree()
    print(f"{count} sequences agreed in {time.monotonic() - started:.0f} s")
