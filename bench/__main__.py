"""`python -m bench`: where the figures in bench/README.md come from."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable

from bench import (
    connect,
    connect_scale,
    dashboard,
    dump,
    fork,
    growth,
    kv,
    moving,
    postgres,
    postgres_kv,
    routing,
    starting,
)
from bench.local import execute, switch
from bench.pushing import push_1000, push_one
from bench.scale import first, latency, memory, reconcile_idle
from bench.table import Row, printed

MEASUREMENTS: dict[str, Callable[[int], list[Row]]] = {
    "push-one": push_one,
    "switch": switch,
    "exec": execute,
    "reconcile-idle": reconcile_idle,
    "first": first,
    "push-1000": push_1000,
    "memory": memory,
    "latency": latency,
    "growth": growth.measure,
    "kv": kv.measure,
    "kv-postgres": postgres_kv.measure,
    "dump": dump.measure,
    "fork": fork.measure,
    "move": moving.measure,
    "postgres": postgres.measure,
    "connect": connect.measure,
    "connect-first": connect.first,
    "connect-databases": connect_scale.databases,
    "connect-watches": connect_scale.watches,
    "dashboard": dashboard.measure,
    "routing": routing.measure,
    "starting": starting.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure ours against its peers, in turns.")
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="timed turns of each measurement (10)")
    parser.add_argument("--only", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="provisioner-bench-") as directory:
        tempfile.tempdir = directory
        for name, measure in MEASUREMENTS.items():
            if arguments.only in (None, name):
                print(f"measuring {name}", file=sys.stderr)
                rows += measure(arguments.runs)
    tempfile.tempdir = None
    print(f"{os.cpu_count()} cores, {sys.platform}, Python {sys.version.split()[0]}\n")
    print(printed(rows))


if __name__ == "__main__":
    main()
