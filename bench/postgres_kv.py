"""Key-values on PostgreSQL against psycopg by hand: 100-byte values, each commit flushed, 64 at a time."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from bench.table import Row, compared
from provisioner.kv import open_kv
from provisioner.kv.client import async_client

VALUE = "x" * 100
WRITERS = 64
TURNS = 100
ENTRIES = 10_000
TABLE = "create table entry (k bytea primary key, v bytea not null)"


@contextmanager
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server with Debian's programs and PostgreSQL's defaults, in a directory of its own."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    as_account = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory, socket.socket() as probe:
        if account is not None:
            os.chmod(tempfile.gettempdir(), 0o711)
            shutil.chown(directory, account.pw_uid, account.pw_gid)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), f"--pgdata={directory}/data", *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **as_account)  # type: ignore[call-overload]

        run("initdb", "--auth=trust", "--username=bench", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={directory}"
        run("pg_ctl", "start", "--wait", f"--log={directory}/log", f"--options={options}")
        try:
            yield f"postgresql://bench@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "--mode=fast")


def measure(runs: int) -> list[Row]:
    """Ratios are of times: below one is faster."""
    with server() as url, ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(WRITERS)]
        connections[0].execute(TABLE)
        with open_kv(url) as kv:
            for start in range(0, ENTRIES, 500):
                atomic = kv.atomic()
                for number in range(start, start + 500):
                    atomic.set(("entry", number), VALUE)
                atomic.commit()
            sets = [(tasks_set(url, run), inserted(connections, run)) for run in range(runs + 1)][1:]
            threads = [threads_set(kv.set, run) for run in range(runs)]
            gets = [(tasks_get(url), selected(connections)) for _ in range(runs + 1)][1:]
        ours, peer = zip(*sets, strict=True)
        one, other = zip(*gets, strict=True)
        return [
            compared("kv on PostgreSQL, set, 64 tasks in flight", ours, peer, 1 / 2),
            compared("kv on PostgreSQL, set, 64 threads", threads, peer, None),
            compared("kv on PostgreSQL, get, 64 tasks in flight", one, other, None),
        ]


def tasks_set(url: str, run: int) -> float:
    async def writer(kv: async_client.Kv, number: int) -> None:
        for turn in range(TURNS):
            await kv.set(("set", run, number, turn), VALUE)

    return asyncio.run(_tasks(url, writer))


def tasks_get(url: str) -> float:
    async def reader(kv: async_client.Kv, number: int) -> None:
        for turn in range(TURNS):
            assert (await kv.get(("entry", number * TURNS + turn))).value == VALUE

    return asyncio.run(_tasks(url, reader))


async def _tasks(url: str, work: Callable[[async_client.Kv, int], object]) -> float:
    async with await async_client.open_kv(url) as kv:
        await kv.set(("warm",), 1)
        start = time.perf_counter()
        await asyncio.gather(*(work(kv, number) for number in range(WRITERS)))  # type: ignore[call-overload]
        return time.perf_counter() - start


def threads_set(set_one: Callable[[tuple[str, int, int, int], str], object], run: int) -> float:
    return _threads(lambda number, turn: set_one(("threads", run, number, turn), VALUE))


def inserted(connections: list[psycopg.Connection[tuple[object, ...]]], run: int) -> float:
    """One INSERT in a transaction of its own, each connection in a thread."""
    value = VALUE.encode()
    statement = b"insert into entry values (%b, %b)"
    return _threads(
        lambda number, turn: connections[number].execute(statement, (b"%d %d %d" % (run, number, turn), value))
    )


def selected(connections: list[psycopg.Connection[tuple[object, ...]]]) -> float:
    statement = b"select v from entry where k = %b"

    def select(number: int, turn: int) -> None:
        assert connections[number].execute(statement, (b"1 %d %d" % (number, turn),)).fetchone()

    return _threads(select)


def _threads(work: Callable[[int, int], object]) -> float:
    def run(number: int) -> None:
        for turn in range(TURNS):
            work(number, turn)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WRITERS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start
