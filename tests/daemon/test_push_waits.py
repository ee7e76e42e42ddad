"""`git push` waits until its branches are connected, says what it waits for, and streams what their command prints."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import bare, commit, daemon, git, ok, repository, status, until

from provisioner.core.clock import now_ms
from provisioner.core.model import Status
from provisioner.jobs import follow_log, progress
from provisioner.registry.store import Registry
from provisioner.system.home import Home


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    origin = repository(tmp_path / "origin")
    hub = bare(tmp_path / "hub.git", origin)
    ok(hub, "init", "--name", "shop", "--grace", "0s")
    return hub


def pushed(tmp_path: Path, branch: str) -> str:
    origin = tmp_path / "origin"
    git(origin, "switch", "-q", "-c", branch)
    commit(origin, branch)
    return git(origin, "push", "hub", branch).stderr


def connected(hub: Path, branch: str) -> bool:
    return any(row["branch"] == branch and row["status"] == "connected" for row in status(hub))


@pytest.mark.parametrize("with_daemon", [False, True], ids=["hook alone", "daemon"])
def test_a_push_returns_when_copy_scrub_and_pre_deploy_have_finished(
    hub: Path, tmp_path: Path, home: Path, with_daemon: bool
) -> None:
    ok(hub, "assign", "--new-branch", "fork:production", "--scrub", "sleep 0.5", "default")
    ok(hub, "app", "set", "--pre-deploy", "echo one; sleep 0.5; echo two")
    with ExitStack() as stack:
        if with_daemon:
            stack.enter_context(daemon(home))
        told = pushed(tmp_path, "login")
        assert connected(hub, "login"), told
    lines = [line.removeprefix("remote: ").strip() for line in told.splitlines()]
    steps = [line for line in lines if line.startswith("provisioner: git-branch/login: ")]
    assert any("copying the data of production" in line for line in steps), told
    assert "provisioner: git-branch/login: pre-deploy: echo one; sleep 0.5; echo two" in steps
    assert lines.index("one") < lines.index("two")
    assert [line for line in lines if line.startswith("provisioner: git-branch/login connected")], told


def test_a_push_says_which_step_is_under_way_while_the_branches_are_read(
    hub: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(
        hub,
        "assign",
        "--new-branch",
        "fork:production",
        "--scrub",
        f"while ! [ -e {tmp_path}/go ]; do sleep 0.05; done",
        "default",
    )
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0.05)
    git(tmp_path / "origin", "push", "-q", "hub", "main:login", add={"PROVISIONER_SKIP": "1"})
    told: list[str] = []
    over = threading.Event()
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
    words = (Home(str(home)), app.id, [b"login"], told.append, over)
    teller = threading.Thread(target=progress.tell_steps, args=words)
    teller.start()
    try:
        until(lambda: told)
        assert told[0] == "provisioner: waiting until the branches have been read"
        with daemon(home):
            until(lambda: any("and scrubbing the copy: while" in line for line in told))
            (tmp_path / "go").touch()
            until(lambda: connected(hub, "login"))
    finally:
        over.set()
        teller.join()


def test_a_push_does_not_wait_for_ever(hub: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "go").touch()
    ok(hub, "app", "set", "--pre-deploy", f"while ! [ -e {tmp_path}/go ]; do sleep 0.05; done")
    (tmp_path / "go").unlink()
    git(tmp_path / "origin", "push", "-q", "hub", "main:login", add={"PROVISIONER_SKIP": "1"})
    monkeypatch.setattr(follow_log, "PUSH_SECONDS", 0.3)
    monkeypatch.setattr(follow_log, "BEAT_SECONDS", 0.1)
    told: list[str] = []
    with daemon(home), Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        until(lambda: any(row[1] is Status.CONNECTED for row in registry.statuses(app.id, b"login")))
        follow_log.follow(registry, app, progress.pushed_and_pending(registry, app, [b"login"]), now_ms(), told.append)
        (tmp_path / "go").touch()
        until(lambda: connected(hub, "login"))
    assert "still" in told[-2]
    assert told[-1] == "provisioner: git-branch/login: this continues in the background. See: provisioner status"


def test_a_push_whose_copy_fails_says_why_at_once(hub: Path, tmp_path: Path) -> None:
    ok(hub, "assign", "--new-branch", "fork:production", "--scrub", "exit 3", "default")
    ok(hub, "app", "set", "--pre-deploy", "echo never")
    told = pushed(tmp_path, "login")
    assert "git-branch/login error" in told
    assert "exit code 3" in told
    assert "pre-deploy" not in told
