"""Commands and pages that only show something start no server of the home's own."""

from __future__ import annotations

from pathlib import Path

from dashboard_desk import at_the_desk
from pg_world import mark
from support import git, ok, repository, rows


def test_what_only_shows_something_starts_no_server(tmp_path: Path, home: Path) -> None:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "instance", "add", "main", "--engine", "postgres")
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "main", "shop")
    mark(repo, "login", "here")
    (row,) = [each for each in rows(repo) if each["timeline"] == "git-branch/login"]
    with at_the_desk(home) as desk:
        ok(repo, "instance", "stop", "main")
        for command in (
            *(
                ("status",),
                ("status", "login"),
                ("status", "--json"),
                ("database", "list"),
                ("database", "list", "--all"),
            ),
            *(("database", "show", "login"), ("instance", "list"), ("instance", "show", "main"), ("app", "list")),
            *(("app", "show"), ("prune", "--dry-run"), ("reconcile", "--dry-run"), ("database", "snapshot", "list")),
        ):
            ok(repo, *command)
            assert _stopped(home), command
        for path in ("/", "/apps/shop", "/instances/main", f"/databases/{row['id']}", f"/databases/{row['id']}/copies"):
            assert desk.get(path).status == 200, path
            assert _stopped(home), path
    git(repo, "branch", "new")
    ok(repo, "reconcile")  # what needs it starts it
    assert not _stopped(home)


def test_a_server_that_was_stopped_is_not_started_for_a_file_of_the_environment(tmp_path: Path, home: Path) -> None:
    repo = repository(tmp_path / "shop")
    ok(repo, "instance", "add", "main", "--engine", "postgres")
    ok(repo, "app", "add", "--name", "shop")
    ok(repo, "assign", "main", "shop")
    (repo / ".git/info/exclude").write_text(".env.local\n")
    ok(repo, "env", "--write", ".env.local")
    ok(repo, "token", "rotate-key", "--yes")
    held = (repo / ".env.local").read_text()
    assert "DATABASE_URL" in held
    ok(repo, "instance", "stop", "main")
    assert _stopped(home)
    ok(repo, "status")
    assert _stopped(home)
    assert (repo / ".env.local").read_text() == held


def _stopped(home: Path) -> bool:
    directory = home / "instances/main"
    elsewhere = directory / "elsewhere"
    return not ((Path(elsewhere.read_text()) if elsewhere.exists() else directory) / "data/postmaster.pid").exists()
