"""KV Connect against a handler that does nothing and against real Deno on a file. Ratios are of times: below one is faster."""

from __future__ import annotations

import statistics
import urllib.request
from pathlib import Path

from bench.kv import DENO, ENTRIES, VALUE, Deno, versus
from bench.served import Database, h2load, idle, served
from bench.table import Row, milliseconds, spread
from bench.world import PROVISIONER, alternated, world
from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.kv import open_kv
from provisioner.kv.codec import key
from provisioner.kv.codec.value import encode

FIRST = str(Path(__file__).with_name("connect_first.ts"))
LISTED = 1000


def measure(runs: int) -> list[Row]:
    """One row for each line of the table of targets."""
    with world() as here:
        path = here.repository("app")
        here.branches(path, 1)
        here.provisioner(path, "init", "--no-hooks")
        with served(here) as server:
            database, other = server.databases()
            ours, theirs = Deno(database.url, database.environ(served=True)), Deno(other.path)
            ours.seconds("fill", ENTRIES)
            theirs.seconds("fill", ENTRIES)
            rows = against_idle(runs, database)
            rows += against_deno(runs, ours, theirs)
            rows.append(against_deno_written(runs, database, theirs))
            ours.close()
            theirs.close()
        return rows


def against_idle(runs: int, database: Database) -> list[Row]:
    """h2load, one connection with 64 streams: what is ours of the time of a request."""
    headers = database.headers()
    point = key.point(key.encode(("entry", 4711)))
    _widen(database)
    asked = {
        "connect get, against idle": (
            20_000,
            pb.ReadRange(start=point.start, end=point.end, limit=1),
            1 / 0.75,
        ),
        f"connect list of {LISTED:,}, against idle": (1000, _all_of("entry"), 1 / 0.4),
        f"connect list of {LISTED:,} of 1 KB, against idle": (1000, _all_of("wide"), 1 / 0.4),
    }
    url = database.endpoint("snapshot_read")
    rows = []
    for name, (count, wanted, target) in asked.items():
        body = pb.SnapshotRead(ranges=[wanted]).SerializeToString()
        with idle(_answer(url, body, headers)) as idler:
            rows.append(
                versus(
                    runs,
                    name,
                    lambda count=count, body=body: h2load(url, body, headers, count),  # type: ignore[misc]
                    lambda count=count, body=body, idler=idler: h2load(idler, body, headers, count),  # type: ignore[misc]
                    target,
                )
            )
    return rows


def _all_of(kind: str) -> pb.ReadRange:
    prefix = key.encode((kind,))
    return pb.ReadRange(start=prefix + b"\1", end=prefix + b"\xff", limit=LISTED)


def _widen(database: Database) -> None:
    with open_kv(database.path) as kv:
        for start in range(0, LISTED, 500):
            atomic = kv.atomic()
            for number in range(start, start + 500):
                atomic.set(("wide", number), b"x" * 1000)
            assert atomic.commit()


def _answer(url: str, body: bytes, headers: dict[str, str]) -> bytes:

    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        found: bytes = answer.read()
    output = pb.SnapshotReadOutput.FromString(found)
    assert len(output.ranges[0].values) in (1, LISTED)
    return found


def against_deno(runs: int, ours: Deno, theirs: Deno) -> list[Row]:
    """Real Deno, asking us and on a file of its own."""
    return [
        versus(
            runs, "connect set 5 KB, against 100 bytes", lambda: ours.seconds("large", 300),
            lambda: ours.seconds("set", 300), 1 / 0.7,
        ),
        versus(
            runs, "connect get x64, against a file", lambda: ours.seconds("get64", 12_800),
            lambda: theirs.seconds("get64", 12_800), 1 / 0.45,
        ),
        versus(
            runs, "connect list 100,000, against a file", lambda: ours.seconds("list", ENTRIES),
            lambda: theirs.seconds("list", ENTRIES), 1 / 0.5,
        ),
        versus(
            runs, "connect set x64, against a file", lambda: ours.seconds("set64", 6400),
            lambda: theirs.seconds("set64", 6400), 1 / 2,
        ),
    ]  # fmt: skip


def against_deno_written(runs: int, database: Database, theirs: Deno) -> Row:
    """The same by h2load, which is a faster client than Deno."""
    data, _ = encode(VALUE)
    mutation = pb.Mutation(
        key=key.encode(("loaded",)),
        value=pb.KvValue(data=data, encoding=pb.VE_V8),
        mutation_type=pb.M_SET,
    )
    body = pb.AtomicWrite(mutations=[mutation]).SerializeToString()
    headers = database.headers()
    return versus(
        runs,
        "connect set x64 by h2load, against a file",
        lambda: h2load(database.endpoint("atomic_write"), body, headers, 6400),
        lambda: theirs.seconds("set64", 6400),
        1 / 2,
    )


def first(runs: int) -> list[Row]:
    """From the start of `exec` to the end of a fresh Deno that gets one key, with the URL and with the file."""
    with world() as here:
        path = here.repository("app")
        here.provisioner(path, "init", "--no-hooks")
        here.provisioner(path, "assign", "default", "--connect", "url")
        other = here.repository("other")
        here.provisioner(other, "init", "--no-hooks")
        here.provisioner(other, "assign", "default", "--connect", "file")
        command = [PROVISIONER, "exec", "--", DENO, "run", "-A", "--no-check", "--unstable-kv", FIRST]
        with served(here):
            mine, others = alternated(runs, lambda _: here.timed(command, path), lambda _: here.timed(command, other))
        extra = statistics.median(mine) - statistics.median(others)
        name = "connect first get, exec (difference, ms)"
        return [Row(name, spread(mine), milliseconds(statistics.median(others)), extra * 1000, 30)]
