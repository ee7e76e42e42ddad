"""Whatever is done with git in whatever order: connected is what is there, and no live branch's data is touched."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from support import SETUPS, Setup, bare, branches, commit, git, got, ok, put, repository, until

from provisioner.operations import documents
from provisioner.registry.store import Registry
from provisioner.system.home import Home

pytestmark = pytest.mark.slow

Step = tuple[str, ...]
"""A verb of `LOCAL` or `PUSHES` and the branches it is about."""

NAMES = ("a", "a/b", "A", "修正", "feature-a", "feature.a")
LOCAL = {
    "create": "branch {}",
    "copy": "branch -c {} {}",
    "copy over": "branch -C {} {}",
    "delete": "branch -D {}",
    "delete two": "branch -D {} {}",
    "rename": "branch -m {} {}",
    "rename over": "branch -M {} {}",
    "force": "branch -f {} HEAD~1",
    "switch": "switch -q {}",
    "switch to new": "switch -q -c {}",
    "orphan": "checkout -q --orphan {}",
    "back": "switch -q main",
    "commit": "commit -q --allow-empty -m more",
    "amend": "commit -q --allow-empty --amend -m else",
    "pack": "pack-refs --all",
    "gc": "gc -q",
    "swap": "update-ref --stdin",
    "push": "push -q -f . main:refs/heads/{}",
    "push a deletion": "push -q . :refs/heads/{}",
    "push two": "push -q --atomic . main:refs/heads/{} :refs/heads/{}",
    "fetch": "fetch -q . main:{}",
    "worktree": "worktree add -q -b {} ../tree",
    "remove worktree": "worktree remove --force ../tree",
}
PUSHES = {
    "push": "push -q -f hub main:refs/heads/{}",
    "push a deletion": "push -q hub :refs/heads/{}",
    "push two": "push -q --atomic hub main:refs/heads/{} :refs/heads/{}",
    "push three": "push -q -f hub main:refs/heads/{} main:refs/heads/{} :refs/heads/{}",
    "commit": "commit -q --allow-empty -m more",
    "create here": "branch -f {}",
    "rename here": "branch -m {} {}",
    "delete here": "branch -D {}",
    "mirror": "push -q --mirror hub",
}
RENAMES = ("rename", "rename over")
NOT_ABOUT_DATA = (
    *("switch", "back", "copy over", "force", "commit", "amend", "pack", "gc", "push", "fetch", "remove worktree"),
    *("create here", "rename here", "delete here"),
)
"""What may be done to a branch that is there without anything having to happen to its databases."""
UNTOLD = ("copy", "copy over")
"""What git tells no hook of."""
NIGHTLY = "KV_NIGHTLY" in os.environ
MADE: list[list[Step]] = [
    [("create", "feature.a")],
    [("rename", "a", "A")],
    [("commit",), ("push", "修正"), ("pack",)],
    [("delete", "feature-a"), ("rename", "feature.a", "feature-a")],
    [("swap", "a", "A"), ("push a deletion", "修正")],
    [("rename over", "feature-a", "a")],
]
PUSHED: list[list[Step]] = [
    [("push", "A")],
    [("push three", "修正", "feature.a", "A")],
    [("push a deletion", "feature-a"), ("commit",), ("push", "feature-a")],
    [("create here", "feature.a"), ("rename here", "feature.a", "A"), ("mirror",)],
    [("push two", "feature.a", "A")],
]
"""Bursts of which git does each step."""


def bursts_of(commands: dict[str, str]) -> st.SearchStrategy[list[list[Step]]]:
    name = st.sampled_from(NAMES)
    # The first verb is the simplest one, which is tried alone: it creates a branch.
    step = st.sampled_from(list(commands)).flatmap(
        lambda verb: st.tuples(st.just(verb), *[name] * (2 if verb == "swap" else commands[verb].count("{}")))
    )
    fewest, most = (6, 14) if NIGHTLY else (3, 5)
    return st.lists(st.lists(step, min_size=1, max_size=4), min_size=fewest, max_size=most)


def run_step(clone: Path, commands: dict[str, str], step: Step) -> bool:
    """Did git do it?"""
    verb, *names = step
    stdin = ""
    if verb == "swap":
        stdin = f"start\ncreate refs/heads/{names[0]} main\ndelete refs/heads/{names[1]}\nprepare\ncommit\n"
    return git(clone, *commands[verb].format(*names).split(" "), check=False, stdin=stdin).returncode == 0


def connected_files(home: Path) -> dict[str, Path]:
    """The branches that are connected with their files: what `provisioner status` prints, without a process."""
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        return {
            row["branch"]: Path(database["path"])
            for row in documents.timelines(registry, app)
            for database in row["databases"]
            if database["status"] == "connected"
        }


@dataclass(slots=True)
class Expected:
    """What the databases hold, by branch, and what they may come to hold."""

    held: dict[str, str] = field(default_factory=dict)
    had: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    serial: Iterator[int] = field(default_factory=itertools.count)

    def mark(self, files: dict[str, Path], done: Sequence[Step] = ()) -> None:
        """Take over what is held, and put something unique into every database that is new.

        What was renamed in the steps that were `done`, and was then deleted, may come back under its last name.
        """
        for verb, *names in done:
            if verb in RENAMES:
                self.had[names[1]] |= self.had[names[0]]
        for branch, file in files.items():
            if not got(file):
                put(file, f"{branch} {next(self.serial)}")
            self.held[branch] = got(file)
            self.had[branch].add(self.held[branch])
        self.held = {branch: mark for branch, mark in self.held.items() if branch in files}

    def allows(self, held: dict[str, str], done: list[Step]) -> bool:
        """Is this what may be held after these steps of a burst? Where one was taken there is but one answer."""
        must = dict(self.held)
        if len(done) == 1 and done[0][0] in RENAMES and done[0][1] in must:  # an unborn branch can be renamed, too
            _, old, new = done[0]
            must[new] = must.pop(old)
        else:
            for verb, *names in done:
                for name in () if verb in NOT_ABOUT_DATA else names or NAMES:
                    must.pop(name, None)
        may = {branch: {"", *marks} for branch, marks in self.had.items()}
        for verb, *names in done:
            if verb in RENAMES:
                may[names[1]] = may.get(names[1], {""}) | may.get(names[0], {""})
        return all(
            mark == must[branch] if branch in must else mark in may.get(branch, {""}) for branch, mark in held.items()
        )


def examples(share: int) -> settings:
    """This part of the profile's examples, and at least the simplest one and three others."""
    return settings(
        max_examples=max(4, settings().max_examples // share),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@pytest.fixture
def new_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """A directory, with a home in it, for each example."""

    def make() -> Path:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        monkeypatch.setenv("PROVISIONER_HOME", str(place / "home"))
        return place

    return make


@pytest.mark.parametrize("noticed_by", SETUPS)
@examples(50)
@example(bursts=MADE)
@given(bursts=bursts_of(LOCAL))
def test_no_sequence_touches_the_data_of_a_live_branch(
    noticed_by: str, new_place: Callable[[], Path], bursts: list[list[Step]]
) -> None:
    """Each burst is done without anybody looking in between; then the connected timelines have to be the branches."""
    place = new_place()
    clone = repository(place / "shop", "a", "feature-a")
    commit(clone, "second")
    follow(noticed_by, place / "home", clone, lambda step: run_step(clone, LOCAL, step), bursts)


@pytest.mark.parametrize("noticed_by", SETUPS)
@examples(100)
@example(bursts=PUSHED)
@given(bursts=bursts_of(PUSHES))
def test_no_sequence_of_pushes_touches_the_data_of_a_live_branch(
    noticed_by: str, new_place: Callable[[], Path], bursts: list[list[Step]]
) -> None:
    place = new_place()
    clone = repository(place / "clone", "a", "feature-a")
    hub = bare(place / "hub.git", clone)
    follow(noticed_by, place / "home", hub, lambda step: run_step(clone, PUSHES, step), bursts)


def follow(noticed_by: str, home: Path, followed: Path, take: Callable[[Step], bool], bursts: list[list[Step]]) -> None:
    expected = Expected()
    with ExitStack() as stack:
        Setup(noticed_by, home, stack).begin(followed)
        expected.mark(connected_files(home))
        for burst in bursts:
            done = [step for step in burst if take(step)]
            assert done == burst or bursts not in (MADE, PUSHED)
            if noticed_by == "reconcile" or (noticed_by == "hooks" and any(verb in UNTOLD for verb, *_ in done)):
                ok(followed, "reconcile")
            until(lambda done=done: settled(followed, home, expected, done))  # type: ignore[misc]
            expected.mark(connected_files(home), done)
        ok(followed, "reconcile")
        assert settled(followed, home, expected, [])
    everything = [got(file) for file in home.glob("instances/*/*/*/kv.sqlite3")]
    assert Counter(filter(None, everything)) == Counter(set().union(*expected.had.values()))


def settled(followed: Path, home: Path, expected: Expected, done: list[Step]) -> bool:
    files = connected_files(home)
    if files.keys() != branches(followed):
        return False
    try:
        held = {branch: got(file) for branch, file in files.items()}
    except sqlite3.OperationalError:  # moved away since
        return False
    return expected.allows(held, done)
