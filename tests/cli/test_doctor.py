"""What `doctor` tells somebody who was woken up: what is wrong, and the next step, in one line each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import daemon, files, git, ok, provisioner, repository, run

from provisioner.cli.commands.doctor import group as doctor
from provisioner.engines.files import preflight
from provisioner.system.home import Home


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    shop = repository(tmp_path / "shop", "login")
    ok(shop, "init", "--no-hooks", "--grace", "0s")
    ok(shop, "hooks", "install")
    return shop


def _wrong(cwd: Path) -> dict[str, str]:
    """What doctor calls wrong, by what it looked at; its exit code has to say the same."""
    done = provisioner(cwd, "doctor", "--json")
    wrong = {row["check"]: row["message"] for row in json.loads(done.stdout) if not row["ok"]}
    assert done.returncode == (1 if wrong else 0), done.stderr
    assert provisioner(cwd, "doctor").stdout.count("FAIL ") == len(wrong)
    return wrong


def test_where_all_is_well_nothing_is_wrong(shop: Path, home: Path) -> None:
    assert _wrong(shop) == {}
    with daemon(home):
        assert _wrong(shop) == {}
    assert _wrong(shop) == {}


def test_a_daemon_that_was_killed(shop: Path, home: Path) -> None:
    with daemon(home) as running:
        pid = running.process.pid
        running.stop(signal.SIGKILL)
    wrong = _wrong(shop)
    assert wrong.keys() == {"daemon"}
    assert f"process {pid} was killed" in wrong["daemon"]
    assert "systemctl restart provisioner" in wrong["daemon"]
    (home / "daemon").unlink()
    assert _wrong(shop) == {}
    assert "an earlier one left" in provisioner(shop, "doctor").stdout


def test_a_daemon_that_nobody_can_reach(shop: Path, home: Path) -> None:
    with daemon(home) as running:
        (home / "daemon.sock").rename(home / "aside.sock")
        wrong = _wrong(shop)
        assert wrong.keys() == {"daemon"}
        assert f"process {running.process.pid} runs but does not answer at {home / 'daemon.sock'}" in wrong["daemon"]
        assert "Restart it" in wrong["daemon"]
        (home / "aside.sock").rename(home / "daemon.sock")


def test_hooks_that_are_missing_or_start_what_is_gone(shop: Path, home: Path) -> None:
    hook = shop / ".git/hooks/post-checkout"
    text = hook.read_text()
    hook.write_text(text.replace(sys.executable, "/opt/removed/bin/python"))
    wrong = _wrong(shop)
    assert "post-checkout installed by a provisioner that is no longer there" in wrong["app shop hooks"]
    assert "Run: provisioner hooks install --app shop" in wrong["app shop hooks"]
    hook.unlink()
    assert "post-checkout missing" in _wrong(shop)["app shop hooks"]
    with daemon(home):
        assert _wrong(shop) == {}
    ok(shop, "hooks", "install")
    assert hook.read_text() == text


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("begin immediate")
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def _held(registry: Path, mode: str) -> Iterator[int]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, registry, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield holder.pid
    finally:
        holder.communicate(b"")


@pytest.mark.parametrize("mode", ["select 1", "pragma locking_mode = exclusive"])
def test_a_registry_that_is_locked(shop: Path, home: Path, mode: str) -> None:
    with _held(home / "registry.db", mode) as pid:
        wrong = _wrong(shop)
    assert wrong.keys() == {"registry"}
    assert "locked" in wrong["registry"]
    assert f"process {pid} ({sys.executable}" in wrong["registry"]
    assert _wrong(shop) == {}


def test_a_full_disk(shop: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "LOW_SPACE", 1 << 60)
    monkeypatch.chdir(shop)
    wrong = {name: text for name, ok, text in doctor._findings(Home(str(home))) if not ok}
    assert wrong.keys() == {"home", "instance default"}
    assert all("Free some, then run 'provisioner database fix --all'" in text for text in wrong.values())


WITHOUT_WATCHES = """
import errno, os, sys
from watchdog.observers import Observer

