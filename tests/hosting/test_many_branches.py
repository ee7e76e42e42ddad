"""Many branches in one push: none is started before it is asked for, and nothing is left once they are deleted."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from preview_world import PreviewWorld, previews
from support import git, ok, resident, status, until

from provisioner.hosting.deployments.due import MOST_TOGETHER
from provisioner.hosting.deployments.sockets import listeners
from provisioner.hosting.routes import Routes
from provisioner.system.home import Home

LONG = os.environ.get("KV_NIGHTLY") == "1"
BRANCHES = 200 if LONG else 16
AT_ONCE = 20 if LONG else 5


def test_many_branches_in_one_push_start_at_their_first_requests(tmp_path: Path, home: Path) -> None:
    branches = [f"b{number}" for number in range(BRANCHES)]
    with previews(tmp_path, home) as world:
        ok(world.bare, "app", "set", "--grace", "0s", "--retention", "0s")
        until(lambda: world.get("shop.localhost")[0] == 200)
        before, began = resident(world.running.process.pid), time.monotonic()
        said = _push(world, branches, "hello")
        print(f"{BRANCHES} branches pushed in {time.monotonic() - began:.1f} s")
        later = [each for each in branches if _is_later(world, each, said)]
        assert len(later) >= BRANCHES - MOST_TOGETHER  # the first ones may be seen before the others are there
        until(lambda: len(world.processes()) == 1 + BRANCHES - len(later))
        grown = resident(world.running.process.pid) - before
        print(f"the daemon has {grown / 1e6:.1f} MB more in memory")
        assert grown < 50e6
        _ask_at_once(world, branches[:AT_ONCE], "hello")
        _push(world, branches, "hello again")  # those that run are deployed at once
        until(lambda: {world.said(f"{each}.shop.localhost")["text"] for each in branches[:AT_ONCE]} == {"hello again"})
        assert world.said(f"{branches[-1]}.shop.localhost")["text"] == "hello again"
        ports = {port for host, port in Routes(Home(str(home))).all().items() if host != "shop.localhost"}
        git(world.clone, "push", "-q", "origin", *(f":{branch}" for branch in branches))
        until(lambda: len(world.processes()) == len(world.supervisors()) == 1)
        until(lambda: len(_rows(home, "hosted_app")) == len(_rows(home, "deployment")) == 1)
        until(lambda: [each["branch"] for each in status(world.bare) if each["status"] == "connected"] == ["main"])
        assert list(Routes(Home(str(home))).all()) == ["shop.localhost"]
        assert not [port for port in ports if listeners(port)]
        assert len([each for each in (home / "work").iterdir() if not each.name.startswith("cache-")]) == 1
        assert len(list((home / "work").glob("cache-*"))) <= 1
        assert len(list((home / "log/apps").glob("*.log"))) <= 2
        assert not list((home / "router").rglob("*b[0-9]*.shop.localhost*"))
        print(f"after all were deleted, it has {(resident(world.running.process.pid) - before) / 1e6:.1f} MB more")


def _is_later(world: PreviewWorld, branch: str, said: str) -> bool:
    url = f"http://{branch}.shop.localhost:{world.port}"
    assert f"git-branch/{branch} running {url}" in said or f"git-branch/{branch} sleeping {url}" in said, said
    return f"sleeping {url}; deployed when it is first requested" in said


def _push(world: PreviewWorld, branches: list[str], text: str) -> str:
    """All in one push: what the pusher reads."""
    git(world.clone, "switch", "-q", "-C", "many")
    server = (world.clone / "server.py").read_text().partition("\n")[2]
    (world.clone / "server.py").write_text(f"TEXT = {text!r}\n{server}")
    git(world.clone, "commit", "-q", "-a", "-m", text)
    return git(world.clone, "push", "-q", "-f", "origin", *(f"many:refs/heads/{each}" for each in branches)).stderr


def _ask_at_once(world: PreviewWorld, branches: list[str], text: str) -> None:
    answers: dict[str, tuple[int, str]] = {}

    def asking(branch: str) -> Callable[[], None]:
        return lambda: answers.update({branch: world.get(f"{branch}.shop.localhost")})

    began = time.monotonic()
    askers = [threading.Thread(target=asking(branch)) for branch in branches]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    print(f"the first requests to {len(branches)} branches at once were answered in {time.monotonic() - began:.1f} s")
    assert {code for code, _ in answers.values()} == {200}, (answers, world.running.log.read_text()[-5000:])
    said = {branch: json.loads(body) for branch, (_, body) in answers.items()}
    assert {branch: (each["timeline"], each["text"]) for branch, each in said.items()} == {
        branch: (f"git-branch/{branch}", text) for branch in branches
    }


def _rows(home: Path, table: str) -> list[object]:
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        return registry.execute(f"select * from {table}").fetchall()
