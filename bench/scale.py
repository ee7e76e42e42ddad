"""Ten thousand branches: looking at them, provisioning them, remembering them; and hearing of one more."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from bench.table import Row, compared, milliseconds, quantile, spread
from bench.world import PROVISIONER, World, alternated, wait_until, world

MANY = 10_000


def reconcile_idle(runs: int) -> list[Row]:
    with world() as here:
        path = here.bare("many.git", here.repository("client"))
        here.branches(path, MANY)
        here.provisioner(path, "init")
        rows = []
        for form in ("loose", "packed"):
            if form == "packed":
                here.git(path, "pack-refs", "--all")
            mine, others = alternated(
                runs,
                lambda _: here.timed([PROVISIONER, "reconcile"], path),
                lambda _: here.timed(["git", "for-each-ref"], path),
            )
            here.must_be_connected(MANY + 1)
            rows.append(compared(f"reconcile-idle, {form}", mine, others, 5))
        return rows


def first(runs: int) -> list[Row]:
    from provisioner.kv.stores.sqlite.schema import empty_file

    with world() as here:
        path = here.bare("many.git", here.repository("client"))
        here.branches(path, MANY)

        def provisioned(turn: int) -> float:
            here.home = here.environ["PROVISIONER_HOME"] = os.path.join(here.path, f"home-{turn}")
            os.sync()
            took = here.timed([PROVISIONER, "init", "--no-hooks"], path)
            here.must_be_connected(MANY + 1)
            return took

        mine, others = alternated(runs, provisioned, lambda turn: _written(here, turn, empty_file()), warm=0)
        return [compared("first", mine, others, 1)]


def _written(here: World, turn: int, data: bytes) -> float:
    directory = os.path.join(here.path, f"files-{turn}")
    os.mkdir(directory)
    os.sync()
    started = time.perf_counter()
    for number in range(MANY):
        with open(os.path.join(directory, f"{number:05}"), "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
    return time.perf_counter() - started


def memory(_: int) -> list[Row]:
    with world() as here:
        path = here.bare("many.git", here.repository("client"))
        here.branches(path, MANY)
        here.provisioner(path, "init")
        with here.daemon() as daemon:
            here.git(here.path + "/client", "push", "--quiet", path, "main:refs/heads/one-more")
            wait_until(lambda: here.connected() == MANY + 2)
            ours = _resident(daemon.pid)
        bare = subprocess.Popen(
            [sys.executable, "-c", "import pygit2; print(flush=True); input()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert bare.stdout is not None
        bare.stdout.readline()
        peer = _resident(bare.pid)
        bare.communicate(b"\n")
        return [Row("memory (difference, MB)", f"{ours:.1f} MB", f"{peer:.1f} MB", ours - peer, 40)]


def _resident(pid: int) -> float:
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


def latency(_: int) -> list[Row]:
    """From the start of `git branch` to a row that says connected; only the watcher tells of it."""
    with world() as here:
        path = here.repository("ours")
        here.provisioner(path, "init", "--no-hooks")
        seconds = []
        with here.daemon():
            for number in range(100):
                time.sleep(0.02)
                started = time.perf_counter()
                here.timed(["git", "branch", f"new-{number}"], path)
                while here.connected() < number + 2:
                    time.sleep(0.0005)
                seconds.append(time.perf_counter() - started)
        shown = f"p50 {milliseconds(statistics.median(seconds))}, p99 {milliseconds(quantile(seconds, 0.99))}"
        return [Row("latency", f"{spread(seconds)}; {shown}", "-", None, None)]
