"""What a command costs with many branches, counted: rows read, statements, files, functions called.

A table of times is right on the day it is measured. These counts are the same on every machine, so they fail on the day
that somebody makes a command read all of an app's timelines to find one of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import counting
import pytest
from counting import Counts
from support import add_branches, bare, git, ok, repository

from provisioner.core.clock import now_ms
from provisioner.reconcile.controller import reconcile
from provisioner.registry.store import Registry
from provisioner.system.home import Home

pytestmark = pytest.mark.slow

FEW, MANY = 10, 1_000
SEARCHES = 50  # steps that searches may take longer among many rows; one step for each row is far more
ONE, NAME = "branch-00003", "NAME"

Worlds = dict[int, tuple[Path, Path]]
"""By their number of branches, a registered repository and its home."""

CONSTANT = {
    "timeline show": ("timeline", "show", ONE),
    "status of one branch": ("status", "--branch", ONE),
    "database show": ("database", "show", NAME),
    "database snapshot create": ("database", "snapshot", "create", ONE),
    "database snapshot list": ("database", "snapshot", "list", ONE),
    "database fork": ("database", "fork", ONE, "branch-00005", "--yes"),
    "database reset": ("database", "reset", "branch-00007", "--yes"),
    "env": ("env", "--branch", ONE),
}
"""Commands about one timeline: how many others there are must not matter."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Iterator[Worlds]:
    assert shared_home
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for count in (FEW, MANY):
            top = tmp_path_factory.mktemp(f"many-{count}")
            patch.setenv("PROVISIONER_HOME", str(top / "home"))
            repo = repository(top / "shop")
            add_branches(repo, *(f"branch-{number:05}" for number in range(count)))
            ok(repo, "init", "--no-hooks", "--grace", "0s")
            made[count] = repo, top / "home"
        yield made


def _grown(worlds: Worlds, *words: str) -> tuple[Counts, Counts]:
    """What a command costs in each, the second time: the first imports what it needs, and fills caches."""
    named = {count: [_named(home, word) for word in words] for count, (_, home) in worlds.items()}
    for count in (FEW, MANY):
        counting.command(*worlds[count], *named[count])
    base, many = (counting.command(*worlds[count], *named[count]) for count in (FEW, MANY))
    return base, many


def _named(home: Path, word: str) -> str:
    """The word, but the name of a branch's database where it is NAME."""
    if word != NAME:
        return word
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        question = "select name from database join timeline on timeline.id = timeline_id where branch = ?"
        return str(registry.execute(question, (ONE.encode(),)).fetchone()[0])


@pytest.mark.parametrize("words", CONSTANT.values(), ids=CONSTANT)
def test_a_command_about_one_branch_costs_the_same_among_ten_and_a_thousand(
    words: tuple[str, ...], worlds: Worlds
) -> None:
    base, many = _grown(worlds, *words)
    assert (many.statements, many.files) == (base.statements, base.files)
    assert many.steps <= base.steps * 1.1, (base, many)
    assert many.calls <= base.calls * 1.1, (base, many)


EACH = {
    "status": (("status",), Counts(statements=0, steps=150, files=4, calls=350)),
    "status --json": (("status", "--json"), Counts(statements=0, steps=150, files=6, calls=930)),
    "reconcile": (("reconcile",), Counts(statements=0, steps=250, files=4, calls=60)),
}
"""Commands about all timelines, with what one more of them may cost."""


@pytest.mark.parametrize(("words", "most"), EACH.values(), ids=EACH)
def test_a_command_about_all_branches_costs_little_for_each(
    words: tuple[str, ...], most: Counts, worlds: Worlds
) -> None:
    base, many = _grown(worlds, *words)
    grown, more = many.grown(base), MANY - FEW
    assert grown.statements <= most.statements * more
    assert grown.files <= most.files * more
    assert grown.steps <= most.steps * more
    assert grown.calls <= most.calls * more


RULES = {
    "rename": "empty",
    "fork of production": "fork:production",
    "fork of a branch": f"fork:{ONE}",
    "fork of the parent": "fork:parent",
}
"""What becomes of a branch that git makes or renames, and the rule for new branches by which it does."""


@pytest.mark.parametrize(("case", "rule"), RULES.items(), ids=RULES)
def test_a_branch_that_is_renamed_or_forked_reads_no_more_of_the_others_than_a_look_does(
    case: str, rule: str, worlds: Worlds
) -> None:
    """A look reads a line of each branch; what is done about one of them must not read any of the others again."""
    looks, costs = {}, {}
    for count, (repo, home) in worlds.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROVISIONER_HOME", str(home))
            ok(repo, "assign", "default", "--new-branch", rule, "--connect", "file")
        for turn in ("first", "second"):
            branch = f"{case}-{turn}".replace(" ", "-")
            git(repo, "branch", branch)
            counting.command(repo, home, "reconcile")
            looks[count] = counting.command(repo, home, "reconcile")
            git(repo, "branch", *(["-m", branch] if case == "rename" else []), f"{branch}-2")
            costs[count] = counting.command(repo, home, "reconcile").grown(looks[count])
    base, many = costs[FEW], costs[MANY]
    assert (many.statements, many.files) == (base.statements, base.files)
    if case == "rename":  # it is looked at once more, to see what follows from it
        base, many = base.grown(looks[FEW]), many.grown(looks[MANY])
    calls = (
        10 if case == "rename" else 1
    )  # that look goes through what it knows of all branches, and reads none of it again
    assert many.calls <= base.calls + calls * MANY, (base, many)
    assert many.steps <= base.steps + 10 * MANY, (base, many)  # the branches are counted, for the app's limit of them


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Iterator[Worlds]:
    """Bare repositories, which keep no reflogs, as people push to."""
    assert shared_home
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for count in (FEW, MANY):
            top = tmp_path_factory.mktemp(f"served-{count}")
            patch.setenv("PROVISIONER_HOME", str(top / "home"))
            repo = repository(top / "shop")
            served = bare(top / "shop.git", repo)
            add_branches(served, *(f"branch-{number:05}" for number in range(count)))
            git(served, "pack-refs", "--all")
            ok(served, "init", "--no-hooks", "--grace", "0s")
            made[count] = served, top / "home"
        yield made


PUSHES = {"new branch": "new-{}", "known branch": ONE, "production": "main"}


@pytest.mark.parametrize("name", PUSHES.values(), ids=PUSHES)
def test_what_is_done_about_a_pushed_branch_costs_the_same_among_ten_and_a_thousand(name: str, servers: Worlds) -> None:
    costs = {}
    for count, (repo, home) in servers.items():
        for turn in ("first", "second"):
            parent = git(repo, "rev-parse", "main").stdout.strip()
            made = git(repo, "commit-tree", "-m", turn, "-p", parent, "main^{tree}").stdout.strip()
            branch = name.format(turn)
            git(repo, "update-ref", f"refs/heads/{branch}", made)
            with counting.counting() as counts, Registry.open(Home(str(home))) as registry:
                (app,) = registry.apps()
                outcome = reconcile(registry, app, now_ms(), "test", branches=[branch.encode()])
            assert (outcome.actions, outcome.whole) == (1, False)
            costs[count] = counts
    base, many = costs[FEW], costs[MANY]
    assert (many.statements, many.files, many.calls) == (base.statements, base.files, base.calls), (base, many)
    assert many.steps <= base.steps + SEARCHES, (base, many)
