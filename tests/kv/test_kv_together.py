"""Several processes, Deno's and ours, on one file at the same time, some of which are killed.

Short in CI; with KV_NIGHTLY in the environment as long as the acceptance says.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from kv_files import integrity
from kv_oracle import Oracle
from kv_processes import NIGHTLY, deno, python, running, transferred
from kv_worker import ACCOUNTS, SUM, WRITERS

from provisioner.kv import open_kv

KILLS = 200 if NIGHTLY else 10


@pytest.mark.timeout(300)
def test_deno_and_python_transfer_at_once_and_the_sum_stays(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    commands = {f"deno-{n}": deno("kv_transfer.ts", path, f"deno-{n}") for n in range(4)}
    commands |= {f"python-{n}": python("transfer", path, f"python-{n}") for n in range(4)}
    with open_kv(path) as kv:
        for account in range(ACCOUNTS):
            kv.set(("account", account), {"balance": SUM // ACCOUNTS, "by": "nobody"})
        reports = transferred(kv, commands)
    assert integrity(path) == "ok"
    for name, report in reports.items():
        print(f"{name}: {report}")
        if NIGHTLY:  # on a machine that is busy, a process may find no turn in a few seconds
            assert report["commits"] > 0
            assert {"deno", "python"} <= {writer.split("-")[0] for writer in report["seen"]} - {name}
    seen = {writer.split("-")[0] for name, report in reports.items() for writer in report["seen"] if writer != name}
    assert {"deno", "python"} <= seen


def killed_writer(path: Path, acknowledgements: int) -> dict[int, int]:
    """Start writers, kill them after so many acknowledgements and a moment; the last acknowledged number of each."""
    last: dict[int, int] = {}
    with running(*python("write", path)) as process:
        assert process.stdout is not None
        lines = []
        for _ in range(acknowledgements):
            lines.append(process.stdout.readline())
        moment = time.perf_counter() + random.random() * 0.003
        while time.perf_counter() < moment:
            pass
        process.kill()
        rest, errors = process.communicate()
        assert not errors, errors
        for line in lines + rest.splitlines(keepends=True):
            if line.endswith("\n"):
                thread, number = map(int, line.split())
                assert number > last.get(thread, 0)
                last[thread] = number
    return last


@pytest.mark.timeout(900)
def test_no_acknowledged_commit_is_lost_and_no_half_stays_when_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    known = dict.fromkeys(range(WRITERS), 0)
    acknowledged = written = 0
    for _ in range(KILLS):
        last = killed_writer(path, random.randrange(1, 300))
        acknowledged += sum(number - known[thread] for thread, number in last.items())
        assert integrity(path) == "ok"
        with open_kv(path) as kv:
            for thread in range(WRITERS):
                stored = kv.get(("last", thread)).value or 0
                assert stored >= last.get(thread, known[thread]), "an acknowledged commit is lost"
                lefts = [entry.key[2] for entry in kv.list(("left", thread), start=("left", thread, known[thread] + 1))]
                rights = [
                    entry.value for entry in kv.list(("right", thread), start=("right", thread, known[thread] + 1))
                ]
                assert lefts == rights == list(range(known[thread] + 1, stored + 1)), "half of a commit"
                known[thread] = stored
            written = sum(known.values())
            assert int(kv.get(("count",)).value or 0) == int(kv.get(("big",)).value or 0) == written
    print(f"{KILLS} kills, {acknowledged} commits acknowledged, {written} written")
    with Oracle() as oracle:
        oracle.send("open", path=str(path))
        assert oracle.send("get", key=["count"])["value"] == {"$": "u64", "v": str(written)}


def test_a_watch_sees_what_deno_writes_within_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    took = []
    with Oracle() as oracle, open_kv(path) as kv:
        oracle.send("open", path=str(path))
        with kv.watch([("key",), ("other",)]) as watch:
            assert [entry.value for entry in next(watch)] == [None, None]
            for number in range(50):
                command = oracle.start("set", key=["key"], value=number)
                entry, _ = next(watch)
                seen = time.perf_counter()
                assert entry.value == number
                oracle.wait(command)
                again = oracle.start("set", key=["key"], value=str(number))
                stamp = oracle.wait(again)["versionstamp"]
                acknowledged = time.perf_counter()
                entry, _ = next(watch)
                took.append((time.perf_counter() - acknowledged) * 1000)
                assert (entry.value, entry.versionstamp) == (str(number), stamp), seen
    took.sort()
    print(f"seen after the acknowledgement: median {took[25]:.1f} ms, slowest {took[-1]:.1f} ms")
    assert took[25] < 50
