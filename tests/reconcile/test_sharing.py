"""One database of several timelines: on purpose, visible, and until somebody says otherwise or the branch goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import (
    DENO,
    add_branches,
    commit,
    daemon,
    events,
    git,
    got,
    killed,
    marked_shop,
    ok,
    outside,
    points,
    provisioner,
    status,
)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Databases of `main`, `login` and `cart`, each with the name of its timeline in it."""
    return marked_shop(tmp_path / "shop", "login", "cart")


def rows(cwd: Path) -> list[dict[str, Any]]:
    """Every timeline's own databases."""
    listed = json.loads(ok(cwd, "database", "list", "--json"))
    return [row for row in listed if row["shared_from"] is None]


def own(cwd: Path, timeline: str) -> dict[str, Any]:
    (found,) = [row for row in rows(cwd) if row["timeline"] == timeline]
    return found


def used(cwd: Path, branch: str) -> str:
    """What the database that a branch is connected to holds."""
    return got(json.loads(ok(cwd, "env", "--branch", branch, "--format", "json"))["DENO_KV_DEFAULT_PATH"])


def test_two_branches_use_one_database_and_part_again(repo: Path, home: Path) -> None:
    program = "const kv = await Deno.openKv(); await kv.set(['n'], 1 + ((await kv.get(['n'])).value ?? 0));"
    (repo / "main.ts").write_text(program + "console.log((await kv.get(['n'])).value);")
    deno = (DENO, "run", "-A", "--quiet", "--unstable-kv", "main.ts")
    before = own(repo, "git-branch/cart")
    assert "uses" in ok(repo, "database", "share", "login", "cart")
    counted = [ok(repo, "exec", "--branch", branch, "--", *deno) for branch in ("login", "cart", "login")]
    assert counted == ["1\n", "2\n", "3\n"]
    assert used(repo, "cart") == "git-branch/login"
    put_aside = own(repo, "git-branch/cart")
    assert (put_aside["id"], put_aside["status"], put_aside["purge_at"]) == (before["id"], "archived", None)
    git(repo, "switch", "-q", "cart")
    commit(repo, "more")
    ok(repo, "reconcile")
    ok(repo, "database", "fix", "--all")
    assert used(repo, "cart") == "git-branch/login"
    assert "its own" in ok(repo, "database", "unshare", "cart")
    after = own(repo, "git-branch/cart")
    assert (after["id"], after["path"], after["status"]) == (before["id"], before["path"], "connected")
    assert used(repo, "cart") == "git-branch/cart"
    assert used(repo, "login") == "git-branch/login"
    assert (events(home, "database.share"), events(home, "database.unshare")) == (["user"], ["user"])


def test_at_a_server_both_use_it_too_and_part_while_it_runs(repo: Path, home: Path) -> None:
    (repo / "main.ts").write_text(
        "const kv = await Deno.openKv(); await kv.set(['n'], 1 + ((await kv.get(['n'])).value ?? 0));"
        "console.log((await kv.get(['n'])).value);"
    )
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):

        def count(branch: str) -> str:
            return ok(repo, "exec", "--branch", branch, "--", DENO, "run", "-A", "--quiet", "main.ts").strip()

        assert [count("login"), count("cart")] == ["1", "1"]
        ok(repo, "database", "share", "login", "cart")
        assert [count("cart"), count("login"), count("cart")] == ["2", "3", "4"]
        url = next(item for item in status(repo) if item["branch"] == "cart")["databases"][0]["url"]
        assert own(repo, "git-branch/login")["id"] in url
        ok(repo, "database", "unshare", "cart")
        assert [count("cart"), count("login")] == ["2", "5"]


def test_prune_says_nothing_of_what_stays(repo: Path) -> None:
    ok(repo, "app", "set", "--grace", "1h")
    ok(repo, "database", "share", "login", "cart")
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    assert json.loads(ok(repo, "prune", "--dry-run", "--json")) == []


