"""The daemon: one a home, stops when asked, recovers when killed, and says what it does."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from support import bare, branches, connected, daemon, git, ok, provisioner, repository, status, until


def test_it_refuses_to_run_twice_on_one_home(home: Path, tmp_path: Path) -> None:
    with daemon(home) as first:
        second = provisioner(tmp_path, "watch")
        assert second.returncode == 1
        assert "already running" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert first.process.poll() is None
        assert first.stop() == 0


def test_two_homes_have_a_daemon_each(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with daemon(tmp_path / "home") as first, daemon(tmp_path / "other" / "home") as second:
        assert first.stop() == 0
        assert second.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly(home: Path, tmp_path: Path, number: int) -> None:
    clone = repository(tmp_path / "shop")
    ok(clone, "init")
    with daemon(home) as running:
        git(clone, "branch", "one")
        assert running.stop(number) == 0
    assert not (home / "daemon").exists()
    assert not (home / "daemon.sock").exists()
    assert "Traceback" not in running.log.read_text()
    assert json.loads(running.log.read_text().splitlines()[-1])["message"] == "stopped"
    git(clone, "branch", "two")  # from now on the hooks do it
    until(lambda: connected(clone) == branches(clone))


def test_after_a_kill_hooks_do_the_work_and_a_new_daemon_starts(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    ok(hub, "init", "--grace", "0s")
    with daemon(home) as running:
        running.process.kill()
        running.process.wait()
    assert (home / "daemon").exists()
    assert (home / "daemon.sock").exists()

    pushed = git(clone, "push", "hub", "main:between")
    assert "git-branch/between connected" in pushed.stderr
    with daemon(home) as running:
        pushed = git(clone, "push", "hub", "main:after", ":between")
        assert "git-branch/after connected" in pushed.stderr
        until(lambda: connected(hub) == {"main", "after"})
        assert running.stop() == 0


def test_after_a_kill_local_hooks_do_the_work(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    ok(clone, "init", "--grace", "0s")
    with daemon(home) as running:
        running.process.kill()
        running.process.wait()
    git(clone, "branch", "between")
    until(lambda: connected(clone) == branches(clone))


def test_what_happened_while_no_daemon_ran_is_found_at_its_start(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop", "one")
    ok(clone, "init", "--no-hooks", "--grace", "0s")
    git(clone, "branch", "two")
    git(clone, "branch", "-D", "one")
    with daemon(home):
        until(lambda: connected(clone) == {"main", "two"})


def test_an_app_that_is_added_while_it_runs_is_followed(home: Path, tmp_path: Path) -> None:
    with daemon(home):
        clone = repository(tmp_path / "shop")
        ok(clone, "init", "--no-hooks", "--grace", "0s")
        git(clone, "branch", "one")
        until(lambda: connected(clone) == branches(clone))


def test_a_repository_that_is_cloned_anew_in_its_place_is_followed(home: Path, tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin")
    git(tmp_path, "clone", "-q", origin, "shop")
    clone = tmp_path / "shop"
    git(clone, "branch", "one")
    ok(clone, "init", "--no-hooks", "--grace", "0s")
    with daemon(home):
        shutil.rmtree(clone)
        git(tmp_path, "clone", "-q", origin, "shop")
        git(clone, "branch", "two")
        until(lambda: connected(clone) == {"main", "two"})
        git(clone, "branch", "three")
        until(lambda: connected(clone) == {"main", "two", "three"})


def test_a_repository_that_was_away_is_followed_when_it_is_back(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop", "one")
    ok(clone, "init", "--no-hooks", "--grace", "0s")
    with daemon(home) as running:
        away = clone.rename(tmp_path / "away")
        git(away, "branch", "-q", "two")  # wakes the daemon
        until(lambda: "no readable git repository" in running.log.read_text())
        assert "one" in {row["branch"] for row in status(tmp_path) if row["status"] == "connected"}
        away.rename(clone)
        until(lambda: {"main", "one", "two"} <= connected(clone))
        git(clone, "branch", "three")
        until(lambda: "three" in connected(clone))
        assert "polling" not in running.log.read_text()


def test_a_repository_that_has_been_moved_is_followed_to_its_new_place(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop", "one")
    ok(clone, "init", "--no-hooks", "--grace", "0s")
    with daemon(home):
        moved = clone.rename(tmp_path / "moved")
        ok(moved, "app", "set", "shop", "--repository", moved)
        git(moved, "branch", "two")
        until(lambda: connected(moved) == {"main", "one", "two"})
        git(moved, "branch", "-D", "one")
        until(lambda: connected(moved) == {"main", "two"})


def test_json_log_lines_are_documents(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    ok(clone, "init")
    with daemon(home) as running:
        git(clone, "branch", "修正")
        until(lambda: "reconciled" in running.log.read_text())
        running.stop()
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert [line["message"] for line in lines][:2] == ["watching", "reconciled"]
    assert all(line["level"] == "info" and line["at"].endswith("Z") for line in lines)
    assert lines[0]["pid"] == running.process.pid
    assert lines[1]["app"] == "shop"


def test_a_home_with_a_long_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / ("long-" * 20) / ("path-" * 20) / "home"
    monkeypatch.setenv("PROVISIONER_HOME", str(home))
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    ok(hub, "init")
    with daemon(home) as running:
        pushed = git(clone, "push", "hub", "main:far")
        assert "git-branch/far connected" in pushed.stderr
        socket = Path((home / "daemon").read_text().split(" ", 2)[2].rstrip("\n"))
        assert socket.exists()
        assert running.stop() == 0
    assert not socket.parent.exists()


WITHOUT_WATCHES = """
import errno, os, sys
from watchdog.observers import Observer

def schedule(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

Observer.schedule = schedule
sys.argv = ["provisioner", "watch", "--log-format", "json"]
from provisioner.__main__ import main
main()
"""


def test_it_says_so_and_polls_when_watches_run_out(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop", "one")
    ok(clone, "init", "--no-hooks", "--grace", "0s")
    with daemon(home, sys.executable, "-c", WITHOUT_WATCHES) as running:
        git(clone, "branch", "two")
        git(clone, "branch", "-D", "one")
        until(lambda: connected(clone) == {"main", "two"})
        assert running.stop() == 0
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    warning = next(line for line in lines if line["level"] == "warning" and line["app"])
    assert "fs.inotify.max_user_watches" in warning["message"]
    assert "polling" in warning["message"]
