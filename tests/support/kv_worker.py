"""A process of its own on a database: `python kv_worker.py transfer|write|listen FILE …`. Each is described by its function."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from provisioner.kv import BigInt, Kv, KvEntry, open_kv
from provisioner.kv.errors import Closed

ACCOUNTS = 100
SUM = ACCOUNTS * 100
WRITERS = 16


def say(line: str) -> None:
    """One line in one system call, so that lines of several threads do not mix."""
    os.write(1, line.encode() + b"\n")


def at_the_end_of_input(what: Callable[[], object]) -> None:
    def wait() -> None:
        sys.stdin.read()
        what()

    threading.Thread(target=wait, daemon=True).start()


def transfer(kv: Kv, name: str) -> None:
    """What tests/kv_transfer.ts does, in Python."""
    over = threading.Event()
    at_the_end_of_input(over.set)
    seen: set[str] = set()
    commits = conflicts = sums = 0
    say("ready")
    while not over.is_set():
        one, other = random.sample(range(ACCOUNTS), 2)
        a, b = kv.get_many([("account", one), ("account", other)])
        seen |= {a.value["by"], b.value["by"]}
        amount = random.randrange(10)
        operation = kv.atomic().check(a, b).set(a.key, _account(a, -amount, name)).set(b.key, _account(b, amount, name))
        if operation.commit():
            commits += 1
        else:
            conflicts += 1
        if random.random() < 0.02:
            total = sum(entry.value["balance"] for entry in kv.list(("account",), batch_size=ACCOUNTS))
            assert total == SUM, f"the sum is {total}"
            sums += 1
    say(json.dumps({"commits": commits, "conflicts": conflicts, "sums": sums, "seen": sorted(seen)}))


def _account(entry: KvEntry[Any], amount: int, name: str) -> dict[str, Any]:
    return {"balance": entry.value["balance"] + amount, "by": name}


def write(kv: Kv) -> None:
    """Sixteen threads commit without end; each commit is said when it is acknowledged, as "thread number".

    A commit writes two halves and the last number, counts all of them, and checks the number before.
    """

    def run(thread: int) -> None:
        while True:
            last = kv.get(("last", thread))
            number = (last.value or 0) + 1
            done = (
                kv.atomic()
                .check(last)
                .set(("left", thread, number), os.urandom(random.randrange(500)))
                .sum(("count",), 1)
                .sum(("big",), BigInt(1))
                .set(("right", thread, number), number)
                .set(("last", thread), number)
                .commit()
            )
            assert done
            say(f"{thread} {number}")

    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def listen(kv: Kv, mode: str) -> None:
    """Say each message as JSON when its handler starts, and then take it ("take"), fail ("fail") or never end ("hold").

    With "meet" it takes them as well, but none before a line of input says that others listen, too.
    """
    others_listen = threading.Event()

    def steer() -> None:
        sys.stdin.readline()
        others_listen.set()
        sys.stdin.read()
        kv.close()

    threading.Thread(target=steer, daemon=True).start()

    def handle(message: Any) -> None:
        say(json.dumps(message))
        if mode == "fail":
            raise RuntimeError("as was asked for")
        if mode == "hold":
            threading.Event().wait()
        if mode == "meet":
            others_listen.wait()

    with suppress(Closed):  # the input may end before this begins
        kv.listen_queue(handle)


if __name__ == "__main__":
    work, path, *rest = sys.argv[1:]
    works: dict[str, Callable[..., None]] = {"transfer": transfer, "write": write, "listen": listen}
    works[work](open_kv(path), *rest)