def test_it_is_visible(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    documents = {document["branch"]: document for document in status(repo)}
    shared = documents["cart"]["databases"][0]
    assert (shared["name"], shared["shared_from"]) == (own(repo, "git-branch/login")["name"], "git-branch/login")
    assert documents["cart"]["status"] == "connected"
    assert documents["login"]["databases"][0]["shared_by"] == ["git-branch/cart"]
    table = ok(repo, "status")
    assert "(shared from git-branch/login)" in table
    assert "(shared by git-branch/cart)" in table
    assert "shared_by: git-branch/cart" in ok(repo, "database", "show", shared["name"])


def test_production_is_shared_only_when_somebody_says_so(repo: Path) -> None:
    refused = provisioner(repo, "database", "share", "production", "cart")
    assert refused.returncode == 1
    assert "PRODUCTION" in refused.stderr
    assert used(repo, "cart") == "git-branch/cart"
    ok(repo, "database", "share", "production", "cart", "--yes")
    assert used(repo, "cart") == "production"
    assert json.loads(ok(repo, "env", "--branch", "cart", "--format", "json"))["PROVISIONER_CONTEXT"] == "development"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("login", "login"), "already"),
        (("login", "production"), "holds production's data"),
        (("cart", "later"), "itself uses the database of"),
        (("production", "cart"), "already uses the database of git-branch/login"),
        (("later", "login"), "is shared itself"),
        (("later", "kept"), "is protected"),
        (("nowhere", "later"), "no branch, timeline, or database"),
        (("login", "later", "--instance", "other"), "no instance named 'other'"),
    ],
)
def test_what_cannot_be_shared(repo: Path, names: tuple[str, ...], says: str) -> None:
    add_branches(repo, "later", "kept")
    ok(repo, "reconcile")
    ok(repo, "timeline", "protect", "kept")
    ok(repo, "database", "share", "login", "cart")
    refused = provisioner(repo, "database", "share", *names, "--yes")
    assert refused.returncode == (3 if {"nowhere", "other"} & set(names) else 1)
    assert says in refused.stderr
    assert provisioner(repo, "database", "unshare", "later").returncode == 1


