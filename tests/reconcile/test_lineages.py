"""Data belongs to a branch, not to its name: what git shows of which branch is which, and what happens if it does not."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import add_branches, commit, daemon, events, files, git, got, ok, provisioner, put, repository, until

from provisioner.core.clock import now_ms
from provisioner.core.ids import AppId
from provisioner.git import anchors, reflog
from provisioner.git.lineage import anchors_directory, unchanged
from provisioner.reconcile.controller import look
from provisioner.reconcile.plan.actions import OpenTimeline, UpdateTimeline
from provisioner.registry.store import Registry
from provisioner.system.home import Home

Held = dict[str, str]

CLOCKS: dict[str, Callable[[int], dict[str, str]]] = {
    "running": lambda _: {},
    "standing": lambda _: {"GIT_COMMITTER_DATE": f"{int(time.time()) - 1000} +0000"},
    "slow": lambda turn: {"GIT_COMMITTER_DATE": f"{int(time.time()) - 1000 + 60 * turn} +0000"},
    "going back": lambda turn: {"GIT_COMMITTER_DATE": f"{int(time.time()) - 1000 - 5 * turn} +0000"},
}
"""What git takes for the time, by the number of the command."""

CASES: dict[str, tuple[str, tuple[str, ...], Held]] = {
    "a new branch under the old name": ("p", ("n", "-m n tmp", "-m p n", "-m tmp p"), {"n": "p", "p": ""}),
    "two that left one name": ("t", ("-m t zz", "t", "-m t aa"), {"zz": "t", "aa": ""}),
    "a copy that is renamed": ("a", ("-m a z", "-c z a", "-m a b"), {"z": "a", "b": ""}),
    "a swap": ("p q", ("-m p tmp", "-m q p", "-m tmp q"), {"p": "q", "q": "p"}),
    "a cycle": ("a b c", ("-m c tmp", "-m b c", "-m a b", "-m tmp a"), {"a": "c", "b": "a", "c": "b"}),
    "a chain": ("a", ("-m a b", "-m b c", "-m c d"), {"d": "a"}),
    "made again after it was renamed": ("a", ("-m a b", "a"), {"a": "", "b": "a"}),
    "renamed, and deleted under that name": ("a", ("-m a b", "-D b", "a"), {"a": ""}),
    "deleted, and another one renamed to it": ("a b", ("-D a", "-m b a"), {"a": "b"}),
    "overwritten, and made again elsewhere": ("a b", ("-M a b", "a"), {"b": "a", "a": ""}),
    "made again, renamed and back": ("a", ("-m a b", "a", "-m a c", "-m b a"), {"a": "a", "c": ""}),
    "copied over": ("a b", ("-C a b",), {"a": "a", "b": "b"}),
    "deleted and made again": ("a", ("-D a", "a"), {"a": "a"}),
}


@pytest.fixture
def shop(tmp_path: Path) -> Callable[[str], Path]:
    """A registered repository with branches whose databases hold their names."""

    def make(names: str, *options: str) -> Path:
        repo = repository(tmp_path / "shop", *names.split())
        ok(repo, "init", "--name", "shop", "--grace", "0s", *(options or ("--no-hooks",)))
        for name, file in files(repo).items():
            put(file, name)
        return repo

    return make


def branch(repo: Path, *steps: str, clock: str = "running") -> None:
    for turn, step in enumerate(steps):
        git(repo, "branch", *step.split(), add=CLOCKS[clock](turn))


def held(repo: Path) -> Held:
    return {name: got(file) for name, file in files(repo).items() if name != "main"}


def connected_to(repo: Path, name: str) -> str:
    """What a program that is started on the branch sees."""
    path = ok(repo, "exec", "--branch", name, "--", "printenv", "DENO_KV_DEFAULT_PATH").strip()
    return got(path)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", CASES)
def test_a_look_gives_each_branch_its_own_data(shop: Callable[[str], Path], case: str, clock: str) -> None:
    names, steps, wanted = CASES[case]
    repo = shop(names)
    branch(repo, *steps, clock=clock)
    ok(repo, "reconcile")
    assert held(repo) == wanted
    ok(repo, "reconcile")
    assert held(repo) == wanted


def test_what_has_ended_goes_to_no_branch_that_only_began_under_its_name(shop: Callable[[str], Path]) -> None:
    repo = shop("a b")
    branch(repo, "-D a")
    ok(repo, "reconcile")
    branch(repo, "a main", "-m a tmp", "-m b a", "-m tmp b")
    ok(repo, "reconcile")
    assert held(repo) == {"a": "b", "b": ""}
    branch(repo, "-D b")
    ok(repo, "reconcile")
    branch(repo, "b main", "-m b c")
    ok(repo, "reconcile")
    assert held(repo) == {"a": "b", "c": ""}


@pytest.mark.parametrize("case", CASES)
def test_a_program_is_connected_to_its_own_branchs_data_though_nobody_has_looked(
    shop: Callable[[str], Path], case: str
) -> None:
    names, steps, wanted = CASES[case]
    repo = shop(names)
    branch(repo, *steps, clock="standing")
    assert {name: connected_to(repo, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "case", ["a new branch under the old name", "two that left one name", "a copy that is renamed"]
)
@pytest.mark.parametrize("noticed", ["hooks", "daemon"])
def test_each_step_that_is_noticed_at_once_changes_nothing_about_that(
    shop: Callable[..., Path], home: Path, case: str, noticed: str
) -> None:
    names, steps, wanted = CASES[case]
    repo = shop(names, *(["--no-hooks"] if noticed == "daemon" else ["--retention", "7d"]))
    with ExitStack() as stack:
        if noticed == "daemon":
            stack.enter_context(daemon(home))
        for step in steps:
            branch(repo, step)
            time.sleep(0.1)
        until(lambda: held(repo) == wanted)


@pytest.mark.parametrize("rewritten", ["gc", "reflog expire --expire=now --all"])
def test_logs_that_are_rewritten_after_a_rename_have_said_it_before(
    shop: Callable[[str], Path], rewritten: str
) -> None:
    repo = shop("a b c")
    branch(repo, "-m a tmp", "-m b a", "-m tmp b", "-m c d")
    git(repo, *rewritten.split())
    ok(repo, "reconcile")
    assert held(repo) == {"a": "b", "b": "a", "d": "c"}


def test_logs_that_are_rewritten_before_a_rename_go_on(shop: Callable[[str], Path]) -> None:
    repo = shop("a b c")
    git(repo, "gc", "-q")
    branch(repo, "-m a tmp", "-m b a", "-m tmp b", "-m c d", "c")
    ok(repo, "reconcile")
    seen = held(repo)
    assert seen["c"] == ""
    assert {name: mark for name, mark in seen.items() if mark}.items() <= {"a": "b", "b": "a", "d": "c"}.items()


def test_a_branch_without_activity_keeps_its_data_when_git_drops_its_log(shop: Callable[[str], Path]) -> None:
    repo = shop("stale other")
    git(repo, "reflog", "expire", "--expire=now", "--all")
    branch(repo, "-m other another")
    ok(repo, "reconcile")
    assert held(repo)["stale"] == "stale"
    assert held(repo)["another"] == "other"


def test_production_gives_no_branch_its_data_and_takes_none(shop: Callable[[str], Path]) -> None:
    repo = shop("a")
    branch(repo, "-m main was-main", "-m a main")
    ok(repo, "reconcile")
    branch(repo, "-m main c", "main c", "a c")
    ok(repo, "reconcile")
    assert held(repo) == {"was-main": "", "c": "", "a": ""}
    assert got(files(repo)["main"]) == "main"


def test_worktrees_share_the_branches(shop: Callable[[str], Path]) -> None:
    repo = shop("p")
    git(repo, "worktree", "add", "-q", "../tree", "p")
    tree = repo.parent / "tree"
    branch(tree, "-m renamed", "p main")
    assert connected_to(tree, "p") == ""
    assert ok(tree, "exec", "--", "printenv", "DENO_TIMELINE").strip() == "git-branch/renamed"
    assert held(repo) == {"renamed": "p", "p": ""}


def test_packed_refs_are_the_same_branches(shop: Callable[[str], Path]) -> None:
    repo = shop("p q")
    git(repo, "pack-refs", "--all")
    branch(repo, "-m p tmp", "-m q p", "-m tmp q")
    git(repo, "pack-refs", "--all")
    ok(repo, "reconcile")
    assert held(repo) == {"p": "q", "q": "p"}


def test_a_bare_repository_with_reflogs_is_followed_too(tmp_path: Path) -> None:
    source = repository(tmp_path / "source", "p", "q")
    git(tmp_path, "init", "-q", "--bare", "hub.git")
    hub = tmp_path / "hub.git"
    git(hub, "config", "core.logAllRefUpdates", "true")
    git(source, "push", "-q", str(hub), "--all")
    ok(hub, "init", "--no-hooks", "--grace", "0s")
    for name, file in files(hub).items():
        put(file, name)
    branch(hub, "-m p tmp", "-m q p", "-m tmp q")
    ok(hub, "reconcile")
    assert held(hub) == {"p": "q", "q": "p"}


# what no branch gets


def test_what_is_overwritten_is_kept_and_status_says_how_to_recover_it(shop: Callable[[str], Path], home: Path) -> None:
    repo = shop("a b")
    branch(repo, "-M a b")
    ok(repo, "reconcile")
    branch(repo, "-m b c", "b main")
    ok(repo, "reconcile")
    assert held(repo) == {"c": "a", "b": ""}, "data of an earlier branch of its name is not a new one's"
    (row,) = [row for row in json.loads(ok(repo, "status", "--json")) if row["branch"] == "b"]
    (old,) = [database for database in row["databases"] if database["orphan"]]
    assert old["status"] == "archived"
    assert old["purge_at"] is not None
    assert f"provisioner database recover {old['id']}" in ok(repo, "status")
    assert events(home, "database.orphan") != []

    refused = provisioner(repo, "database", "recover", old["id"])
    assert refused.returncode == 1
    (new,) = [database for database in row["databases"] if not database["orphan"]]
    ok(repo, "database", "archive", new["id"], "--yes")
    ok(repo, "database", "recover", old["id"])
    assert held(repo) == {"c": "a", "b": "b"}
    ok(repo, "reconcile")
    assert held(repo) == {"c": "a", "b": "b"}


@pytest.fixture
def unclear(shop: Callable[[str], Path]) -> Path:
    """Two branches that may be the one that had data: all logs were rewritten in between, within one second."""
    repo = shop("t")
    git(repo, "reflog", "expire", "--expire=now", "--all")
    branch(repo, "-m t zz", "t main", "-m t aa", clock="standing")
    log = repo / ".git/logs/refs/heads/aa"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))  # the two are the same but for their names
    ok(repo, "reconcile")
    return repo


def test_branches_that_may_own_data_get_none_and_say_so(unclear: Path, home: Path) -> None:
    assert held(unclear) == {}
    for name in ("zz", "aa"):
        refused = provisioner(unclear, "exec", "--branch", name, "--", "true")
        assert refused.returncode == 3
        assert "git does not show whether" in refused.stderr
        assert f"--to {name}" in refused.stderr
        assert "git does not show whether" in ok(unclear, "status", "--branch", name)
    assert provisioner(unclear, "doctor").returncode == 1
    git(unclear, "branch", "new")
    assert connected_to(unclear, "new") == "", "what is new beyond doubt is there at once"


def test_a_person_decides_who_owns_the_data_and_who_begins_empty(unclear: Path) -> None:
    orphan = next(
        database["id"]
        for row in json.loads(ok(unclear, "status", "--json"))
        for database in row["databases"]
        if database["orphan"]
    )
    ok(unclear, "database", "recover", orphan, "--to", "zz")
    ok(unclear, "reconcile")
    assert held(unclear) == {"zz": "t", "aa": ""}, "once it is somebody's, the other one is new"


def test_a_branch_that_may_own_data_can_begin_empty(unclear: Path) -> None:
    ok(unclear, "database", "reset", "aa", "--yes")
    assert connected_to(unclear, "aa") == ""
    assert provisioner(unclear, "exec", "--branch", "zz", "--", "true").returncode == 3
    branch(unclear, "-m zz later")
    ok(unclear, "reconcile")
    assert provisioner(unclear, "exec", "--branch", "later", "--", "true").returncode == 3, "it is still unclear"
    branch(unclear, "-D later", "later main")
    ok(unclear, "reconcile")
    assert connected_to(unclear, "later") == "", "this one is new"


# where there can be no anchors


@pytest.fixture
def unanchored(shop: Callable[[str], Path]) -> Path:
    """A repository in which no hard links can be made."""
    repo = shop("p q")
    shutil.rmtree(repo / ".git/provisioner/branches")
    (repo / ".git/provisioner/branches").write_text("")
    ok(repo, "reconcile")
    return repo


@pytest.mark.parametrize("clock", ["running", "slow", "going back"])
def test_without_anchors_the_logs_tell_what_they_can(unanchored: Path, clock: str) -> None:
    git(unanchored, "commit", "-q", "--allow-empty", "-m", "more")
    for number, name in enumerate(("p", "q")):  # their logs are no longer the same
        git(unanchored, "update-ref", "-m", f"push {number}", f"refs/heads/{name}", "HEAD")
    ok(unanchored, "reconcile")
    branch(unanchored, "n", "-m n tmp", "-m p n", "-m tmp p", clock=clock)
    assert connected_to(unanchored, "p") == ""
    assert held(unanchored) == {"n": "p", "p": "", "q": "q"}


def test_without_anchors_what_the_logs_do_not_tell_is_nobodys(unanchored: Path) -> None:
    branch(unanchored, "-m p zz", "p main", "-m p aa", clock="standing")
    ok(unanchored, "reconcile")
    assert {name: mark for name, mark in held(unanchored).items() if mark}.items() <= {"q": "q", "zz": "p"}.items()


# what is relied on


def test_an_anchor_is_the_log_of_its_branch_whatever_that_is_called(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "a")
    common = os.fsencode(repo / ".git")
    lineage = anchors.make_anchor(common, AppId("app"), b"a", None)
    assert lineage
    assert unchanged(common, AppId("app"), b"a", lineage)
    branch(repo, "-m a b/c")
    assert unchanged(common, AppId("app"), b"b/c", lineage)
    branch(repo, "-c b/c a", "-c b/c copy")
    assert not unchanged(common, AppId("app"), b"a", lineage)
    assert not unchanged(common, AppId("app"), b"copy", lineage)
    commit(repo, "second")
    branch(repo, "-f b/c main")
    git(repo, "pack-refs", "--all")
    assert unchanged(common, AppId("app"), b"b/c", lineage)
    git(repo, "gc", "-q")
    assert not unchanged(common, AppId("app"), b"b/c", lineage)
    words = anchors.last_words(common, AppId("app"), lineage)
    assert words is not None
    assert reflog.last_name(words, b"a") == b"b/c"
    for _ in range(20):  # an inode that is free again goes to the next file
        branch(repo, "-D b/c", "b/c main")
        assert not unchanged(common, AppId("app"), b"b/c", lineage)


def test_anchors_of_no_timeline_are_removed(shop: Callable[[str], Path]) -> None:
    repo = shop("a b")
    app = json.loads(ok(repo, "app", "show", "--json"))["id"]
    directory = Path(os.fsdecode(anchors_directory(os.fsencode(repo / ".git"), app)))
    assert len(list(directory.iterdir())) == 5, "one for each branch, HEAD's, and two that show that they are no copies"
    branch(repo, "-m a c", "-D b", "d")
    git(repo, "gc", "-q")
    ok(repo, "reconcile")
    assert len(list(directory.iterdir())) == 5


def test_anchors_stay_if_the_file_system_cannot_show_that_they_are_no_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository(tmp_path / "shop", "a")
    common = os.fsencode(repo / ".git")
    monkeypatch.setattr(anchors, "birth_ns", lambda _: None)
    lineage = anchors.make_anchor(common, AppId("app"), b"a", None)
    anchors.begin_watch(common, AppId("app"))
    anchors.complete_watch(common, AppId("app"), [])
    assert unchanged(common, AppId("app"), b"a", lineage or "")


def test_a_look_reads_no_log_if_no_branch_has_moved(
    shop: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = shop("a")
    add_branches(repo, *(f"b{number}" for number in range(50)))
    ok(repo, "reconcile")
    git(repo, "branch", "new")
    commit(repo, "second")
    read: list[bytes] = []
    monkeypatch.setattr(reflog, "read_file", read.append)
    with Registry.open(Home(os.environ["PROVISIONER_HOME"])) as registry:
        (app,) = registry.apps()
        assert {type(action) for action in look(registry, app, now_ms()).actions} == {UpdateTimeline, OpenTimeline}
    assert read == []
