"""A preview: one revision with databases of its own, for a while."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import commit, database_of, git, got, ok, provisioner, put, rows, shop, statuses
from test_keeping import past

from provisioner.kv import open_kv

pytestmark = pytest.mark.slow


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Each database holds the name of its timeline; `login` is a commit ahead of main."""
    repo = shop(tmp_path / "shop")
    git(repo, "switch", "-q", "-c", "login")
    commit(repo, "login")
    git(repo, "switch", "-q", "main")
    ok(repo, "reconcile")
    for row in rows(repo):
        put(row["path"], row["timeline"])
    return repo


def head(repo: Path, name: str = "login") -> str:
    return git(repo, "rev-parse", name).stdout.strip()


def created(repo: Path, *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(ok(repo, "preview", "create", *arguments, "--json"))
    return document


@pytest.mark.parametrize(
    ("source", "held"), [((), ""), (("--from", "production"), "production"), (("--from", "login"), "git-branch/login")]
)
def test_a_preview_has_a_database_of_its_own(repo: Path, source: tuple[str, ...], held: str) -> None:
    made = created(repo, "login", *source)
    name = f"preview/{head(repo)}"
    assert (made["timeline"], made["branch"], made["context"], made["status"]) == (
        name,
        None,
        "development",
        "connected",
    )
    (database,) = made["databases"]
    assert got(database["path"]) == held
    with open_kv(database["path"]) as kv:
        kv.set(("only", "here"), 1)
    for row in rows(repo):
        with open_kv(row["path"]) as kv:
            assert (kv.get(("only", "here")).value == 1) == (row["timeline"] == name)
    assert database["name"].startswith(f"shop-preview-{head(repo)[:12]}-")


def test_head_is_that_of_the_checkout_one_is_in(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", tmp_path / "linked", "login")
    git(repo, "clone", "-q", "--branch", "login", repo, tmp_path / "clone")
    for checkout in (tmp_path / "linked", tmp_path / "clone"):
        assert created(checkout, "HEAD")["revision"] == head(repo)
        ok(checkout, "preview", "delete", "HEAD", "--yes")
    commit(tmp_path / "clone", "not pushed")
    refused = provisioner(tmp_path / "clone", "preview", "create", "HEAD")
    assert refused.returncode == 3
    assert "Push it" in refused.stderr
    assert created(tmp_path / "clone", "HEAD", "--app", "shop")["revision"] == head(repo, "main")


def test_code_on_the_revision_runs_with_the_previews_database(repo: Path) -> None:
    (database,) = created(repo, "login")["databases"]
    for selector in (("--revision", head(repo)[:9]), ("--timeline", f"preview/{head(repo)}")):
        said = json.loads(ok(repo, "env", *selector, "--format", "json"))
        assert said["DENO_TIMELINE"] == f"preview/{head(repo)}"
        assert said["DENO_KV_DEFAULT_PATH"] == database["path"]
        assert said["PROVISIONER_CONTEXT"] == "development"
        assert said["DENO_DEPLOY_BUILD_ID"] == head(repo)
    assert json.loads(ok(repo, "env", "--branch", "login", "--format", "json"))["DENO_TIMELINE"] == "git-branch/login"


def test_previews_of_two_revisions_share_nothing(repo: Path) -> None:
    first = created(repo, "login")["databases"][0]
    second = created(repo, "main")["databases"][0]
    put(first["path"], "first")
    assert got(second["path"]) == ""
    listed = json.loads(ok(repo, "preview", "list", "--json"))
    assert {item["revision"] for item in listed} == {head(repo), head(repo, "main")}


def test_a_preview_outlives_its_branch_and_ends_with_its_time(repo: Path, home: Path) -> None:
    name = f"preview/{head(repo)}"
    made = created(repo, "login", "--ttl", "1h")
    assert made["expires_at"]
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected", "git-branch/login": "archived", name: "connected"}
    past(home, "timeline", "active_at")
    ok(repo, "reconcile")
    assert statuses(repo)[name] == "archived"
    assert provisioner(repo, "exec", "--revision", name.removeprefix("preview/"), "--", "true").returncode == 3


def test_a_deleted_preview_comes_back_with_what_it_held(repo: Path) -> None:
    made = created(repo, "login", "--ttl", "never")
    assert made["expires_at"] is None
    put(made["databases"][0]["path"], "kept")
    assert provisioner(repo, "preview", "delete", "login").returncode == 1, "nobody can be asked"
    assert "archived" in ok(repo, "preview", "delete", head(repo)[:8], "--yes")
    ok(repo, "reconcile")
    again = created(repo, "login")
    assert (again["databases"][0]["id"], got(again["databases"][0]["path"])) == (made["databases"][0]["id"], "kept")
    refused = provisioner(repo, "preview", "create", "login", "--from", "production")
    assert (refused.returncode, "database reset" in refused.stderr) == (1, True)
    ok(repo, "database", "reset", f"preview/{head(repo)}", "--from", "production", "--yes")
    assert got(again["databases"][0]["path"]) == "production"


def test_recovering_a_deleted_preview_makes_it_one_again(repo: Path) -> None:
    made = created(repo, "login")["databases"][0]
    ok(repo, "preview", "delete", "login", "--yes")
    ok(repo, "database", "recover", made["name"])
    ok(repo, "reconcile")
    assert statuses(repo)[f"preview/{head(repo)}"] == "connected"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("create", "absent"), 3, "not a commit"),
        (("create", "--", "--all"), 3, "not a commit"),
        (("create", "login", "--from", "absent"), 3, "absent"),
        (("create", "login", "--from", "snapshot"), 3, "--snapshot-revisions"),
        (("create", "login", "--ttl", "soon"), 2, "not a duration"),
        (("delete", "login", "--yes"), 3, "no preview"),
    ],
)
def test_what_no_preview_can_be_made_of_leaves_none(
    repo: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    refused = provisioner(repo, "preview", *arguments)
    assert (refused.returncode, refused.stdout) == (code, "")
    assert says in refused.stderr
    assert json.loads(ok(repo, "preview", "list", "--json")) == []


def test_a_branch_named_like_a_preview_is_a_branch(repo: Path) -> None:
    git(repo, "branch", f"preview/{head(repo)}", "login")
    ok(repo, "reconcile")
    created(repo, "login")
    names = {f"preview/{head(repo)}", f"git-branch/preview/{head(repo)}"}
    assert names < set(statuses(repo))
    assert len({database_of(repo, name)["path"] for name in names}) == 2
