"""Ten thousand databases behind one server, and a thousand watch streams."""

from __future__ import annotations

import asyncio
import http.client
import statistics
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from bench.served import Database, Served, point_read, served
from bench.table import Row, milliseconds, quantile
from bench.world import world
from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.kv.client.sync_client import open_kv
from provisioner.kv.codec import key
from provisioner.kv.codec.value import encode

MANY = 10_000
ACTIVE = 1_000
STREAMS = 1_000
WATCHED = 100
ROUNDS = 5
REST_SECONDS = 20
KEY = ("counter",)


class Asking:
    """One client's connection, asking one database after the other."""

    def __init__(self, server: Served) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        self._headers: dict[str, dict[str, str]] = {}
        self._get = point_read(*KEY)
        self._set = setting(0)

    def exchange(self, database: Database) -> None:
        self._headers[database.id] = database.headers()

    def get(self, database: Database) -> float:
        return self._post(database, "snapshot_read", self._get)

    def set(self, database: Database) -> float:
        return self._post(database, "atomic_write", self._set)

    def _post(self, database: Database, name: str, body: bytes) -> float:
        """Seconds."""
        started = time.perf_counter()
        self._connection.request("POST", urlsplit(database.endpoint(name)).path, body, self._headers[database.id])
        answer = self._connection.getresponse()
        said = answer.read()
        took = time.perf_counter() - started
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {said!r}")
        return took


def setting(number: int) -> bytes:
    value = pb.KvValue(data=encode(number)[0], encoding=pb.VE_V8)
    mutation = pb.Mutation(key=key.encode(KEY), value=value, mutation_type=pb.M_SET)
    return pb.AtomicWrite(mutations=[mutation]).SerializeToString()


def databases(_: int) -> list[Row]:
    """What 10,000 databases cost of which 1,000 are in use."""
    with world() as here:
        path = here.bare("many.git", here.repository("client"))
        here.branches(path, MANY)
        here.provisioner(path, "init", "--no-hooks")
        with served(here) as server:
            asking, all_of_them = Asking(server), server.databases()
            rows = [_cost(f"connect, {len(all_of_them):,} databases, none open", server)]
            active = all_of_them[:ACTIVE]
            for database in active:
                asking.exchange(database)
            first = [asking.get(database) for database in active]
            again = [asking.get(database) for _ in range(ROUNDS) for database in active]
            sets = [asking.set(database) for database in active]
            mixed = [asking.get(database) for database in active]
            rows += [
                _cost(f"connect, {ACTIVE:,} active", server),
                _latency("connect, first get of a database", first),
                _latency("connect, later get", again + mixed),
                _latency("connect, set", sets),
            ]
            for database in all_of_them[ACTIVE:]:
                asking.exchange(database)
                asking.get(database)
            rows.append(_cost("connect, each was asked", server))
        return rows


def watches(_: int) -> list[Row]:
    """What 1,000 streams on 100 databases cost at rest, and when they hear."""
    with world() as here:
        path = here.repository("app")
        here.branches(path, WATCHED - 1)
        here.provisioner(path, "init", "--no-hooks")
        with served(here) as server:
            return asyncio.run(_watched(server))


async def _watched(server: Served) -> list[Row]:
    watched = server.databases()
    asking = Asking(server)
    for database in watched:
        asking.exchange(database)
    streams = [Stream(watched[number % WATCHED]) for number in range(STREAMS)]
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    for stream in streams:
        await stream.next_change()
    rows = [_cost(f"connect, {STREAMS:,} watch streams on {WATCHED} databases", server)]
    before, started = server.processor(), time.perf_counter()
    await asyncio.sleep(REST_SECONDS)
    share = (server.processor() - before) / (time.perf_counter() - started)
    rows.append(Row("connect, watches at rest", f"{share:.1%} of a core", "-", None, None))

    served_at, written_at = [], []
    for database in watched:
        started = time.perf_counter()
        await asyncio.to_thread(asking.set, database)
        served_at += await _heard(streams, database, started)
    for database in watched:
        with open_kv(database.path) as kv:
            started = time.perf_counter()
            await asyncio.to_thread(kv.set, KEY, started)
            written_at += await _heard(streams, database, started)
    for task in tasks:
        task.cancel()
    rows.append(_latency("connect, watch hears of a set through the server", served_at))
    rows.append(_latency("connect, watch hears of a set in the file", written_at))
    return rows


async def _heard(streams: Sequence[Stream], database: Database, started: float) -> list[float]:
    """Seconds from the start of the write until each stream of the database has brought it."""
    return [await stream.next_change() - started for stream in streams if stream.database is database]


class Stream:
    """One watch over a connection of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._changes: asyncio.Queue[float] = asyncio.Queue()

    async def next_change(self) -> float:
        """When the next frame came that is no keep-alive."""
        return await self._changes.get()

    async def run(self) -> None:
        where = urlsplit(self.database.endpoint("watch"))
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        body = pb.Watch(keys=[pb.WatchKey(key=key.encode(KEY))]).SerializeToString()
        headers = {**await asyncio.to_thread(self.database.headers), "Host": where.netloc, "Content-Length": len(body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST {where.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        try:
            status = await reader.readuntil(b"\r\n\r\n")
            if not status.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(status.decode())
            while True:
                size = int(await reader.readuntil(b"\r\n"), 16)
                piece = await reader.readexactly(size + 2)
                if size > 4 and any(each.changed for each in pb.WatchOutput.FromString(piece[4:-2]).keys):
                    self._changes.put_nowait(time.perf_counter())
        finally:
            writer.close()


def _cost(name: str, server: Served) -> Row:
    return Row(name, f"{server.memory():.0f} MB, {server.files():,} files", "-", None, None)


def _latency(name: str, seconds: Sequence[float]) -> Row:
    shown = f"p50 {milliseconds(statistics.median(seconds))}, p99 {milliseconds(quantile(seconds, 0.99))}"
    return Row(name, shown, "-", None, None)