def test_an_owner_whose_branch_is_gone_stays_while_somebody_uses_its_database(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    git(repo, "branch", "-q", "-D", "login")
    for _ in range(2):
        ok(repo, "reconcile")
        assert used(repo, "cart") == "git-branch/login"
        assert own(repo, "git-branch/login")["status"] == "connected"
    assert "shared by git-branch/cart" in ok(repo, "status")
    ok(repo, "database", "unshare", "cart")
    assert own(repo, "git-branch/login")["status"] == "archived"
    assert used(repo, "cart") == "git-branch/cart"


def test_a_share_ends_with_its_branch(repo: Path, home: Path) -> None:
    """A branch that is made anew by the same name is another one: it does not get somebody's data unasked."""
    ok(repo, "database", "share", "production", "cart", "--yes")
    git(repo, "branch", "-q", "-D", "cart")
    ok(repo, "reconcile")
    assert own(repo, "git-branch/cart")["purge_at"] is not None
    assert own(repo, "production")["shared_by"] == []
    assert len(events(home, "database.unshare")) == 1
    add_branches(repo, "cart")
    ok(repo, "reconcile")
    assert used(repo, "cart") == "git-branch/cart"
    assert ok(repo, "reconcile", "--dry-run") == "Nothing to do\n"


def test_owner_and_sharer_gone_are_both_archived(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    git(repo, "branch", "-q", "-D", "login", "cart")
    ok(repo, "reconcile")
    assert {row["timeline"]: row["status"] for row in rows(repo)} == {
        "production": "connected",
        "git-branch/login": "archived",
        "git-branch/cart": "archived",
    }


def test_renames_keep_the_share(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    git(repo, "branch", "-q", "-m", "login", "sign-in")
    ok(repo, "reconcile")
    assert used(repo, "cart") == used(repo, "sign-in") == "git-branch/login"
    git(repo, "branch", "-q", "-m", "cart", "basket")
    ok(repo, "reconcile")
    assert used(repo, "basket") == "git-branch/login"
    assert own(repo, "git-branch/sign-in")["shared_by"] == ["git-branch/basket"]
    ok(repo, "database", "unshare", "basket")
    assert used(repo, "basket") == "git-branch/cart"


def test_names_that_are_exchanged_keep_it_too(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    for old, new in (("login", "x"), ("cart", "login"), ("x", "cart")):
        git(repo, "branch", "-q", "-m", old, new)
    ok(repo, "reconcile")
    assert used(repo, "login") == used(repo, "cart") == "git-branch/login"
    assert own(repo, "git-branch/cart")["shared_by"] == ["git-branch/login"]
    ok(repo, "database", "unshare", "login")
    assert used(repo, "login") == "git-branch/cart"


def test_a_rename_over_a_branch_that_shares_brings_its_own_data(repo: Path) -> None:
    ok(repo, "database", "share", "production", "cart", "--yes")
    git(repo, "branch", "-q", "-M", "login", "cart")
    ok(repo, "reconcile")
    assert used(repo, "cart") == "git-branch/login"
    assert own(repo, "production")["shared_by"] == []
    (replaced,) = [row for row in rows(repo) if got(row["path"]) == "git-branch/cart"]
    assert (replaced["status"], replaced["purge_at"] is None) == ("archived", False)


def test_a_rename_over_a_branch_that_shares_is_seen_before_anything_runs_on_it(repo: Path) -> None:
    """Nobody has reconciled yet; what shared production's data is another branch by now."""
    path = own(repo, "git-branch/cart")["path"]
    ok(repo, "database", "share", "production", "login", "--yes")
    git(repo, "branch", "-M", "cart", "login")
    assert ok(repo, "exec", "--branch", "login", "--", "printenv", "DENO_KV_DEFAULT_PATH") == f"{path}\n"


def test_a_rename_over_an_owner_takes_nothing_away_from_who_shares(repo: Path) -> None:
    add_branches(repo, "other")
    ok(repo, "reconcile")
    ok(repo, "database", "share", "login", "cart")
    git(repo, "branch", "-q", "-M", "other", "login")
    ok(repo, "reconcile")
    assert used(repo, "cart") == used(repo, "login") == "git-branch/login"


@pytest.mark.parametrize(
    "command",
    [
        ("database", "reset", "login"),
        ("database", "fork", "cart2", "login"),
        ("database", "archive", "NAME"),
    ],
)
def test_what_would_change_a_shared_database_names_who_shares(repo: Path, command: tuple[str, ...]) -> None:
    add_branches(repo, "cart2")
    ok(repo, "reconcile")
    ok(repo, "database", "share", "login", "cart")
    words = [own(repo, "git-branch/login")["name"] if word == "NAME" else word for word in command]
    refused = provisioner(repo, *words)
    assert refused.returncode == 1
    assert "git-branch/cart uses it too" in refused.stderr
    assert used(repo, "cart") == "git-branch/login"
    ok(repo, *words, "--yes")


def test_by_the_name_of_who_shares_nothing_is_replaced(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    for words in (("reset", "cart"), ("fork", "production", "cart")):
        refused = provisioner(repo, "database", *words, "--yes")
        assert refused.returncode == 1
        assert "git-branch/cart shares" in refused.stderr
    git(repo, "switch", "-q", "cart")
    assert "shares" in provisioner(repo, "database", "reset", "--yes").stderr
    assert used(repo, "login") == "git-branch/login"
    add_branches(repo, "copy")
    ok(repo, "reconcile")
    ok(repo, "database", "fork", "cart", "copy", "--yes")
    assert used(repo, "copy") == "git-branch/login"


def test_what_is_archived_by_hand_is_missed_by_all_who_use_it(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    name = own(repo, "git-branch/login")["name"]
    ok(repo, "database", "archive", name, "--yes")
    for branch in ("login", "cart"):
        refused = provisioner(repo, "exec", "--branch", branch, "--", "true")
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "archived by hand" in refused.stderr
    aside = own(repo, "git-branch/cart")
    assert "shares" in provisioner(repo, "database", "recover", aside["id"]).stderr
    ok(repo, "database", "recover", name)
    assert used(repo, "cart") == "git-branch/login"


def test_unassigning_and_assigning_keeps_the_share(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    ok(repo, "unassign", "default", "--yes")
    assert {row["status"] for row in rows(repo)} == {"archived"}
    ok(repo, "assign", "default")
    assert used(repo, "cart") == "git-branch/login"


def test_a_fork_of_a_parent_that_shares_is_one_of_what_it_uses(repo: Path) -> None:
    ok(repo, "database", "share", "login", "cart")
    ok(repo, "assign", "default", "--new-branch", "fork:cart")
    add_branches(repo, "new")
    ok(repo, "reconcile")
    assert used(repo, "new") == "git-branch/login"


def test_a_push_says_what_is_used(repo: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub.git"
    git(repo, "clone", "-q", "--bare", repo, hub)
    ok(hub, "init", "--name", "hub", "--production-branch", "main", "--grace", "0s")
    ok(hub, "database", "share", "login", "cart", "--app", "hub")
    git(repo, "switch", "-q", "cart")
    commit(repo, "more")
    pushed = git(repo, "push", "-q", str(hub), "cart")
    assert "git-branch/cart connected hub--login" in pushed.stderr


def test_an_apps_token_still_does_not_open_production(repo: Path, home: Path) -> None:
    from provisioner.connect.server.tokens import Access
    from provisioner.core.clock import now_ms
    from provisioner.system.home import Home

    ok(repo, "database", "share", "production", "cart", "--yes")
    token = json.loads(ok(repo, "token", "create", "--app", "shop", "--json"))["token"]
    access = Access(Home(str(home)))
    assert access.exchange(token, own(repo, "production")["id"], now_ms()) is None
    assert access.exchange(token, own(repo, "git-branch/login")["id"], now_ms()) is not None
    access.close()


@pytest.mark.parametrize("point", points("archive", "recover"))
def test_a_kill_9_while_sharing_and_unsharing(repo: Path, point: str) -> None:
    if point.startswith("archive"):
        killed(repo, point, "database", "share", "login", "cart")
        assert used(repo, "cart") == "git-branch/login"
        ok(repo, "reconcile")
        assert own(repo, "git-branch/cart")["status"] == "archived"
        assert used(repo, "cart") == "git-branch/login"
    else:
        ok(repo, "database", "share", "login", "cart")
        killed(repo, point, "database", "unshare", "cart")
        assert used(repo, "cart") == "git-branch/cart"
    ok(repo, "reconcile")
    assert ok(repo, "reconcile", "--dry-run") == "Nothing to do\n"
    assert got(own(repo, "git-branch/cart")["path"]) == "git-branch/cart"


def test_a_pre_deploy_command_is_not_run_on_somebody_elses_data(repo: Path, tmp_path: Path) -> None:
    ok(repo, "database", "share", "production", "cart", "--yes")
    ran = outside(tmp_path) / "ran"
    ok(repo, "app", "set", "--allow-write", outside(tmp_path), "--pre-deploy", f'echo "$DENO_TIMELINE" >> {ran}')
    git(repo, "switch", "-q", "cart")
    commit(repo, "more")
    ok(repo, "reconcile")
    assert used(repo, "cart") == "production"
    assert sorted(ran.read_text().split()) == ["git-branch/login", "production"]
    documents = {document["branch"]: document for document in status(repo)}
    assert (documents["cart"]["status"], documents["cart"]["pre_deploy"]) == ("connected", None)
    ok(repo, "database", "unshare", "cart")
    assert used(repo, "cart") == "git-branch/cart"
    assert sorted(ran.read_text().split()) == ["git-branch/cart", "git-branch/login", "production"]
