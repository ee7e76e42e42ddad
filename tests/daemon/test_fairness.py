"""One app with more than anybody can do does not make the others wait."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from support import add_branches, commit, daemon, git, ok, outside, provisioner, repository, status, until

from provisioner.jobs.fair_queue import FairQueue
from provisioner.jobs.queue import EACH, Errand


def test_apps_take_turns_in_a_queue() -> None:
    queue = FairQueue[Errand](2)
    for number in range(3):
        queue.put(Errand("many", f"{number}"))
    queue.put(Errand("one", "0"))
    assert queue.wanted() == 3
    first, second, third = (queue.get() for _ in range(3))
    assert [each and each.app_id for each in (first, second, third)] == ["many", "one", "many"]
    taken: list[Errand | None] = []
    waiting = threading.Thread(target=lambda: taken.append(queue.get()))
    waiting.start()
    assert first is not None
    queue.done(first)
    waiting.join(60)
    assert taken == [Errand("many", "2")]
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
