"""One app with more than anybody can do does not make the others wait."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from support import (
    add_branches,
    bare,
    commit,
    connected,
    daemon,
    git,
    ok,
    outside,
    provisioner,
    repository,
    status,
    until,
)

from provisioner.core.ids import AppId, TimelineId
from provisioner.jobs.fair_queue import FairQueue
from provisioner.jobs.queue import EACH, Job
from provisioner.system.file_lock import locked


def test_apps_take_turns_in_a_queue() -> None:
    queue = FairQueue[Job](2)
    for number in range(3):
        queue.put(Job(AppId("many"), TimelineId(f"{number}")))
    queue.put(Job(AppId("one"), TimelineId("0")))
    assert queue.wanted() == 3
    first, second, third = (queue.get() for _ in range(3))
    assert [each and each.app_id for each in (first, second, third)] == ["many", "one", "many"]
    taken: list[Job | None] = []
    waiting = threading.Thread(target=lambda: taken.append(queue.get()))
    waiting.start()
    assert first is not None
    queue.done(first)
    waiting.join(60)
    assert taken == [Job(AppId("many"), TimelineId("2"))]
    queue.close()
    assert queue.get() is None


def test_a_command_of_another_app_runs_while_one_has_more_than_can_be_run(tmp_path: Path, home: Path) -> None:
    names = [f"branch-{number}" for number in range(EACH * 3)]
    busy, other = repository(tmp_path / "busy"), repository(tmp_path / "other")
    there = outside(tmp_path)
    for repo in (busy, other):
        ok(repo, "init", "--grace", "0s", "--no-hooks")
        ok(repo, "app", "set", "--allow-write", there)
    command = f"[ $DENO_TIMELINE = production ] || {{ touch {there}/$$; until [ -e {there}/go ]; do sleep 0.1; done; }}"
    ok(busy, "app", "set", "--pre-deploy", command)
    ok(other, "app", "set", "--pre-deploy", "echo done")
    with daemon(home):
        add_branches(busy, *names)
        until(lambda: len(list(there.iterdir())) == EACH)
        commit(other, "second")
        wanted = git(other, "rev-parse", "HEAD").stdout.strip()
        until(lambda: deployed(other, wanted))
        assert len(list(there.iterdir())) == EACH
        (there / "go").touch()
        until(lambda: all(row["status"] == "connected" for row in status(busy)))


def deployed(repo: Path, revision: str) -> bool:
    (row,) = [row for row in status(repo) if row["timeline"] == "production"]
    return bool(row["revision"] == revision and row["pre_deploy"]["state"] == "succeeded")


def test_a_revision_with_too_many_files_is_refused_and_nobody_waits_for_it(tmp_path: Path, home: Path) -> None:
    repo = repository(tmp_path / "repo", "login")
    ok(repo, "init", "--grace", "0s", "--no-hooks")
    ok(repo, "app", "set", "--pre-deploy", "echo done", "--checkout-files", "50")
    lines = ["commit refs/heads/big", "committer x <x@example.org> 0 +0000", "data 0"]
    for number in range(51):
        lines += [f"M 100644 inline f{number}", "data 1", "x"]
    subprocess.run(["git", "fast-import", "--quiet"], cwd=repo, input="\n".join([*lines, ""]).encode(), check=True)
    refused = provisioner(repo, "reconcile")
    assert "more than 50 files" in refused.stderr
    assert "--checkout-files" in refused.stderr
    assert {row["branch"]: row["status"] for row in status(repo)} == {
        "main": "connected",
        "login": "connected",
        "big": "error",
    }
    assert list((home / "work").iterdir()) == []
    ok(repo, "app", "set", "--checkout-files", "51")
    assert {row["status"] for row in status(repo)} == {"connected"}


@contextmanager
def held(home: Path, repo: Path) -> Iterator[None]:
    """Whatever looks at the app of a repository has to wait: as for a disk or a server that does not answer."""
    (found,) = [
        row["id"] for row in json.loads(ok(repo, "app", "list", "--json")) if row["repository"] == str(repo / ".git")
    ]
    with locked(str(home / "locks" / f"app-{found}.lock"), "the app"):
        yield


def test_an_app_that_cannot_be_looked_at_holds_up_no_other_and_no_end(tmp_path: Path, home: Path) -> None:
    stuck, other = repository(tmp_path / "stuck"), repository(tmp_path / "other")
    for repo in (stuck, other):
        ok(repo, "init", "--grace", "0s", "--no-hooks")
    with daemon(home) as running:
        until(lambda: connected(stuck) == {"main"} and connected(other) == {"main"})
        with held(home, stuck):
            git(stuck, "branch", "waits")
            for number in range(3):
                git(other, "branch", f"goes-on-{number}")
                until(lambda number=number: f"goes-on-{number}" in connected(other), 45)  # type: ignore[misc]
            assert "waits" not in connected(stuck)
        until(lambda: "waits" in connected(stuck))
        assert "Traceback" not in running.log.read_text()


def test_thousands_of_branches_at_once_do_not_make_another_app_wait(tmp_path: Path, home: Path) -> None:
    many, other = repository(tmp_path / "many"), repository(tmp_path / "other")
    for repo in (many, other):
        ok(repo, "init", "--grace", "0s", "--no-hooks")
    with daemon(home) as running:
        until(lambda: connected(many) == {"main"} and connected(other) == {"main"})
        add_branches(many, *(f"many-{number}" for number in range(3000)))
        git(other, "branch", "one")
        until(lambda: "one" in connected(other), 45)
        git(other, "branch", "-q", "-D", "one")
        assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()
    with daemon(home):
        until(lambda: len(connected(many)) == 3001)


@pytest.mark.parametrize("who", ["hook", "daemon"])
def test_branches_beyond_the_limit_of_an_app_get_no_databases_and_a_push_says_so(
    tmp_path: Path, home: Path, who: str
) -> None:
    origin = repository(tmp_path / "origin")
    hub = bare(tmp_path / "hub.git", origin)
    ok(hub, "init", "--name", "shop", "--grace", "0s")
    ok(hub, "app", "set", "--max-branches", "2")
    with daemon(home) if who == "daemon" else nullcontext():
        add_branches(origin, "a", "b", "c", "d")
        pushed = git(origin, "push", "hub", "--all").stderr
        assert [f"git-branch/{name} connected" in pushed for name in "abcd"] == [True, True, False, False]
        for name in "cd":
            assert (
                f"provisioner: git-branch/{name} has no database: the limit of 2 branches of shop is reached" in pushed
            )
        commit(origin, "second")
        assert "production connected" in git(origin, "push", "hub", "main").stderr  # the limit is not production's
        refused = provisioner(hub, "exec", "--branch", "c", "--", "true")
        assert (refused.returncode, "its limit of 2 branches is reached" in refused.stderr) == (3, True)
        checks = {row["check"]: row for row in json.loads(provisioner(hub, "doctor", "--json").stdout)}
        assert "2 branches have no databases" in checks["app shop limit"]["message"]
        git(origin, "push", "-q", "hub", ":a")  # one is gone, so there is room for another
        until(lambda: connected(hub) == {"main", "b", "c"})
        ok(hub, "app", "set", "--max-branches", "0")
        until(lambda: connected(hub) == {"main", "b", "c", "d"})
    assert "app shop limit" not in {row["check"] for row in json.loads(provisioner(hub, "doctor", "--json").stdout)}


@pytest.mark.parametrize("command", ["watch", "up"])
def test_it_ends_in_time_whatever_is_being_done_and_nothing_is_half_done(
    tmp_path: Path, home: Path, command: str
) -> None:
    """A look that waits, a command that does not listen, and a checkout of many files."""
    stuck, deaf, large = (repository(tmp_path / name) for name in ("stuck", "deaf", "large"))
    for repo in (stuck, deaf, large):
        ok(repo, "init", "--grace", "0s", "--no-hooks")
    there = outside(tmp_path)
    ok(deaf, "app", "set", "--pre-deploy", "true", "--allow-write", there)
    ok(large, "app", "set", "--pre-deploy", "true")
    ok(deaf, "app", "set", "--pre-deploy", f"trap '' TERM; touch {there}/begun; [ -e {there}/go ] || sleep 600")
    lines = ["commit refs/heads/big", "committer x <x@example.org> 0 +0000", "data 0"]
    for number in range(8_000):
        lines += [f"M 100644 inline d{number % 300}/f{number}", "data 1", "x"]
    words = ("provisioner", command, *(("--port", "0") if command == "up" else ()), "--log-format", "json")
    with daemon(home, *words) as running, held(home, stuck):
        subprocess.run(["git", "fast-import", "--quiet"], cwd=large, input="\n".join([*lines, ""]).encode(), check=True)
        git(stuck, "branch", "waits")
        git(deaf, "commit", "-q", "--allow-empty", "-m", "second")
        until((there / "begun").exists)
        began = time.monotonic()
        running.process.terminate()
        assert running.process.wait(60) == 0
        assert time.monotonic() - began < 25  # what is promised
    (there / "go").touch()
    for repo in (stuck, deaf, large):
        ok(repo, "reconcile")
        assert {row["status"] for row in status(repo)} == {"connected"}
    assert list((home / "work").iterdir()) == []
