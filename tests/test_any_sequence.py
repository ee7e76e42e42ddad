"""Whatever is done with git in whatever order: connected is what is there, and no live branch's data is touched."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import SETUPS, Setup, branches, commit, git, got, ok, put, repository, until

from provisioner.cli import view
from provisioner.config import Home
from provisioner.registry.store import Registry

Step = tuple[str, ...]
"""A verb of `COMMANDS` and the branches it is about."""

NAMES = ("a", "a/b", "A", "修正", "feature-a", "feature.a")
COMMANDS = {
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
RENAMES = ("rename", "rename over")
NOT_ABOUT_DATA = ("switch", "copy over", "force", "push", "fetch")
"""What may be done to a branch that is there without anything having to happen to its databases."""

_name = st.sampled_from(NAMES)
_step = st.sampled_from(sorted(COMMANDS)).flatmap(
    lambda verb: st.tuples(st.just(verb), *[_name] * max(COMMANDS[verb].count("{}"), 2 * (verb == "swap")))
)
_bursts = st.lists(st.lists(_step, min_size=1, max_size=4), min_size=6, max_size=14)


def run_step(clone: Path, step: Step) -> bool:
    """Did git do it?"""
    verb, *names = step
    command = COMMANDS[verb].format(*names).split(" ")
    stdin = ""
    if verb == "swap":
        stdin = f"start\ncreate refs/heads/{names[0]} main\ndelete refs/heads/{names[1]}\nprepare\ncommit\n"
    return git(clone, *command, check=False, stdin=stdin).returncode == 0


def connected_files(home: Path) -> dict[str, Path]:
    """The branches that are connected with their files: what `provisioner status` prints, without a process."""
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        return {
            row["branch"]: Path(database["path"])
            for row in view.timelines(registry, app)
            for database in row["databases"]
            if database["status"] == "connected"
        }


@dataclass(slots=True)
class Expected:
    """What the databases hold, by branch, and what they may come to hold."""

    held: dict[str, str] = field(default_factory=dict)
    had: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    serial: Iterator[int] = field(default_factory=itertools.count)

    def mark(self, files: dict[str, Path]) -> None:
        """Take over what is held, and put something unique into every database that is new."""
        for branch, file in files.items():
            if not got(file):
                put(file, f"{branch} {next(self.serial)}")
            self.held[branch] = got(file)
            self.had[branch].add(self.held[branch])
        self.held = {branch: mark for branch, mark in self.held.items() if branch in files}

    def allows(self, held: dict[str, str], done: list[Step]) -> bool:
        """Is this what may be held after these steps of a burst? Where one was taken there is but one answer."""
        must = dict(self.held)
        if len(done) == 1 and done[0][0] in RENAMES:
            _, old, new = done[0]
            must[new] = must.pop(old)
        else:
            for name in (name for verb, *names in done for name in names if verb not in NOT_ABOUT_DATA):
                must.pop(name, None)
        may = {branch: {"", *marks} for branch, marks in self.had.items()}
        for verb, *names in done:
            if verb in RENAMES:
                may[names[1]] = may.get(names[1], {""}) | may.get(names[0], {""})
        return all(
            mark == must[branch] if branch in must else mark in may.get(branch, {""}) for branch, mark in held.items()
        )


@pytest.mark.parametrize("noticed_by", SETUPS)
@settings(
    max_examples=max(1, settings().max_examples // 10),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(bursts=_bursts)
def test_no_sequence_touches_the_data_of_a_live_branch(
    noticed_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bursts: list[list[Step]]
) -> None:
    """Each burst is done without anybody looking in between; then the connected timelines have to be the branches."""
    place = tmp_path / str(len(list(tmp_path.iterdir())))
    home = place / "home"
    monkeypatch.setenv("PROVISIONER_HOME", str(home))
    clone = repository(place / "shop", "a", "feature-a")
    commit(clone, "second")
    expected = Expected()
    with ExitStack() as stack:
        Setup(noticed_by, home, stack).begin(clone)
        expected.mark(connected_files(home))
        for burst in bursts:
            done = [step for step in burst if run_step(clone, step)]
            if noticed_by == "reconcile":
                ok(clone, "reconcile")
            until(lambda done=done: settled(clone, home, expected, done))  # type: ignore[misc]
            expected.mark(connected_files(home))
        ok(clone, "reconcile")
        assert settled(clone, home, expected, [])
    everything = [got(file) for file in home.glob("instances/*/*/*/kv.sqlite3")]
    assert Counter(filter(None, everything)) == Counter(set().union(*expected.had.values()))


def settled(clone: Path, home: Path, expected: Expected, done: list[Step]) -> bool:
    files = connected_files(home)
    if files.keys() != branches(clone):
        return False
    try:
        held = {branch: got(file) for branch, file in files.items()}
    except sqlite3.OperationalError:  # moved away since
        return False
    return expected.allows(held, done)
