"""Several processes, Deno's and ours, on one file at the same time, some of which are killed.

Short in CI; with KV_NIGHTLY in the environment as long as the acceptance says.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kv_files import integrity
from kv_oracle import Oracle
from kv_worker import ACCOUNTS, SUM, WRITERS
from paths import SUPPORT
from support import DENO

from provisioner.kv import Kv, open_kv

NIGHTLY = "KV_NIGHTLY" in os.environ
TRANSFERS_SECONDS = 60 if NIGHTLY else 5
KILLS = 200 if NIGHTLY else 10

Process = subprocess.Popen[str]


@contextmanager
def running(*command: str) -> Iterator[Process]:
    """A process with pipes, killed at the end if it is still there."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def python(work: str, path: Path | str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(SUPPORT / "kv_worker.py"), work, str(path), *arguments)


def deno(script: str, path: Path | str, *arguments: str) -> tuple[str, ...]:
    return (
        DENO,
        "run",
        "-A",
        "--quiet",
        "--no-check",
        "--no-config",
        "--unstable-kv",
        str(SUPPORT / script),
        str(path),
        *arguments,
    )


def total(kv: Kv) -> int:
    """The sum of all accounts in one snapshot."""
    return sum(entry.value["balance"] for entry in kv.list(("account",), batch_size=ACCOUNTS))


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


def transferred(kv: Kv, commands: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """What each process reports at its end. The sum is looked at all the while."""
    with ExitStack() as stack:
        processes = {name: stack.enter_context(running(*command)) for name, command in commands.items()}
        for process in processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        until = time.monotonic() + TRANSFERS_SECONDS
        while time.monotonic() < until:
            assert total(kv) == SUM
        reports = {}
        for name, process in processes.items():
            out, errors = process.communicate(timeout=60)
            assert process.returncode == 0, f"{name}: {errors}"
            reports[name] = json.loads(out)
        assert total(kv) == SUM
    return reports


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
