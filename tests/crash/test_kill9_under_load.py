"""Daemons and hooks that are killed at any instant of a busy day leave nothing that one reconcile does not put right."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from support import add_branches, bare, branches, connected, files, git, got, numbers, ok, put, repository, until

MARKED = [f"{fate}-{number}" for fate in ("kept", "moving", "gone") for number in range(6)]


@pytest.fixture
def chance() -> random.Random:
    """The same for all workers of a run, another in the next."""
    return numbers("load")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A local clone and the bare repository that it pushes to; each database holds the name of its branch."""
    clone = repository(tmp_path / "clone", *MARKED)
    hub = bare(tmp_path / "hub.git", clone)
    for place in (clone, hub):
        ok(place, "init", "--grace", "0s", "--name", place.name.partition(".")[0])
        for branch, file in files(place).items():
            put(file, f"{place.name} {branch}")
    return clone


class Writing:
    """Apps that write all the time; `acknowledged` says of each file how many rows it was told are written."""

    def __init__(self, chosen: list[Path]) -> None:
        self.acknowledged: Counter[Path] = Counter()
        self._chosen = chosen
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        while not self._stopping.is_set():
            for file in self._chosen:
                key = b"row %d" % self.acknowledged[file]
                with closing(sqlite3.connect(file, timeout=60)) as connection, connection:
                    connection.execute("insert into kv (k, v, v_encoding, version) values (?, 'v', 2, 1)", (key,))
                self.acknowledged[file] += 1

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join()


def rows_in(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        found: int = connection.execute("select count(*) from kv where substr(k, 1, 3) = ?", (b"row",)).fetchone()[0]
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    return found


def churn(clone: Path, turn: int) -> None:
    """Branches come, go and move, here and by pushes; every push succeeds whatever happens to hooks and daemon."""
    fresh = [f"turn-{turn}/{number}" for number in range(40)]
    add_branches(clone, *fresh)
    git(clone, "branch", "-m", f"moving-{turn}", f"moved-{turn}")
    git(clone, "branch", "-D", f"gone-{turn}", *fresh[:20])
    refs = [*(f"main:{name}" for name in fresh), f":gone-{turn}"]
    git(clone, "push", "-q", "hub", *refs)
    git(clone, "push", "-q", "hub", *(f":{name}" for name in fresh[20:]))


def check(home: Path, clone: Path, writing: Writing) -> None:
    for place in (clone, clone.parent / "hub.git"):
        ok(place, "reconcile")
        assert connected(place) == branches(place)
        held = {branch: got(file) for branch, file in files(place).items()}
        expected = {branch: f"{place.name} {branch}" for branch in branches(place) & {"main", *MARKED}}
        if place == clone:
            expected |= {f"moved-{number}": f"clone moving-{number}" for number in range(6)}
        assert {branch: mark for branch, mark in held.items() if mark} == expected
    everything = Counter(got(file) for file in home.glob("instances/*/*/*/kv.sqlite3"))
    del everything[""]
    assert everything == Counter(f"{place} {branch}" for place in ("clone", "hub.git") for branch in ("main", *MARKED))
    assert {file: rows_in(file) for file in writing.acknowledged} == writing.acknowledged


def writing_to_kept(clone: Path) -> Writing:
    both = [files(clone), files(clone.parent / "hub.git")]
    return Writing([found[f"kept-{number}"] for found in both for number in range(3)])


def in_the_background(clone: Path) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            for turn in range(6):
                churn(clone, turn)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_a_busy_daemon_is_killed_at_random_instants(home: Path, clone: Path, chance: random.Random) -> None:
    writing = writing_to_kept(clone)
    with writing.going_on():
        work, failures = in_the_background(clone)
        kills = 0
        while work.is_alive():
            daemon = subprocess.Popen(["provisioner", "watch"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                daemon.wait(chance.uniform(0.2, 1.5))
            except subprocess.TimeoutExpired:
                daemon.kill()
                kills += 1
            daemon.wait()
        work.join()
    assert failures == []
    assert kills > 0
    check(home, clone, writing)


def hook_processes(home: Path) -> list[int]:
    """What git's hooks have started for this home, however far away from git it is by now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(home) in command and any(part.endswith(b"/handover.py") for part in command):
                found.append(int(process.name))
    return found


def test_hooks_are_killed_at_random_instants(home: Path, clone: Path, chance: random.Random) -> None:
    writing = writing_to_kept(clone)
    with writing.going_on():
        work, failures = in_the_background(clone)
        kills = 0
        while work.is_alive():
            until(lambda: hook_processes(home) or not work.is_alive())
            work.join(chance.uniform(0.0, 0.6))
            for number in hook_processes(home):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
                    kills += 1
        work.join()
    assert failures == []
    assert kills > 0
    until(lambda: not hook_processes(home))
    check(home, clone, writing)
