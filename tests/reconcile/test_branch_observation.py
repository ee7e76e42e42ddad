"""A look at a few branches decides what a look at the whole app decides about them, whatever git has done before."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from branch_oracle import NAMES, Model, Sequence
from support import commit, git, ok, repository

from provisioner.core.clock import now_ms
from provisioner.core.model import App
from provisioner.git.refs import read_branches, read_named
from provisioner.reconcile.branch_observation import observe_branches
from provisioner.reconcile.controller import look, reconcile
from provisioner.reconcile.plan.actions import Action, OpenTimeline, RenameTimeline
from provisioner.reconcile.plan.planner import plan
from provisioner.registry.store import Registry
from provisioner.system.home import Home

BURSTS = 400 if os.environ.get("KV_NIGHTLY") else 40
ENOUGH = 2
"""Plans with something in them, which agree."""
SEEDS = range(8 if os.environ.get("KV_NIGHTLY") else 2)
NO_NAMES = (
    b"",
    b"../main",
    b"../../HEAD",
    b"a..b",
    b".a",
    b"a/",
    b"-a",
    b"a.lock",
    b"a b",
    b"a\nb",
    b"HEAD",
    b"a" * 300,
)
"""Names that a false wake-up may have, which no branch has."""


def branch_of(action: Action) -> bytes:
    if isinstance(action, OpenTimeline):
        return action.branch
    return action.old.branch if isinstance(action, RenameTimeline) else action.timeline.branch


class World:
    """A registered repository to which git does things at random, with or without reflogs."""

    def __init__(self, place: Path, seed: int, *, logs: bool) -> None:
        self.dice, self.model = random.Random(seed), Model()
        self.home = Home(os.environ["PROVISIONER_HOME"])
        self.repo = repository(place / "shop")
        commit(self.repo, "second")
        self.second = git(self.repo, "rev-parse", "HEAD").stdout.strip()
        if not logs:
            git(self.repo, "config", "core.logAllRefUpdates", "false")
            shutil.rmtree(self.repo / ".git/logs")
        self.sequence = Sequence(self.dice, self.model, rewriting=logs)
        for name in ("a", "b", "t"):
            self.take(("branch", name, "main"))
        ok(self.repo, "init", "--no-hooks", "--grace", "0s")

    def take(self, step: tuple[str, ...]) -> None:
        if git(self.repo, *step, check=False).returncode == 0:
            self.model.apply(step)

    def branches(self) -> dict[bytes, str]:
        return read_branches(os.fsencode(self.repo / ".git"))

    def burst(self) -> list[bytes]:
        """Do something; what a wake-up may say of it: all that has changed, or some, and other names besides."""
        before = self.branches()
        if self.dice.random() < 0.4:  # what most pushes are
            name = self.dice.choice(["main", *sorted(self.model.there)])
            self.take(("update-ref", f"refs/heads/{name}", self.dice.choice(["main~1", "main", self.second])))
        else:
            for _ in range(self.dice.randint(1, 2)):
                for step in self.sequence.steps():
                    self.take(step)
        now = self.branches()
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        said = [name for name in changed if self.dice.random() < 0.8]
        if self.dice.random() < 0.3:
            said.append(self.dice.choice([b"main", *map(os.fsencode, NAMES)]))
        if self.dice.random() < 0.1:
            said.append(self.dice.choice(NO_NAMES))
        return list(dict.fromkeys(said))


def compared(registry: Registry, app: App, names: list[bytes]) -> str:
    """What came of comparing the two looks at these branches."""
    now = now_ms()
    whole = look(registry, app, now)
    seen = observe_branches(registry, app, now, names)
    if seen is None:
        return "the whole is needed"
    some = plan(seen.desired, seen.actual, now)
    theirs = [each for each in whole.actions if branch_of(each) in names]
    assert sorted(map(repr, some.actions)) == sorted(map(repr, theirs)), names
    return "something to do" if some.actions else "nothing to do"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("logs", [False, True], ids=["no logs", "logs"])
def test_whatever_git_did_both_looks_decide_the_same_about_the_branches_that_were_named(
    tmp_path: Path, home: Path, logs: bool, seed: int
) -> None:
    assert home
    world = World(tmp_path, seed, logs=logs)
    outcomes: Counter[str] = Counter()
    with Registry.open(world.home) as registry:
        (app,) = registry.apps()
        for burst in range(10 * BURSTS):
            if burst >= BURSTS and outcomes["something to do"] >= ENOUGH:  # how often depends on when git wrote what
                break
            names = world.burst()
            outcomes[compared(registry, app, names)] += 1
            match world.dice.choice(["some", "some", "whole", "nothing"]):
                case "some":
                    reconcile(registry, app, now_ms(), "test", branches=names)
                case "whole":
                    reconcile(registry, app, now_ms(), "test")
        outcome = reconcile(registry, app, now_ms(), "test")
        assert outcome.next_at is None or outcome.next_at > now_ms(), look(registry, app, now_ms())
        known = {item.branch for item in registry.timelines(app.id) if item.gone_at is None}
        assert known == world.branches().keys()
    print(dict(outcomes))
    assert outcomes["something to do"] >= ENOUGH
    assert outcomes["the whole is needed"]


def test_a_name_that_no_branch_can_have_reads_no_file(tmp_path: Path) -> None:
    """A wake-up may come from anywhere: what it names must not lead out of the branches."""
    repo = repository(tmp_path / "shop")
    git(repo, "update-ref", "refs/remotes/origin/x", "HEAD")
    git_dir = os.fsencode(repo / ".git")
    for name in (*NO_NAMES, b"../remotes/origin/x", b"x\0y"):
        assert not read_named(git_dir, [name])
    assert read_named(git_dir, [b"main", b"none"]) == read_branches(git_dir)


def test_a_ref_that_its_file_does_not_tell_is_left_to_git(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop")
    git_dir = os.fsencode(repo / ".git")
    git(repo, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    (repo / ".git/refs/heads/empty").write_text("")
    (repo / ".git/refs/heads/link").symlink_to("main")
    for name in (b"alias", b"empty", b"link"):
        assert read_named(git_dir, [b"main", name]) is None


def test_packed_and_loose_refs_are_found_by_their_names_as_git_lists_them(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "a", "a-b", "b/c", "b/cd", "修正")
    git(repo, "tag", "-a", "-m", "tagged", "v1")
    git(repo, "pack-refs", "--all")
    commit(repo, "second")
    git(repo, "branch", "-f", "b/c")
    git(repo, "branch", "-D", "a-b")
    git_dir = os.fsencode(repo / ".git")
    names = [b"main", b"a", b"a-b", b"b", b"b/c", b"b/cd", "修正".encode(), b"v1"]
    assert read_named(git_dir, names) == read_branches(git_dir)
