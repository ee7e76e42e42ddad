"""Random sequences of what git can do to branches: each sees the data of its own lineage or none, never another's."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from branch_oracle import REWRITING, Model, Sequence, Step, use_reftable
from git_clock import CLOCKS, Clock
from git_file_steps import FILE_STEPS
from support import commit, daemon, git, got, ok, put, repository

from provisioner.core.clock import now_ms
from provisioner.git import anchors, reflog
from provisioner.operations import documents
from provisioner.reconcile import branch_identity
from provisioner.reconcile.controller import reconcile
from provisioner.registry.store import Registry
from provisioner.system.home import Home

NIGHTLY = bool(os.environ.get("KV_NIGHTLY"))
SEQUENCES = 2000 if NIGHTLY else 60
WITH_A_DAEMON = 100 if NIGHTLY else 3
BATCH = 20


class World:
    """A registered repository, with the model of its branches beside it."""

    def __init__(
        self,
        place: Path,
        seed: int,
        *,
        rewriting: bool,
        losing: bool = False,
        watched: bool = False,
        anchored: bool = True,
    ) -> None:
        self.watched, self.anchored = watched, anchored
        self.dice = random.Random(seed)
        self.home = Home(os.environ["PROVISIONER_HOME"])
        self.name = f"shop-{seed}"
        self.repo = repository(place / self.name)
        commit(self.repo, "second")
        self.model = Model()
        self.clock = Clock(CLOCKS[seed % len(CLOCKS)], self.dice, int(time.time()) - 100)
        self.sequence = Sequence(self.dice, self.model, rewriting=rewriting, losing=losing)
        self.marks = (f"{seed}-{number}" for number in range(10**6))
        self.given: set[str] = set()
        self.withheld = 0
        for name in ("a", "b", "t"):
            self.take(("branch", name, "main"))
        ok(self.repo, "init", "--no-hooks", "--name", self.name, "--grace", self.dice.choice(["0s", "1h"]))
        self.burst: list[Step] = []
        self.check()

    def take(self, step: Step) -> None:
        if change := FILE_STEPS.get(step[0]):
            change(self.repo / ".git")
            self.model.apply(step)
            return
        done = git(self.repo, *step, check=False, add=self.clock.environment())
        if done.returncode == 0:
            self.model.apply(step)

    def run(self, bursts: int, look: Callable[[], None]) -> None:
        for _ in range(bursts):
            self.burst = []
            for _ in range(self.dice.randint(1, 4)):
                for step in self.sequence.steps():
                    self.burst.append(step)
                    self.take(step)
            look()
            self.check()

    def look(self) -> None:
        with Registry.open(self.home) as registry:
            app = next(app for app in registry.apps() if app.slug == self.name)
            reconcile(registry, app, now_ms(), "test")

    def files(self) -> dict[str, Path]:
        with Registry.open(self.home) as registry:
            app = next(app for app in registry.apps() if app.slug == self.name)
            return {
                row["branch"]: Path(database["path"])
                for row in documents.timelines(registry, app)
                for database in row["databases"]
                if database["status"] == "connected" and row["branch"] != "main"
            }

    def check(self) -> None:
        """Each branch sees its own mark, or that of one that has ended under its name; a new one sees nothing else."""
        rewritten = not self.anchored or any(step[0] in REWRITING for step in self.burst)
        all_logged = all(lineage.logged for lineage in (*self.model.there.values(), *self.model.ended))
        files = self.files()
        seen = {name: got(file) for name, file in files.items() if name in self.model.there}
        marks = [mark for mark in seen.values() if mark]
        assert len(marks) == len(set(marks)), self.story("two branches see one mark", seen)
        for name, lineage in self.model.there.items():
            mark = seen.get(name)
            if lineage.mark and (mark or not (rewritten or not lineage.logged)):
                assert mark == lineage.mark, self.story(f"{name} sees {mark!r} instead of {lineage.mark!r}", seen)
            elif lineage.mark:
                self.withheld += 1  # git does not show it: no branch gets it
                lineage.mark = ""
            elif mark:
                allowed = self.model.may_come_back(lineage, logs_rewritten=rewritten, watched=self.watched)
                assert mark in allowed, self.story(f"{name}, which is new, sees {mark!r}", seen)
        for name, lineage in self.model.there.items():
            doubtful = (
                rewritten or not all_logged or any(gone.unclear and gone.ended == name for gone in self.model.ended)
            )
            lineage.unclear |= doubtful and name not in files
            assert name in files or lineage.unclear, self.story(f"{name} is not connected", seen)
            if name in files and not seen[name]:
                put(files[name], next(self.marks))
            lineage.mark = got(files[name]) if name in files else ""
            self.given |= {lineage.mark} - {""}
            self.model.ended = [gone for gone in self.model.ended if gone.mark != lineage.mark or not gone.mark]
        self.model.looked(logs_rewritten=rewritten)

    def story(self, what: str, seen: dict[str, str]) -> str:
        lines = [f"{self.name} ({self.clock.kind}): {what}", f"seen: {seen}"]
        lines += [f"{name}: {lineage}" for name, lineage in self.model.there.items()]
        lines += [f"ended: {lineage}" for lineage in self.model.ended]
        return "\n".join([*lines, *(" ".join(step) for step in self.burst)])

    def nothing_lost(self) -> None:
        held = {got(file) for file in Path(self.home.path).glob("instances/*/*/*/kv.sqlite3")}
        assert self.given <= held


def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> Path:
    """A directory with a home of its own."""
    place = tmp_path / str(number)
    place.mkdir()
    monkeypatch.setenv("PROVISIONER_HOME", str(place / "home"))
    return place


@pytest.mark.parametrize(
    ("seed", "rewriting"), [(1227, False), (40026, False), (5032, True), (5046, True), (60052, True)]
)
def test_no_sequence_that_once_did_gives_a_branch_the_data_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, rewriting: bool
) -> None:
    world = World(fresh(tmp_path, monkeypatch, seed), seed, rewriting=rewriting)
    world.run(5, world.look)
    world.nothing_lost()


@pytest.mark.parametrize("batch", range(SEQUENCES // BATCH))
@pytest.mark.parametrize("rewriting", [False, True], ids=["logs kept", "logs rewritten"])
def test_no_sequence_gives_a_branch_the_data_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, rewriting: bool
) -> None:
    withheld = checks = 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH)[:: 1 if NIGHTLY else 4]:
        world = World(fresh(tmp_path, monkeypatch, seed), seed, rewriting=rewriting)
        world.run(5, world.look)
        world.nothing_lost()
        withheld += world.withheld
        checks += len(world.given)
    print(f"{checks} marks, {withheld} withheld")
    assert withheld * 3 <= checks


@pytest.mark.parametrize("batch", range(SEQUENCES // BATCH))
def test_no_sequence_does_if_logs_are_lost_and_files_are_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    given = 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH)[:: 1 if NIGHTLY else 4]:
        world = World(fresh(tmp_path, monkeypatch, seed), seed, rewriting=True, losing=True)
        world.run(5, world.look)
        world.nothing_lost()
        given += len(world.given) - world.withheld
    assert given > 0


@pytest.mark.parametrize("seed", range(WITH_A_DAEMON))
def test_no_sequence_does_beside_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path, seed: int
) -> None:
    with ExitStack() as stack:
        world = World(tmp_path, seed, rewriting=False, watched=True)
        stack.enter_context(daemon(home))
        world.run(5, world.look)
        world.nothing_lost()


@pytest.mark.parametrize("rewriting", [False, True], ids=["logs kept", "logs rewritten"])
@pytest.mark.parametrize("stored", ["files", "reftable"])
def test_no_sequence_does_without_anchors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str, rewriting: bool
) -> None:
    """As in a reftable, which has no files of logs: git itself is asked for them."""
    if stored == "reftable":
        use_reftable(monkeypatch)
    for module in (reflog, anchors, branch_identity) if stored == "files" else ():
        monkeypatch.setattr(module, "in_reftable", lambda _: True)
    for seed in range(200 if NIGHTLY else 2):
        world = World(fresh(tmp_path, monkeypatch, seed), seed, rewriting=rewriting, anchored=False)
        world.run(5, world.look)
        world.nothing_lost()
