"""The queue between processes: listeners that are killed, schedules that run out, and two that share the work."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kv_files import rows
from kv_oracle import Oracle
from kv_processes import NIGHTLY, Process, python, running
from support import until

from provisioner.kv import Kv, open_kv
from provisioner.kv.client.sync_client import open_store
from provisioner.kv.codec.value import from_v8, to_v8
from provisioner.kv.model import AtomicWrite, Enqueue
from provisioner.kv.rules.queue import PATIENCE

MESSAGES = 10_000 if NIGHTLY else 1_000


def heard(process: Process) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def meet(kv: Kv, *listeners: Process) -> None:
    """Have each of them handle a message at the same time as the others, and then go on: each of them listens."""
    for _ in listeners:
        kv.enqueue("meet")
    assert [heard(listener) for listener in listeners] == ["meet"] * len(listeners)
    for listener in listeners:
        assert listener.stdin is not None
        listener.stdin.write("all are there\n")


def nothing_left(path: Path) -> bool:
    return not rows(path, "queue") and not rows(path, "queue_running")


def test_a_message_comes_again_when_its_listener_is_killed_in_the_handler(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    with open_kv(path) as kv:
        kv.enqueue({"number": 1})
    with running(*python("listen", path, "hold")) as process:
        assert heard(process) == {"number": 1}
        assert len(rows(path, "queue_running")) == 1
        process.kill()
    killed = time.monotonic()
    with running(*python("listen", path, "take")) as process:
        assert heard(process) == {"number": 1}
        print(f"again after {time.monotonic() - killed:.1f} s")
        until(lambda: nothing_left(path))


def test_what_deno_held_when_it_was_killed_comes_to_us_after_a_minute(tmp_path: Path) -> None:
    """As late as Deno itself would look: it renews no deadline, so nobody can tell that it died."""
    path = tmp_path / "kv.sqlite3"
    with Oracle() as oracle:
        oracle.send("open", path=str(path))
        oracle.send("listen", name="it", mode="hang")
        oracle.send("enqueue", value="held")
        assert len(oracle.send("heard", name="it", count=1)) == 1
        oracle.kill()
    with closing(open_store(path)) as store:
        now = time.time_ns() // 1_000_000
        assert store.revive(now) == (0, now + PATIENCE)
        assert store.revive(now + PATIENCE - 1) == (0, now + PATIENCE)
        assert store.revive(now + PATIENCE) == (1, None)
        ((message,), _) = store.claim(now + PATIENCE + 100, 1)
        assert from_v8(message.payload) == "held"


def test_what_deno_handles_late_or_for_long_does_not_come_to_us_too(tmp_path: Path) -> None:
    """Deno counts the deadline from when the message was due: here it has passed before the handler starts."""
    path = tmp_path / "kv.sqlite3"
    due = time.time_ns() // 1_000_000 - 60_000
    with closing(open_store(path)) as store:
        store.write([AtomicWrite(enqueues=tuple(Enqueue(to_v8(number), due) for number in range(40)))])
    with Oracle() as oracle, running(*python("listen", path, "take")) as process:
        oracle.send("open", path=str(path))
        oracle.send("listen", name="it", mode="slow")
        until(lambda: nothing_left(path))
        theirs = [found["message"] for found in oracle.send("heard", name="it", count=0)]
        lines, errors = process.communicate()
        assert process.returncode == 0, errors
        ours = [json.loads(line) for line in lines.splitlines()]
    assert sorted(theirs + ours) == list(range(40))


def test_what_we_held_when_we_were_killed_comes_to_deno(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    with open_kv(path) as kv:
        kv.enqueue("held")
    with running(*python("listen", path, "hold")) as process:
        assert heard(process) == "held"
        process.kill()
    # Deno looks for what others left behind when it opens the file, and then once a minute
    until(lambda: rows(path, "queue_running")[0]["deadline"] < time.time() * 1000)
    with Oracle() as oracle:
        oracle.send("open", path=str(path))
        oracle.send("listen", name="it", mode="ok")
        assert [found["message"] for found in oracle.send("heard", name="it", count=1)] == ["held"]
        until(lambda: nothing_left(path))


def test_a_message_that_is_handled_for_long_comes_to_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    with open_kv(path) as kv, running(*python("listen", path, "hold")) as holding:
        kv.enqueue("first")
        assert heard(holding) == "first"
        (before,) = rows(path, "queue_running")
        with running(*python("listen", path, "take")) as taking:
            kv.enqueue("second")
            assert heard(taking) == "second"
            until(lambda: time.time() * 1000 > before["deadline"] + 1000)
            kv.enqueue("third")
            assert heard(taking) == "third"
            until(lambda: len(rows(path, "queue_running")) == 1)
            (after,) = rows(path, "queue_running")
            assert after["deadline"] > before["deadline"]


def test_a_message_whose_schedule_runs_out_is_stored_under_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    with open_kv(path) as kv, running(*python("listen", path, "fail")) as process:
        started = time.monotonic()
        kv.enqueue([1, "x"], backoff_schedule=[10, 200], keys_if_undelivered=[("dead", 1), ("dead", 2)])
        assert [heard(process) for _ in range(3)] == [[1, "x"]] * 3
        assert time.monotonic() - started >= 0.2
        until(lambda: kv.get(("dead", 2)).value is not None)
        entries = kv.get_many([("dead", 1), ("dead", 2)])
        assert [entry.value for entry in entries] == [[1, "x"]] * 2
        assert entries[0].versionstamp == entries[1].versionstamp
        assert nothing_left(path)
    with Oracle() as oracle:
        oracle.send("open", path=str(path))
        assert oracle.send("get", key=["dead", 1])["value"] == [1, "x"]


@pytest.mark.timeout(600)
def test_two_listeners_handle_every_message_and_none_twice(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    counts = []
    with (
        open_kv(path) as kv,
        running(*python("listen", path, "meet")) as one,
        running(*python("listen", path, "meet")) as other,
    ):
        meet(kv, one, other)
        started = time.monotonic()
        for at in range(0, MESSAGES, 100):
            operation = kv.atomic()
            for number in range(at, min(at + 100, MESSAGES)):
                operation.enqueue(number)
            assert operation.commit()
        until(lambda: nothing_left(path), seconds=500)
        took = time.monotonic() - started
        handled: list[int] = []
        for process in (one, other):
            lines, errors = process.communicate()
            assert process.returncode == 0, errors
            numbers = [json.loads(line) for line in lines.splitlines()]
            counts.append(len(numbers))
            handled += numbers
    print(f"{MESSAGES} messages in {took:.1f} s by two listeners: {counts}")
    assert Counter(handled) == Counter(range(MESSAGES))


def test_deno_and_we_listen_on_one_queue(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    with Oracle() as oracle, open_kv(path) as kv, running(*python("listen", path, "take")) as process:
        kv.enqueue(0)
        ours = [heard(process)]  # it listens, and Deno may be the faster one from now on
        oracle.send("open", path=str(path))
        oracle.send("listen", name="it", mode="ok")
        for number in range(1, 60):
            if number % 2:
                kv.enqueue(number)
            else:
                oracle.send("enqueue", value=number)
        until(lambda: nothing_left(path))
        theirs = [found["message"] for found in oracle.send("heard", name="it", count=0)]
        lines, errors = process.communicate()
        assert process.returncode == 0, errors
        ours += [json.loads(line) for line in lines.splitlines()]
    print(f"Deno heard {len(theirs)}, ours {len(ours)}")
    assert sorted(theirs + ours) == list(range(60))
