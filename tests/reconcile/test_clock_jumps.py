"""Nothing is deleted because a clock was set: what waits for its deletion waits by two clocks, and one only runs forward."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import add_branches, database_of, git, ok, provisioner, repository, shop

from provisioner.core.clock import now_ms
from provisioner.core.model import App, Status
from provisioner.reconcile.controller import reconcile
from provisioner.registry.home import observed_time
from provisioner.registry.store import Registry
from provisioner.system import uptime
from provisioner.system.home import Home
from provisioner.system.uptime import Reading

DAY = 86_400_000
RETENTION = 7 * DAY
YEARS = 3_650 * DAY
ENOUGH = 300 if os.environ.get("KV_NIGHTLY") else 15


@dataclass
class Machine:
    """A wall clock that anyone sets, and a clock of each boot that only runs forward."""

    wall: int = field(default_factory=now_ms)
    boot: str = ""
    up: int = 0

    def reading(self) -> Reading:
        return Reading(self.boot, self.up)

    def run(self, passed: int) -> None:
        self.wall += passed
        self.up += passed

    def reboot(self) -> None:
        self.boot, self.up = f"{self.boot}'", 5_000


@dataclass
class World:
    """An app with one archived database, whose data is where `kept` is."""

    registry: Registry
    app: App
    machine: Machine
    database_id: str
    branch: str

    @property
    def kept(self) -> Path:
        return Path(self.registry.home.path) / "instances/default/archive" / self.database_id

    def look(self) -> None:
        reconcile(self.registry, self.app, self.machine.wall, "test")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    """A registered repository, whose archived data is kept for seven days."""
    assert shared_home
    repo = repository(tmp_path_factory.mktemp("clocks") / "shop")
    ok(repo, "init", "--no-hooks", "--grace", "0s", "--retention", "7d")
    return repo


_numbers = itertools.count()


@contextmanager
def archived(repo: Path, home: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A branch that had data, and is gone; on a machine that has just been started."""
    number = next(_numbers)
    machine.boot = f"boot-{number}"
    branch = f"branch-{number}"
    add_branches(repo, branch)
    with monkeypatch.context() as patch, Registry.open(Home(str(home))) as registry:
        patch.setattr(uptime, "reading", machine.reading)
        (app,) = registry.apps()
        reconcile(registry, app, machine.wall, "test")
        git(repo, "branch", "-D", branch)
        reconcile(registry, app, machine.wall, "test")
        (timeline,) = registry.timelines_where("branch = ?", branch.encode())
        (found,) = registry.databases_where("timeline_id = ?", timeline.id)
        assert found.status is Status.ARCHIVED
        yield World(registry, app, machine, found.id, branch)


@pytest.fixture
def world(repo: Path, shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with archived(repo, shared_home, Machine(), monkeypatch) as made:
        yield made


@pytest.mark.parametrize("jump", [YEARS, -YEARS, 8 * DAY], ids=["years on", "years back", "a bit on"])
def test_a_clock_that_jumps_deletes_nothing(world: World, jump: int) -> None:
    world.machine.wall += jump
    for _ in range(5):
        world.look()
        world.machine.run(60_000)
    assert world.kept.is_dir()


def test_what_has_waited_by_both_clocks_is_deleted(world: World) -> None:
    for _ in range(8):
        world.look()
        world.machine.run(DAY)
    world.look()
    assert not world.kept.is_dir()


def test_a_branch_that_is_back_after_a_jump_has_its_data(repo: Path, world: World) -> None:
    world.machine.wall += YEARS
    world.look()
    add_branches(repo, world.branch)
    world.look()
    (row,) = world.registry.databases_where("id = ?", world.database_id)
    assert row.status is Status.CONNECTED


def test_time_that_no_one_looked_after_the_home_does_not_count(world: World) -> None:
    world.machine.run(300 * DAY)
    world.look()
    assert world.kept.is_dir()
    world.machine.reboot()
    world.machine.up += 300 * DAY
    world.look()
    assert world.kept.is_dir()


def test_a_registry_that_is_restored_deletes_nothing(world: World) -> None:
    for _ in range(6):
        world.look()
        world.machine.run(DAY)
    home = Path(world.registry.home.path)
    world.registry.rows("pragma wal_checkpoint(truncate)")
    backup = home.with_name("backup.db")
    shutil.copyfile(home / "registry.db", backup)
    world.machine.run(30 * DAY)
    world.registry.close()
    for name in ("registry.db-wal", "registry.db-shm"):
        (home / name).unlink(missing_ok=True)
    shutil.copyfile(backup, home / "registry.db")
    with Registry.open(Home(str(home))) as registry:
        for _ in range(3):
            reconcile(registry, world.app, world.machine.wall, "test")
    assert world.kept.is_dir()


steps = st.one_of(
    st.tuples(st.just("jump"), st.integers(-YEARS, YEARS)),
    st.tuples(st.just("run"), st.sampled_from([0, 1_000, DAY // 2, DAY, DAY, DAY, 2 * DAY, 40 * DAY])),
    st.tuples(st.just("sleep"), st.integers(0, YEARS)),
    st.tuples(st.just("reboot"), st.just(0)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("look"), st.just(0)),
)


@settings(max_examples=ENOUGH, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(taken=st.lists(steps, min_size=5, max_size=40))
def test_whatever_clocks_do_it_is_kept_for_as_long_as_it_should_be(
    repo: Path, shared_home: Path, monkeypatch: pytest.MonkeyPatch, taken: list[tuple[str, int]]
) -> None:
    machine = Machine()
    with archived(repo, shared_home, machine, monkeypatch) as world:
        looked, waited = machine.reading(), 0
        for step, amount in taken:
            match step:
                case "jump":
                    machine.wall += amount
                case "run":
                    machine.run(amount)
                case "sleep":  # the wall clock goes on
                    machine.wall += amount
                case "reboot":
                    machine.reboot()
                case _:
                    passed = machine.up - looked.ms if looked.boot == machine.boot else 0
                    waited += passed if passed <= observed_time.LONGEST_GAP_MS else 0
                    looked = machine.reading()
                    world.look()
                    assert world.kept.is_dir() or waited >= RETENTION, waited / DAY


def test_a_person_may_delete_what_has_not_waited_for_long_enough(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login", "cart", options=("--grace", "0s", "--retention", "7d"))
    for branch in ("login", "cart"):
        git(repo, "branch", "-D", branch)
    ok(repo, "reconcile")
    name = database_of(repo, "git-branch/login")["name"]
    assert "Nothing to prune" in ok(repo, "prune", "--yes")
    ok(repo, "database", "purge", name, "--yes")
    with Registry.open(Home(os.environ["PROVISIONER_HOME"])) as registry:
        (app,) = registry.apps()
        (left,) = [item for item in registry.databases(app.id) if item.status is Status.ARCHIVED]
        registry.write("update database set archived_at = 1, purge_at = 2 where id = ?", left.id)
    ok(repo, "reconcile")
    assert database_of(repo, "git-branch/cart")["status"] == "archived"
    done = provisioner(repo, "prune", "--yes")
    assert "deleted 1" in done.stdout, done
    with Registry.open(Home(os.environ["PROVISIONER_HOME"])) as registry:
        assert [item.status for item in registry.databases(app.id)] == [Status.CONNECTED]
