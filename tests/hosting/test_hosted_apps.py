"""Apps of branches through the real router: pushed, answered, replaced, put to sleep, and gone with their branches."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from preview_world import SERVER, PreviewWorld, previews, up
from support import git, ok, status, statuses, until

from provisioner.hosting.routes import Routes
from provisioner.system.home import Home


@pytest.fixture
def world(tmp_path: Path, home: Path) -> Iterator[PreviewWorld]:
    with previews(tmp_path, home) as found:
        yield found


def test_a_push_is_answered_with_a_url_that_works(world: PreviewWorld) -> None:
    said = world.push("login", "hello")
    assert f"provisioner: git-branch/login running http://login.shop.localhost:{world.port}" in said
    answer = world.said("login.shop.localhost", "/a?b")
    assert (answer["text"], answer["timeline"], answer["path"]) == ("hello", "git-branch/login", "/a?b")
    assert answer["url"] == f"http://login.shop.localhost:{world.port}"
    revision = git(world.clone, "rev-parse", "login").stdout.strip()
    assert answer["revision"] == revision
    assert world.said(f"{revision[:12]}.shop.localhost")["revision"] == revision
    until(lambda: world.get("shop.localhost")[0] == 200)
    assert world.said("shop.localhost")["timeline"] == "production"
    assert world.get("nothing.shop.localhost")[0] == 404
    assert world.get("login.other.localhost")[0] == 404


def test_a_revision_that_is_not_healthy_gets_no_request(world: PreviewWorld) -> None:
    world.push("login", "good")
    (world.clone / "server.py").write_text("print('this is broken', flush=True); raise SystemExit(3)")
    said = world.push("login", message="broken")
    assert "git-branch/login failed: start failed: it ended before it was healthy: it ended with exit code 3" in said
    assert "still serves the revision before" in said
    assert world.said("login.shop.localhost")["text"] == "good"
    document = next(each for each in status(world.bare) if each["timeline"] == "git-branch/login")
    assert (document["state"], document["url"]) == ("running", f"http://login.shop.localhost:{world.port}")
    assert "exit code 3" in document["app_error"]


def test_requests_get_what_is_deployed_instead_of_what_they_waited_for(world: PreviewWorld) -> None:
    once = "import os, time\nwhile 'GREETING' in os.environ and not os.path.exists('never-written'):\n    time.sleep(0.1)\n"
    (world.clone / "server.py").write_text(f"{once}TEXT = 'slow'\n{SERVER}")
    world.push("login", message="slow")
    ok(world.bare, "var", "set", "GREETING=ahoy")  # starts it again
    until(lambda: "login.shop.localhost" not in Routes(Home(str(world.home))).all())
    with closing(http.client.HTTPConnection("127.0.0.1", world.port, timeout=60)) as connection:
        connection.request("GET", "/", headers={"Host": f"login.shop.localhost:{world.port}"})
        world.push("login", "next")
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status == 200, body
    assert json.loads(body)["text"] == "next"


def test_no_request_fails_while_a_revision_is_replaced(world: PreviewWorld) -> None:
    world.push("login", "one")
    over, failures, texts = threading.Event(), list[object](), list[str]()

    def ask() -> None:
        while not over.is_set():
            try:
                code, body = world.get("login.shop.localhost")
                if code == 200:
                    texts.append(json.loads(body)["text"])
                else:
                    failures.append((code, body))
            except OSError as error:
                failures.append(error)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    try:
        for text in ("two", "three"):
            world.push("login", text)
            (world.clone / "server.py").write_text("import time; time.sleep(0.2); raise SystemExit(3)")
            assert "failed: start failed" in world.push("login", message="broken")
            until(lambda text=text: bool(texts) and texts[-1] == text)  # type: ignore[misc]
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert failures == []
    assert len(texts) > 50
    assert set(texts) == {"one", "two", "three"}
    until(lambda: len(world.processes()) == 2)  # production's, and the last


def test_an_app_sleeps_and_the_next_requests_start_it_once(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home, "--command", "exec python3 server.py", "--idle", "1s") as world:
        world.push("login", "hello")
        state: dict[str, str] = {}

        def asleep() -> bool:
            state.update({each["timeline"]: each["state"] for each in status(world.bare)})
            return state["git-branch/login"] == "sleeping"

        until(asleep)
        assert state["production"] == "running"
        until(lambda: len(world.processes()) == 1)
        pids: list[int] = []
        askers = [
            threading.Thread(target=lambda: pids.append(world.said("login.shop.localhost")["pid"])) for _ in range(50)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert len(pids) == 50
        assert len(set(pids)) == 1


def test_an_app_ends_with_its_branch(world: PreviewWorld) -> None:
    ok(world.bare, "app", "set", "--grace", "0s")
    world.push("login", "hello")
    assert world.said("login.shop.localhost")["text"] == "hello"
    git(world.clone, "push", "-q", "origin", ":login")
    until(lambda: world.get("login.shop.localhost")[0] == 404)
    until(lambda: len(world.processes()) == 1)
    assert not list((world.home / "router").glob("*/login.shop.localhost"))
    until(lambda: statuses(world.bare)["git-branch/login"] == "archived")
    assert len(list((world.home / "log/apps").glob("*.log"))) == 1  # production's
    assert "git-branch/login running" in world.push("login", "hello again")
    assert world.said("login.shop.localhost")["text"] == "hello again"


def test_databases_are_archived_after_their_app_has_ended(world: PreviewWorld) -> None:
    ok(world.bare, "app", "set", "--grace", "0s")
    stubborn = "import signal, time, sys\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit()))\n"
    (world.clone / "server.py").write_text(f"{stubborn}TEXT = 'stubborn'\n{SERVER}")
    assert "git-branch/login running" in world.push("login", message="stubborn")
    git(world.clone, "push", "-q", "origin", ":login")
    until(lambda: statuses(world.bare)["git-branch/login"] == "archived")
    assert len(world.processes()) == 1


@pytest.mark.parametrize("victim", ["app", "supervisor", "router", "daemon"])
def test_after_a_kill_all_is_as_before(tmp_path: Path, home: Path, victim: str) -> None:
    with previews(tmp_path, home) as world:
        world.push("login", "hello")
        before = world.said("login.shop.localhost")["pid"]
        if victim == "app":
            os.kill(before, signal.SIGKILL)
        elif victim == "supervisor":
            os.kill(int(Path(f"/proc/{before}/stat").read_text().rpartition(") ")[2].split()[1]), signal.SIGKILL)
        elif victim == "router":
            os.kill(world.routers()[0], signal.SIGKILL)
        if victim == "daemon":
            world.running.process.kill()
            world.running.process.wait()
            with up(home, world.port):
                _as_before(world)
        else:
            _as_before(world)
            world.running.process.terminate()
            world.running.process.wait(60)
        until(lambda: not world.processes())
        assert world.routers() == []


def _as_before(world: PreviewWorld) -> None:
    def answers() -> bool:
        try:
            texts = [str(world.said(host)["text"]) for host in ("login.shop.localhost", "shop.localhost")]
            return texts == ["hello", "first"]
        except (OSError, AssertionError):
            return False

    until(lambda: answers() and len(world.processes()) == 2)  # what was killed may still have answered


def test_rollback_lock_stop_and_skip(world: PreviewWorld) -> None:
    world.push("login", "one")
    first = git(world.clone, "rev-parse", "login").stdout.strip()
    world.push("login", "two")
    ok(world.bare, "app", "rollback", "--branch", "login")
    until(lambda: world.said("login.shop.localhost")["text"] == "one")
    assert world.said("login.shop.localhost")["revision"] == first
    said = world.push("login", "three")
    assert f"(locked to {first[:12]})" in said
    assert world.said("login.shop.localhost")["text"] == "one"
    ok(world.bare, "app", "unlock", "--branch", "login")
    until(lambda: world.said("login.shop.localhost")["text"] == "three")
    assert "this commit says that it is not deployed" in world.push("login", "four", message="wip [skip deploy]")
    assert world.said("login.shop.localhost")["text"] == "three"
    ok(world.bare, "app", "stop", "--branch", "login")
    until(lambda: world.get("login.shop.localhost")[0] != 200)
    assert "provisioner app start --app shop --timeline git-branch/login" in world.get("login.shop.localhost")[1]
    ok(world.bare, "app", "start", "--branch", "login")
    until(lambda: world.get("login.shop.localhost")[0] == 200)


def test_a_build_that_fails_says_why_and_prints_no_secret(tmp_path: Path, home: Path) -> None:
    build = "echo the token is $API_TOKEN; test ! -e broken || exit 9"
    with previews(tmp_path, home, "--command", "exec python3 server.py", "--build", build) as world:
        ok(world.bare, "var", "set", "--secret", "API_TOKEN=4711-very-secret")
        (world.clone / "broken").write_text("")
        said = world.push("login", "hello")
        assert "build failed: it ended with exit code 9" in said
        assert "the token is" in said
        assert "4711-very-secret" not in said
        logs = "".join(path.read_text() for path in (home / "log/apps").glob("*.log"))
        assert "the token is" in logs
        assert "4711-very-secret" not in logs
        assert world.get("login.shop.localhost")[0] >= 500


def test_a_dev_server_has_the_url_while_it_runs(world: PreviewWorld) -> None:
    world.push("login", "hosted")
    git(world.clone, "switch", "-q", "login")
    (world.clone / "server.py").write_text(f"TEXT = 'dev'\n{SERVER}".replace('os.environ["DENO_DEPLOYMENT_ID"]', '""'))
    words = ("provisioner", "dev", "--", "python3", "server.py")
    with (world.home.parent / "dev.log").open("wb") as log:
        server = subprocess.Popen(words, cwd=world.clone, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            until(
                lambda: (
                    world.get("login.shop.localhost")[0] == 200 and world.said("login.shop.localhost")["text"] == "dev"
                )
            )
            ok(world.bare, "app", "redeploy", "--branch", "login")
            until(lambda: len(world.processes()) == 2)
            assert world.said("login.shop.localhost")["text"] == "dev"
        finally:
            server.terminate()
            server.wait(60)
    until(lambda: world.said("login.shop.localhost")["text"] == "hosted")


def test_an_app_that_is_run_no_longer_leaves_nothing(world: PreviewWorld) -> None:
    world.push("login", "hello")
    ok(world.bare, "app", "run", "--no-command", "--yes")
    until(lambda: not world.processes())
    until(lambda: not list((world.home / "log/apps").iterdir()))
    assert [path for path in (world.home / "work").iterdir() if path.is_dir() and any(path.rglob("server.py"))] == []
    assert world.get("login.shop.localhost")[0] == 404
    ok(world.bare, "app", "run", "--command", "exec python3 server.py")
    until(lambda: world.get("login.shop.localhost")[0] == 200)


def test_a_revision_that_works_does_not_wait_for_those_that_did_not(world: PreviewWorld) -> None:
    world.push("login", "one")
    good = (world.clone / "server.py").read_text()
    for number in range(3):
        (world.clone / "server.py").write_text("raise SystemExit(3)")
        assert "failed: start failed" in world.push("login", message=f"broken {number}")
    (world.clone / "server.py").write_text(good.replace("one", "two"))
    assert "git-branch/login running" in world.push("login", message="good")
    assert world.said("login.shop.localhost")["text"] == "two"


def test_as_many_apps_run_as_may_and_the_others_sleep(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home, options=("--max-apps", "2")) as world:
        until(lambda: world.get("shop.localhost")[0] == 200)
        for branch in ("a", "b", "c"):
            assert f"git-branch/{branch} running" in world.push(branch, branch)
        for branch in ("a", "b", "c", "a"):

            def answers(branch: str = branch) -> bool:
                return world.get(f"{branch}.shop.localhost")[0] == 200

            until(answers)  # 503 with Retry-After as long as the one before may still have a connection
            until(lambda: len(world.processes()) <= 2)


def test_files_that_are_lost_are_built_again(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home, "--command", "exec python3 server.py", "--idle", "1s") as world:
        world.push("login", "hello")
        until(lambda: "sleeping" in [each["state"] for each in status(world.bare) if each["branch"] == "login"])
        until(lambda: len(world.processes()) == 1)
        for place in (home / "work").iterdir():
            if (place / "checkout/server.py").exists() and "'hello'" in (place / "checkout/server.py").read_text():
                shutil.rmtree(place)
        assert world.said("login.shop.localhost")["text"] == "hello"


def test_an_app_without_databases_does_not_run_and_is_not_said_to(world: PreviewWorld) -> None:
    world.push("login", "hello")
    ok(world.bare, "database", "archive", "login", "--yes")
    until(lambda: len(world.processes()) == 1)
    until(lambda: "sleeping" in [each["state"] for each in status(world.bare) if each["branch"] == "login"])
    assert world.get("login.shop.localhost")[0] >= 500


def test_a_revision_that_comes_back_while_another_is_built_is_deployed(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home, "--command", "exec python3 server.py", "--build", "sleep 1") as world:
        world.push("login", "one")
        first = git(world.clone, "rev-parse", "login").stdout.strip()
        world.push("login", "two")
        second = git(world.clone, "rev-parse", "login").stdout.strip()
        ok(world.bare, "app", "redeploy", "--branch", "login")
        for revision in (first, second, first):
            git(world.bare, "update-ref", "refs/heads/login", revision)
        ok(world.bare, "reconcile")
        until(lambda: first in world.get("login.shop.localhost")[1])  # requests are refused while revisions change


def test_an_app_starts_again_when_its_environment_changes(world: PreviewWorld) -> None:
    world.push("login", "hello")
    first = world.said("login.shop.localhost")
    ok(world.bare, "var", "set", "GREETING=ahoy")
    until(lambda: world.said("login.shop.localhost")["pid"] != first["pid"])
    second = world.said("login.shop.localhost")
    environment = Path(f"/proc/{second['pid']}/environ").read_bytes().split(b"\0")
    assert b"GREETING=ahoy" in environment
    ok(world.bare, "database", "reset", "login", "--yes")  # what is open still shows the old data
    until(lambda: world.said("login.shop.localhost")["pid"] != second["pid"])
