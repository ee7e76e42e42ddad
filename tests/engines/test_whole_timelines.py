"""With several instances, what is done to a timeline is done to all of its databases, or to none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import (
    Done,
    add_branches,
    commit,
    git,
    got,
    killed,
    ok,
    points,
    provisioner,
    put,
    remount,
    rows,
    shop,
    small_disk,
)

pytestmark = pytest.mark.slow

Marks = dict[tuple[str, str], str]

BEFORE = ("replace.intended", "replace.built")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """An app on the instances `default` and `carts`; each database holds its instance and timeline."""
    repo = shop(tmp_path / "shop", "login", "cart")
    ok(repo, "instance", "add", "carts")
    ok(repo, "assign", "carts")
    for row in rows(repo):
        put(row["path"], f"{row['instance']} {row['timeline']}")
    return repo


def marks(repo: Path) -> Marks:
    """What the live databases hold, by timeline and instance."""
    return {
        (row["timeline"], row["instance"]): got(row["path"]) if row["status"] == "connected" else row["status"]
        for row in rows(repo)
    }


def on(branch: str, *, default: str, carts: str) -> Marks:
    return {(f"git-branch/{branch}", "default"): default, (f"git-branch/{branch}", "carts"): carts}


def as_they_were() -> Marks:
    timelines = ("production", "git-branch/login", "git-branch/cart")
    return {(name, slug): f"{slug} {name}" for name in timelines for slug in ("default", "carts")}


OF_PRODUCTION = on("login", default="default production", carts="carts production")
EMPTY = on("login", default="", carts="")


def snapshots(repo: Path, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", *words, "--json"))
    return found


def row_of(repo: Path, branch: str, instance: str) -> dict[str, Any]:
    (found,) = [r for r in rows(repo) if (r["timeline"], r["instance"]) == (f"git-branch/{branch}", instance)]
    return found


def leftovers(home: Path) -> list[str]:
    return [path.name for stage in ("new/*", "trash") for path in home.glob(f"instances/*/{stage}/*")]


def damage(repo: Path, branch: str, instance: str) -> None:
    shutil.rmtree(Path(row_of(repo, branch, instance)["path"]).parent)


@pytest.mark.parametrize(
    ("words", "then"),
    [
        (("fork", "production", "login"), OF_PRODUCTION),
        (("reset", "login"), EMPTY),
        (("reset", "--branch", "login", "--from", "production"), OF_PRODUCTION),
        (("reset", "shop:login"), EMPTY),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_all_databases_of_a_timeline_are_replaced_and_go_back_together(
    repo: Path, words: tuple[str, ...], then: Marks
) -> None:
    said = ok(repo, "database", *words, "--yes")
    assert marks(repo) == as_they_were() | then
    kept = snapshots(repo, "login")
    assert {item["database"] for item in kept} == {row_of(repo, "login", each)["name"] for each in ("default", "carts")}
    assert len({item["set"] for item in kept}) == 1
    assert all(item["id"] in said for item in kept)
    ok(repo, "database", "restore", "login", kept[0]["id"], "--yes")  # by the id of either of them
    assert marks(repo) == as_they_were()


def test_one_instance_can_be_chosen(repo: Path) -> None:
    ok(repo, "database", "fork", "production", "login", "--instance", "carts", "--yes")
    only = as_they_were() | {("git-branch/login", "carts"): "carts production"}
    assert marks(repo) == only
    (kept,) = snapshots(repo, "login")
    refused = provisioner(repo, "database", "restore", "login", kept["id"], "--yes")
    assert (refused.returncode, marks(repo)) == (3, only)
    assert "--instance carts" in refused.stderr
    ok(repo, "database", "restore", "login", kept["id"], "--instance", "carts", "--yes")
    assert marks(repo) == as_they_were()


@pytest.mark.parametrize("named", ["FROM", "TO"])
def test_the_name_of_a_database_means_that_one(repo: Path, named: str) -> None:
    source = "production"
    goal = row_of(repo, "login", "carts")["name"]
    if named == "FROM":
        source, goal = row_of(repo, "cart", "carts")["id"], "login"
    ok(repo, "database", "fork", source, goal, "--yes")
    held = "carts production" if named == "TO" else "carts git-branch/cart"
    assert marks(repo) == as_they_were() | {("git-branch/login", "carts"): held}


def test_snapshots_are_taken_of_all_or_of_none(repo: Path, home: Path) -> None:
    said = ok(repo, "database", "snapshot", "create", "login", "--label", "both")
    kept = snapshots(repo, "login")
    assert [item["label"] for item in kept] == ["both", "both"]
    assert all(item["id"] in said for item in kept)
    damage(repo, "cart", "carts")
    refused = provisioner(repo, "database", "snapshot", "create", "cart")
    assert refused.returncode == 1
    assert snapshots(repo, "cart") == []
    assert len(list(home.glob("instances/*/snapshots/*/*"))) == 2
    ok(repo, "database", "snapshot", "create", "cart", "--instance", "default")
    assert len(snapshots(repo, "cart")) == 1


@pytest.mark.parametrize("words", [("fork", "cart", "login"), ("reset", "login", "--from", "cart")], ids=" ".join)
def test_if_one_database_cannot_be_copied_none_is_replaced(repo: Path, home: Path, words: tuple[str, ...]) -> None:
    damage(repo, "cart", "carts")
    before = marks_but(repo, "cart")
    refused = provisioner(repo, "database", *words, "--yes")
    assert refused.returncode == 1, refused
    assert marks_but(repo, "cart") == before
    assert snapshots(repo, "login") == []
    assert leftovers(home) == []
    ok(repo, "database", *words, "--instance", "default", "--yes")
    assert marks_but(repo, "cart") == before | {("git-branch/login", "default"): "default git-branch/cart"}


def marks_but(repo: Path, branch: str) -> Marks:
    return {
        (row["timeline"], row["instance"]): got(row["path"])
        for row in rows(repo)
        if row["timeline"] != f"git-branch/{branch}"
    }


def test_archive_recover_and_purge_take_all(repo: Path) -> None:
    ok(repo, "database", "archive", "login", "--yes")
    away = on("login", default="archived", carts="archived")
    assert marks(repo) == as_they_were() | away
    ok(repo, "database", "recover", "--branch", "login")
    assert marks(repo) == as_they_were()
    ok(repo, "database", "archive", "login", "--instance", "carts", "--yes")
    assert marks(repo) == as_they_were() | {("git-branch/login", "carts"): "archived"}
    for verb in ("fork", "share"):  # the other one is not taken for the whole
        refused = provisioner(repo, "database", verb, "login", "cart", "--yes")
        assert (refused.returncode, "is archived" in refused.stderr) == (3, True)
    ok(repo, "database", "archive", "login", "--yes")
    ok(repo, "database", "purge", "login", "--yes")
    assert not [row for row in rows(repo) if row["timeline"] == "git-branch/login" and row["status"] == "archived"]


def test_if_one_database_cannot_be_archived_none_is(repo: Path) -> None:
    damage(repo, "login", "carts")
    refused = provisioner(repo, "database", "archive", "login", "--yes")
    assert (refused.returncode, "nothing was archived" in refused.stderr) == (1, True)
    assert row_of(repo, "login", "default")["status"] == "connected"
    ok(repo, "database", "archive", "login", "--instance", "default", "--yes")
    assert row_of(repo, "login", "default")["status"] == "archived"


def test_if_a_disk_refuses_to_archive_one_the_other_comes_back(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    with small_disk(tmp_path / "disk", "size=32m") as disk:
        ok(repo, "instance", "add", "carts", "--directory", str(disk / "kv"))
        ok(repo, "assign", "carts")
        for row in rows(repo):
            put(row["path"], f"{row['instance']} {row['timeline']}")
        before = marks(repo)
        remount(disk, "ro")
        refused = provisioner(repo, "database", "archive", "login", "--yes")
        assert (refused.returncode, "nothing was archived" in refused.stderr) == (1, True), refused
        assert row_of(repo, "login", "default")["status"] == "connected"
        remount(disk, "rw")
        ok(repo, "database", "fix", "login")
        assert marks(repo) == before
        ok(repo, "database", "archive", "login", "--yes")
        assert {row["status"] for row in rows(repo) if row["timeline"] == "git-branch/login"} == {"archived"}


def test_all_are_shared_and_unshared(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    used = json.loads(ok(repo, "env", "cart", "--format", "json"))
    assert got(used["DEFAULT_KV_PATH"]) == "default git-branch/login"
    assert got(used["CARTS_KV_PATH"]) == "carts git-branch/login"
    ok(repo, "database", "unshare", "cart")
    assert marks(repo) == as_they_were()
    ok(repo, "database", "share", "login", "cart", "--instance", "carts")
    used = json.loads(ok(repo, "env", "--branch", "cart", "--format", "json"))
    assert got(used["DEFAULT_KV_PATH"]) == "default git-branch/cart"
    assert got(used["CARTS_KV_PATH"]) == "carts git-branch/login"


@pytest.mark.parametrize(
    "words",
    [
        ("database", "dump", "login"),
        ("database", "load", "login", "/dev/null"),
        ("database", "show", "login"),
        ("kv", "list", "--branch", "login"),
        ("kv", "get", "--branch", "login", '["a"]'),
    ],
    ids=" ".join,
)
def test_what_takes_one_database_names_the_instances_to_choose_from(repo: Path, words: tuple[str, ...]) -> None:
    refused = provisioner(repo, *words)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "default, carts" in refused.stderr
    assert "--instance" in refused.stderr


def test_exec_and_env_take_the_instance_that_is_chosen(repo: Path) -> None:
    carts = row_of(repo, "login", "carts")["path"]
    words = ("exec", "--branch", "login", "--instance", "carts", "--", "printenv", "DENO_KV_DEFAULT_PATH")
    assert ok(repo, *words) == f"{carts}\n"
    found = json.loads(ok(repo, "env", "login", "--instance", "carts", "--format", "json"))
    assert (found["DENO_KV_DEFAULT_PATH"], "DEFAULT_KV_PATH" in found) == (carts, False)
    assert provisioner(repo, "env", "--instance", "nowhere").returncode == 3
    ok(repo, "kv", "set", "--branch", "login", "--instance", "carts", '["a"]', "1")
    assert ok(repo, "kv", "get", "--branch", "login", "--instance", "carts", '["a"]') == "1\n"


def test_a_diff_pairs_databases_by_instance(repo: Path) -> None:
    ok(repo, "kv", "set", "--branch", "login", "--instance", "carts", '["new"]', "1")
    names = {
        slug: [row_of(repo, branch, slug)["name"] for branch in ("cart", "login")] for slug in ("default", "carts")
    }
    stat = ok(repo, "database", "diff", "cart", "login", "--stat")
    for first, second in names.values():
        assert f"{first} and {second}: " in stat or "no difference" in stat
    assert f"{names['carts'][0]} and {names['carts'][1]}: 1 added" in stat
    one = json.loads(ok(repo, "database", "diff", "cart", "login", "--instance", "carts", "--json"))
    assert (one["a"], one["added"]) == (names["carts"][0], 1)
    assert provisioner(repo, "database", "diff", "cart", "login", "--json").returncode == 3


def test_the_data_at_a_revision_comes_back_on_all_instances(repo: Path) -> None:
    ok(repo, "app", "set", "--snapshot-revisions", "3")
    git(repo, "switch", "-q", "login")
    before = git(repo, "rev-parse", "HEAD").stdout.strip()
    commit(repo, "more")
    ok(repo, "reconcile")
    assert {item["cause"] for item in snapshots(repo, "login")} == {"revision"}
    assert len({item["set"] for item in snapshots(repo, "login")}) == 1
    ok(repo, "database", "reset", "login", "--yes")
    ok(repo, "database", "restore", "login", "--revision", before[:9], "--yes")
    assert marks(repo) == as_they_were()


def test_a_preview_begins_with_all_databases_of_a_timeline(repo: Path) -> None:
    ok(repo, "preview", "create", "HEAD", "--from", "login")
    held = {row["instance"]: got(row["path"]) for row in rows(repo) if row["timeline"].startswith("preview/")}
    assert held == {"default": "default git-branch/login", "carts": "carts git-branch/login"}


# crashes: at each point, while the first and while the second of the two is at it


def _counted(point: str) -> list[str]:
    """A point is passed for each database, but where all of them are recorded at once."""
    return [point] if point in ("replace.intended", "replace.ready") else [point, f"{point}:2"]


@pytest.mark.parametrize("point", [each for point in points("replace") for each in _counted(point)])
@pytest.mark.parametrize("action", ["fork", "restore"])
def test_a_kill_9_leaves_all_replaced_or_none(repo: Path, home: Path, point: str, action: str) -> None:
    words: tuple[str, ...] = ("fork", "production", "login")
    old, new = as_they_were(), as_they_were() | OF_PRODUCTION
    if action == "restore":
        ok(repo, "database", "reset", "login", "--yes")
        words = ("restore", "login", snapshots(repo, "login")[0]["id"])
        old, new = as_they_were() | EMPTY, as_they_were()
    count = len(snapshots(repo, "login"))
    killed(repo, point, "database", *words, "--yes")
    done = point.partition(":")[0] not in BEFORE
    connected = provisioner(repo, "exec", "--branch", "login", "--", "true")
    assert connected.returncode == 0, connected  # exec has finished it
    assert marks(repo) == (new if done else old)
    ok(repo, "reconcile")
    assert marks(repo) == (new if done else old)
    kept = snapshots(repo, "login")
    assert len(kept) == count + (2 if done else 0)
    assert leftovers(home) == []
    if done:
        ok(repo, "database", "restore", "login", kept[0]["id"], "--yes")
        assert marks(repo) == old
    else:
        ok(repo, "database", *words, "--yes")
        assert marks(repo) == new


@pytest.mark.parametrize("point", ["replace.ready", "replace.kept:2", "replace.recorded"])
def test_nothing_runs_on_a_timeline_of_which_one_database_is_replaced(repo: Path, point: str) -> None:
    killed(repo, point, "database", "fork", "production", "login", "--yes")
    shown = provisioner(repo, "exec", "--branch", "login", "--", "printenv", "DEFAULT_KV_PATH", "CARTS_KV_PATH")
    assert [got(path) for path in shown.stdout.split()] == ["default production", "carts production"]


@pytest.mark.parametrize("point", ["snapshot.intended", "snapshot.made", "snapshot.made:2", "snapshot.recorded"])
def test_a_kill_9_leaves_snapshots_of_all_or_of_none(repo: Path, home: Path, point: str) -> None:
    killed(repo, point, "database", "snapshot", "create", "login")
    ok(repo, "reconcile")
    count = 2 if point == "snapshot.recorded" else 0
    assert len(snapshots(repo, "login")) == count
    assert len(list(home.glob("instances/*/snapshots/*/*"))) == count
    assert marks(repo) == as_they_were()


@pytest.mark.parametrize("point", [each for point in points("archive") for each in (point, f"{point}:2")])
def test_a_kill_9_while_archiving_ends_with_all_archived(repo: Path, point: str) -> None:
    result: Done = provisioner(repo, "database", "archive", "login", "--yes", add={"PROVISIONER_FAULT": point})
    assert result.returncode in (-9, 0)  # where both are archived in one step there is no second passing
    ok(repo, "reconcile")
    assert marks(repo) == as_they_were() | on("login", default="archived", carts="archived")
    ok(repo, "database", "recover", "login")
    assert marks(repo) == as_they_were()


def test_a_branch_that_was_just_made_is_meant_with_all_its_databases(repo: Path) -> None:
    add_branches(repo, "late")
    ok(repo, "database", "fork", "login", "late", "--yes")
    held = {row["instance"]: got(row["path"]) for row in rows(repo) if row["timeline"] == "git-branch/late"}
    assert held == {"default": "default git-branch/login", "carts": "carts git-branch/login"}
