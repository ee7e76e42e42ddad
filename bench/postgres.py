"""Databases on a PostgreSQL server against what one does by hand there, and against DSLR where that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psycopg

from bench.table import Row, compared, spread
from provisioner.core.clock import now_ms
from provisioner.core.connection import FileLocation
from provisioner.core.ids import DatabaseId, InstanceId, TimelineId
from provisioner.core.model import Database, Instance, Intent, Provisioning
from provisioner.engines.postgres import names
from provisioner.engines.postgres.embedded import server as embedded
from provisioner.engines.postgres.engine import MOST_SPARES, Postgres
from provisioner.engines.protocol import location as place
from provisioner.engines.protocol.engine import Source
from provisioner.system.home import Home

EMPTY, FORK, RESTORE = 0.3, 1.1, 0.5
MEGABYTES = (100, 1000)
SESSIONS = 20


def measure(runs: int) -> list[Row]:
    with (
        _server() as (engine, instance),
        psycopg.connect(embedded.admin_url(instance.location), autocommit=True) as hand,
    ):
        rows = _empty(runs, engine, instance, hand)
        for megabytes in MEGABYTES:
            rows += _forks(min(runs, 5), engine, instance, hand, megabytes)
        return rows


@contextmanager
def _server() -> Iterator[tuple[Postgres, Instance]]:
    home = tempfile.mkdtemp(prefix="home-")
    Home(home).create()
    location = os.path.join(home, "instances", "main")
    instance = Instance(InstanceId(str(uuid.uuid4())), "main", "postgres", FileLocation(location), now_ms(), home=home)
    engine = Postgres()
    try:
        engine.prepare(instance)
        yield engine, instance
    finally:
        embedded.stop(location)
        shutil.rmtree(os.path.dirname(place.data_of(location)), ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def _database() -> Database:
    identity = DatabaseId(str(uuid.uuid4()))
    nowhere = (TimelineId(identity), InstanceId(""))
    return Database(identity, *nowhere, identity, Provisioning(Intent.PROVISION), now_ms(), None)


def _empty(runs: int, engine: Postgres, instance: Instance, hand: psycopg.Connection[object]) -> list[Row]:
    def ours() -> float:
        while engine.stock(instance, MOST_SPARES):
            pass
        database = _database()
        took = _timed(lambda: _must_be_done(engine.ensure(instance, [database])))
        _remove(engine, instance, database)
        return took

    def without_spares() -> float:
        database = _database()
        for spare in _spares(hand, instance):
            hand.execute(f'drop database "{spare}"'.encode())
        took = _timed(lambda: _must_be_done(engine.ensure(instance, [database])))
        _remove(engine, instance, database)
        return took

    turns = [(ours(), _by_hand(hand, "create database hand"), without_spares()) for _ in range(runs)]
    taken, peer, made = ([turn[at] for turn in turns] for at in range(3))
    return [
        compared("an empty database with its role / CREATE DATABASE", taken, peer, EMPTY),
        compared("the same, none made ahead / CREATE DATABASE", made, peer, None),
    ]


def _forks(
    runs: int, engine: Postgres, instance: Instance, hand: psycopg.Connection[object], megabytes: int
) -> list[Row]:
    source, target = _database(), _database()
    _must_be_done(engine.ensure(instance, [source]))
    source = replace(source, connected_at=1)
    name = names.live(instance.id, source.id)
    url = embedded.admin_url(instance.location)
    with psycopg.connect(url, dbname=name, autocommit=True) as filling:
        filling.execute(
            b"create table filled as select n, repeat(md5(n::text), 30) as text from generate_series(1, %d) n"
            % (megabytes * 1000)
        )
        filling.execute(b"checkpoint")

    def ours() -> float:
        took = _timed(lambda: engine.fork(instance, target, Source(source)))
        _remove(engine, instance, target)
        return took

    def busy() -> float:
        with ExitStack() as stack:
            for _ in range(SESSIONS):
                stack.enter_context(psycopg.connect(url, dbname=name))
            return ours()

    template = f'create database hand template "{name}" strategy file_copy'
    turns = [(_by_hand(hand, template), ours()) for _ in range(runs)]
    peer, forks = ([turn[at] for turn in turns] for at in range(2))
    rows = [compared(f"fork of {megabytes} MB / CREATE DATABASE … TEMPLATE", forks, peer, FORK)]
    if dslr := _dslr(runs, url, name):
        rows.append(compared(f"fork of {megabytes} MB / DSLR's restore", forks, dslr, RESTORE))
    times = [busy()]
    rows.append(Row(f"fork of {megabytes} MB with {SESSIONS} sessions open (a dump)", spread(times), "-", None, None))
    _remove(engine, instance, source)
    return rows


def _dslr(runs: int, url: str, name: str) -> list[float]:
    """Its restores of a snapshot; none where it is not installed."""
    program = os.path.join(os.path.dirname(sys.executable), "dslr")
    if not os.path.exists(program):
        return []
    with psycopg.connect(url, autocommit=True) as hand:
        hand.execute(f'create database copied template "{name}" strategy file_copy'.encode())
    command = [program, "--url", url.replace("/postgres", "/copied"), "--yes"]
    taken = subprocess.run([*command[:3], "snapshot", "bench"], capture_output=True, text=True, check=False)
    if taken.returncode:
        print(taken.stdout, taken.stderr, file=sys.stderr)
        return []
    restored = [
        _timed(lambda: subprocess.run([*command[:3], "restore", "bench"], capture_output=True, check=True))
        for _ in range(runs)
    ]
    subprocess.run([*command[:3], "delete", "bench"], capture_output=True, check=False)
    with psycopg.connect(url, autocommit=True) as hand:
        hand.execute(b"drop database if exists copied")
    return restored


def _by_hand(hand: psycopg.Connection[object], statement: str) -> float:
    took = _timed(lambda: hand.execute(statement.encode()))
    hand.execute(b"drop database hand")
    return took


def _spares(hand: psycopg.Connection[object], instance: Instance) -> list[str]:
    start = names.SPARE + "_" + instance.id[:8]
    found = hand.execute("select datname from pg_database where starts_with(datname, %s)", (start,))
    return [row[0] for row in found.fetchall()]  # type: ignore[index]


def _remove(engine: Postgres, instance: Instance, database: Database) -> None:
    _must_be_done(engine.archive(instance, [database]))
    _must_be_done(engine.purge(instance, [database]))


def _must_be_done(failures: dict[DatabaseId, str]) -> None:
    assert not failures, failures


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