def schedule(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

Observer.schedule = schedule
sys.argv = ["provisioner", "doctor", "--json"]
from provisioner.__main__ import main
main()
"""


def test_watches_that_have_run_out(shop: Path, home: Path) -> None:
    alone = run(shop, sys.executable, "-c", WITHOUT_WATCHES)
    assert alone.returncode == 0  # nobody wants to watch
    with daemon(home):
        done = run(shop, sys.executable, "-c", WITHOUT_WATCHES)
    (wrong,) = [row for row in json.loads(done.stdout) if not row["ok"]]
    assert wrong["check"] == "app shop events"
    assert "raise fs.inotify.max_user_watches" in wrong["message"]
    assert "then restart the daemon" in wrong["message"]


def test_a_repository_that_was_moved_or_deleted(shop: Path, home: Path, tmp_path: Path) -> None:
    shop.rename(tmp_path / "moved")
    wrong = _wrong(tmp_path)
    assert wrong.keys() == {"app shop"}
    assert f"there is no repository in {shop}/.git" in wrong["app shop"]
    ok(tmp_path, "app", "set", "shop", "--repository", str(tmp_path / "moved"))
    assert _wrong(tmp_path) == {}
    shutil.rmtree(tmp_path / "moved")
    assert "'provisioner app remove shop'" in _wrong(tmp_path)["app shop"]
    ok(tmp_path, "app", "remove", "shop", "--yes")
    assert _wrong(tmp_path) == {}
    assert len(list((home / "instances/default/archive").iterdir())) == 2


def test_a_directory_of_databases_that_is_away(shop: Path, home: Path) -> None:
    place = home / "instances/default"
    place.rename(home / "aside")
    wrong = _wrong(shop)
    assert "Mount its disk, or put it back" in wrong["instance default"]
    assert sum("its file cannot be read" in text for text in wrong.values()) == 2
    (home / "aside").rename(place)
    assert _wrong(shop) == {}


def test_one_database_that_is_lost(shop: Path) -> None:
    lost = files(shop)["login"]
    lost.rename(lost.with_name("aside"))
    (text,) = _wrong(shop).values()
    assert "Put it back where 'provisioner database show shop--login-" in text
    lost.with_name("aside").rename(lost)
    assert _wrong(shop) == {}


def test_a_pre_deploy_command_that_failed(shop: Path) -> None:
    command = 'echo no table; [ "$DENO_TIMELINE" = production ]'
    assert provisioner(shop, "app", "set", "--pre-deploy", command).returncode == 1
    wrong = _wrong(shop)
    assert wrong.keys() == {"app shop git-branch/login"}
    assert "exit code 1 (no table)" in wrong["app shop git-branch/login"]
    assert "provisioner database fix --app shop git-branch/login" in wrong["app shop git-branch/login"]
    ok(shop, "app", "set", "--no-pre-deploy")
    assert _wrong(shop) == {}


def test_what_nobody_has_followed(shop: Path, home: Path) -> None:
    def age(seconds: int) -> None:
        for wake in (home / "inbox").iterdir():
            os.utime(wake, (wake.stat().st_mtime - seconds, wake.stat().st_mtime - seconds))

    age(100)
    assert _wrong(shop) == {}
    git(shop, "branch", "new", add={"PROVISIONER_SKIP": "1"})
    wrong = _wrong(shop)
    assert wrong.keys() == {"app shop refs"}
    assert "Run: provisioner reconcile --app shop" in wrong["app shop refs"]
    (wake,) = (home / "inbox").iterdir()
    wake.touch()
    assert _wrong(shop) == {}  # somebody is probably about to
    age(100)
    ok(shop, "reconcile")
    assert _wrong(shop) == {}


def test_a_daemon_that_hangs(shop: Path, home: Path) -> None:
    with daemon(home) as running:
        running.process.send_signal(signal.SIGSTOP)
        try:
            wake = home / "inbox" / "0"
            wake.touch()
            os.utime(wake, (0, 0))
            wrong = _wrong(shop)
            assert wrong.keys() == {"daemon"}
            assert f"process {running.process.pid} hangs" in wrong["daemon"]
        finally:
            wake.unlink(missing_ok=True)
            running.process.send_signal(signal.SIGCONT)


def test_a_grace_period_that_outlives_the_hook(shop: Path, home: Path) -> None:
    ok(shop, "app", "set", "--grace", "1h")
    said = ok(shop, "doctor")
    assert "its grace period of 3600 s ends only at the next event" in said
    assert "run 'provisioner reconcile --all' from cron" in said
    with daemon(home):
        assert "cron" not in ok(shop, "doctor")
