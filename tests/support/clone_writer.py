"""A process that makes transfers without end: `python clone_writer.py DATABASE COUNTERS NUMBER`, until its input ends.

The writer's n-th commit moves money, and puts n under ("last", writer) and a row at ("log", writer, n). COUNTERS holds two
64-bit numbers a writer: which commit it has begun, and which was acknowledged. At the end it says how many milliseconds
its longest commit took.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time

from provisioner.kv import open_kv

ACCOUNTS = 100
BALANCE = 100


def main(path: str, counters: str, writer: int) -> None:
    over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(over,), daemon=True).start()
    progress = os.open(counters, os.O_WRONLY)

    def report(place: int, number: int) -> None:
        os.pwrite(progress, number.to_bytes(8, "little"), (2 * writer + place) * 8)

    longest = 0.0
    number = 1
    with open_kv(path) as kv:
        print("ready", flush=True)
        report(0, number)
        while not over.is_set():
            one, other = random.sample(range(ACCOUNTS), 2)
            a, b = kv.get_many([("account", one), ("account", other)])
            since = time.perf_counter()
            done = (
                kv.atomic()
                .check(a, b)
                .set(a.key, a.value - 1)
                .set(b.key, b.value + 1)
                .set(("last", writer), number)
                .set(("log", writer, number), os.urandom(random.randrange(2000)))
                .commit()
            )
            longest = max(longest, time.perf_counter() - since)
            if done:
                report(1, number)
                number += 1
                report(0, number)
    print(longest * 1000)


def _wait_for_the_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
