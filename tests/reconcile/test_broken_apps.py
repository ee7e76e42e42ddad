"""An app whose repository or checkout is broken is its own trouble: every command, hook, worker and page of others works."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dashboard_world import visited
from support import daemon, git, ok, provisioner, repository, statuses, until

from provisioner.system import inbox


def gone(repo: Path) -> None:
    shutil.rmtree(repo)


def packed_refs(repo: Path) -> None:
    git(repo, "pack-refs", "--all")
    (repo / ".git" / "packed-refs").write_bytes(b"garbage\n\0\1\2 zzz")


def loose_ref(repo: Path) -> None:
    (repo / ".git" / "refs" / "heads" / "one").write_text("garbage\n")


def head(repo: Path) -> None:
    (repo / ".git" / "HEAD").write_text("garbage\n")


def config(repo: Path) -> None:
    (repo / ".git" / "config").write_text("[[[\n")


def worktree(repo: Path) -> None:
    git(repo, "worktree", "add", "-q", "../a-worktree", "one")
    (repo / ".git" / "worktrees" / "a-worktree" / "HEAD").unlink()


def env_file_list(repo: Path) -> None:
    for listed in (repo.parent / "home" / "env-files").iterdir():
        if bytes(repo) in listed.read_bytes():
            listed.unlink()
            listed.mkdir()


UNREADABLE = [gone, packed_refs, loose_ref, config]
BREAKS = [*UNREADABLE, head, worktree, env_file_list]
Break = Callable[[Path], None]


@pytest.fixture
def apps(tmp_path: Path, home: Path) -> tuple[Path, Path]:
    """Two apps with env files; the one whose id comes first is to be broken."""
    repos = {}
    for name in ("a", "b"):
        repo = repository(tmp_path / name, "one", "two")
        (repo / ".git" / "info").mkdir(exist_ok=True)
        (repo / ".git" / "info" / "exclude").write_text("/.env.local\n")
        ok(repo, "init", "--name", name, "--grace", "0s")
        ok(repo, "env", "--write", ".env.local")
        repos[json.loads(ok(repo, "app", "show", "--json"))["id"]] = repo
    first, second = sorted(repos)
    return repos[first], repos[second]


@pytest.mark.parametrize("breaks", BREAKS)
def test_commands_for_other_apps_work(apps: tuple[Path, Path], breaks: Break) -> None:
    broken, well = apps
    breaks(broken)
    git(well, "config", "core.hooksPath", "/nonexistent")  # nothing but the commands below
    git(well, "branch", "new")
    git(well, "branch", "-D", "-q", "two")
    planned = provisioner(well.parent, "reconcile", "--all", "--dry-run", "--json")
    assert (well.name, "git-branch/new") in {(each["app"], each["timeline"]) for each in json.loads(planned.stdout)}
    assert (planned.returncode == 0) == (breaks not in UNREADABLE)
    assert breaks not in UNREADABLE or f"app {broken.name}: " in planned.stderr
    done = provisioner(well.parent, "reconcile", "--all")
    assert breaks not in UNREADABLE or f"app {broken.name}: " in done.stderr
    assert statuses(well)["git-branch/new"] == "connected"
    for words in ("status --all", "doctor", "timeline list --all", "database list --all", "app list"):
        shown = provisioner(well.parent, *words.split())
        assert shown.returncode == 0 or words == "doctor", (words, shown)
        assert well.name in shown.stdout, (words, shown)
    assert "DENO_TIMELINE=git-branch/new" in provisioner(well, "env", "--branch", "new", "--format", "dotenv").stdout
    ok(well, "exec", "--branch", "new", "--", "true")
    ok(well, "var", "set", "CHANGED=1")
    assert "CHANGED=1" in (well / ".env.local").read_text()
    pruned = provisioner(well.parent, "prune", "--all", "--yes")
    assert (pruned.returncode == 0) == (breaks not in UNREADABLE), pruned
    assert breaks not in UNREADABLE or f"app {broken.name}: " in pruned.stderr


@pytest.mark.parametrize("breaks", UNREADABLE)
def test_a_hook_without_a_daemon_does_the_work_of_other_apps(
    apps: tuple[Path, Path], home: Path, breaks: Break
) -> None:
    broken, well = apps
    app_id = json.loads(ok(broken, "app", "show", "--json"))["id"]
    breaks(broken)
    inbox.leave(str(home / "inbox"), app_id)
    git(well, "branch", "new")
    until(lambda: statuses(well).get("git-branch/new") == "connected", 30)
    until(lambda: not inbox.pending(str(home / "inbox")))
    assert inbox.take(str(home / "inbox")) == [app_id], "it is looked at again with the next event"


@pytest.mark.parametrize("breaks", BREAKS)
def test_the_daemon_does_the_work_of_other_apps(apps: tuple[Path, Path], home: Path, breaks: Break) -> None:
    broken, well = apps
    with daemon(home) as running:
        breaks(broken)
        git(well, "branch", "new")
        git(well, "switch", "-q", "one")
        until(lambda: statuses(well).get("git-branch/new") == "connected")
        until(lambda: "DENO_TIMELINE=git-branch/one" in (well / ".env.local").read_text())
        ok(well, "var", "set", "CHANGED=1", "--context", "development")
        until(lambda: "CHANGED=1" in (well / ".env.local").read_text())
        assert running.process.poll() is None


@pytest.mark.parametrize("breaks", BREAKS)
def test_pages_show_what_is_broken_and_the_rest(apps: tuple[Path, Path], home: Path, breaks: Break) -> None:
    broken, well = apps
    breaks(broken)
    with visited(home) as (_, visitor):
        for path in ("/", f"/apps/{well.name}", f"/apps/{broken.name}", "/activity", "/instances/default"):
            page = visitor.get(path)
            assert page.status == 200, (path, page.text)
            assert "Traceback" not in page.text


def test_a_branch_that_is_checked_out_while_git_cannot_be_read_keeps_no_other_branchs_credentials(
    apps: tuple[Path, Path],
) -> None:
    repo, _ = apps
    assert "DENO_TIMELINE=production" in (repo / ".env.local").read_text()
    (repo / ".git" / "refs" / "heads" / "two").write_text("garbage\n")
    git(repo, "switch", "-q", "one")
    assert "DENO_TIMELINE=production" not in (repo / ".env.local").read_text()
