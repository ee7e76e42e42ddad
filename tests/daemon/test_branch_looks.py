"""The daemon looks at pushed branches alone, and at the whole app afterwards: a hint that is wrong or missing changes nothing."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from support import Running, bare, connected, daemon, files, git, got, ok, put, repository, until

from provisioner.daemon.watched_app import (
    FAILURE_SECONDS,
    MANY,
    POLL_SECONDS,
    SAFETY_SECONDS,
    WHOLE_SECONDS,
    WatchedApp,
)
from provisioner.git.watch import EventScope
from provisioner.reconcile.controller import Outcome

NOW, WALL = 1_000.0, 1_700_000_000_000


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    hub = bare(tmp_path / "hub.git", repository(tmp_path / "origin"))
    ok(hub, "init", "--name", "shop", "--grace", "0s")
    return hub


def looks(running: Running) -> list[dict[str, Any]]:
    """What the daemon says of the looks after which something was done."""
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    return [line for line in lines if line["message"] == "reconciled"]


def test_a_push_to_a_settled_app_has_its_branches_looked_at_alone(hub: Path, tmp_path: Path, home: Path) -> None:
    origin, numbers = tmp_path / "origin", iter(range(1000))

    def alone() -> bool:
        number = next(numbers)
        said = git(origin, "push", "hub", f"main:feature-{number}/x", f"main:other-{number}").stderr
        assert f"git-branch/feature-{number}/x connected" in said
        assert f"git-branch/other-{number} connected" in said
        return any(look["branches"] is not None and look["actions"] for look in looks(running))

    with daemon(home) as running:
        until(alone)  # not by the first push: the look at everything with which a daemon starts may come with it
        assert all(look["branches"] in (None, 1, 2) for look in looks(running))


def told(home: Path, place: Path, *lines: bytes) -> bytes:
    """What the daemon answers if a hook says this."""
    app_id = (place / "provisioner/app").read_text().split("\n")[0]
    path = (home / "daemon").read_text().split(" ", 2)[2].rstrip("\n")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"\n".join([app_id.encode() + b" " + os.fsencode(place), *lines, b""]))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_a_false_hint_changes_nothing(hub: Path, tmp_path: Path, home: Path) -> None:
    git(tmp_path / "origin", "push", "hub", "main:login")
    put(files(hub)["login"], "kept")
    before = connected(hub)
    with daemon(home) as running:
        for name in (b"login", b"none", b"../../HEAD", b"../remotes/origin/main", b"a\0b", b"", b"x" * 5000):
            told(home, hub, b"0" * 40 + b" " + name)
            told(home, hub, b"1" * 40 + b" " + name, b"2" * 40 + b" main")
        told(home, hub, *(b"0" * 40 + b" many-%d" % number for number in range(500)))
        assert "git-branch/cart connected" in git(tmp_path / "origin", "push", "hub", "main:cart").stderr
        assert running.stop() == 0
    assert connected(hub) == before | {"cart"}
    assert got(files(hub)["login"]) == "kept"


DEAF = """
import errno, os, sys
from watchdog.observers import Observer

def schedule(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

Observer.schedule = schedule
sys.argv = ["provisioner", "watch", "--log-format", "json"]
from provisioner.__main__ import main
main()
"""


def test_a_branch_that_nothing_tells_of_is_found_while_others_are_pushed(hub: Path, tmp_path: Path, home: Path) -> None:
    origin, numbers = tmp_path / "origin", iter(range(1000))

    def found() -> bool:
        git(origin, "push", "hub", f"main:told-{next(numbers)}")
        return "untold" in connected(hub)

    with daemon(home, sys.executable, "-c", DEAF) as running:
        until(lambda: any(look["branches"] == 1 for look in looks(running)) or found())
        git(hub, "update-ref", "refs/heads/untold", "main")
        until(found)


def settled(**known: Any) -> WatchedApp:
    watched = WatchedApp(**known)
    watched.wake()
    assert watched.begin(NOW) is None
    watched.finish(Outcome(0, None), 0.1, NOW, WALL, None)
    return watched


def test_before_the_first_look_at_everything_no_hint_is_enough() -> None:
    watched = WatchedApp()
    watched.wake_for([b"a"])
    assert watched.begin(NOW) is None


def test_after_it_the_branches_that_were_heard_of_are_looked_at_and_everything_a_while_later() -> None:
    watched = settled()
    assert watched.due == NOW + SAFETY_SECONDS
    watched.heard.extend([b"a", b"b", b"a"])
    watched.take_heard()
    assert watched.next_due == watched.branches_due == NOW + 0.3
    assert watched.begin(NOW + 1) == frozenset({b"a", b"b"})
    watched.finish(Outcome(1, None, whole=False), 0.01, NOW + 2, WALL, None)
    assert watched.next_due == watched.due == NOW + 2 + WHOLE_SECONDS
    watched.wake_for([b"c"])
    assert watched.begin(NOW + 3) == frozenset({b"c"})
    watched.finish(Outcome(1, None, whole=False), 0.01, NOW + 4, WALL, None)
    assert watched.due == NOW + 2 + WHOLE_SECONDS  # others do not put it off
    watched.wake_for([b"d"])
    assert watched.begin(NOW + 2 + WHOLE_SECONDS) is None


@pytest.mark.parametrize("polled", [False, True])
def test_what_time_makes_due_is_not_put_off_by_a_look_at_some_branches(polled: bool) -> None:
    watched = WatchedApp(polled=polled)
    watched.begin(NOW)
    watched.finish(Outcome(0, WALL + 1_000), 0.01, NOW, WALL, None)
    watched.wake_for([b"a"])
    assert watched.begin(NOW + 0.5) == frozenset({b"a"})
    watched.finish(Outcome(1, None, whole=False), 0.01, NOW + 0.6, WALL + 600, None)
    assert watched.due == NOW + 1
    watched.begin(NOW + 1)
    watched.finish(Outcome(0, None), 0.01, NOW + 1, WALL, None)
    assert watched.due == NOW + 1 + (POLL_SECONDS if polled else SAFETY_SECONDS)


@pytest.mark.parametrize(
    "outcome",
    [None, Outcome(3, WALL, cut=True), Outcome(3, None, problems=("x",)), Outcome(3, WALL, cut=True, whole=False)],
    ids=["failed", "cut", "problems", "cut, some"],
)
def test_after_a_look_that_left_something_to_do_everything_is_looked_at(outcome: Outcome | None) -> None:
    watched = settled()
    watched.wake_for([b"a"])
    watched.begin(NOW + 1)
    watched.finish(outcome, 0.01, NOW + 1, WALL, None)
    assert watched.due is not None
    assert outcome is None or outcome.whole or watched.due <= NOW + 1 + FAILURE_SECONDS
    watched.wake_for([b"b"])
    assert watched.begin(NOW + 1.001) is None


def test_what_tells_of_no_branch_has_everything_looked_at_at_once_or_a_while_later() -> None:
    watched = settled()
    watched.heard.extend([b"a", EventScope.NOTHING])
    watched.take_heard()
    assert watched.begin(NOW + 1) == frozenset({b"a"})
    watched.heard.extend([b"a", EventScope.BRANCHES])
    assert watched.begin(NOW + 1) is None


def test_refs_that_rain_have_everything_looked_at() -> None:
    watched = settled()
    assert [watched.stir(NOW) for _ in range(MANY)].index(True) == MANY - 1
    watched.deaf = True  # from here on nobody listens
    watched.wake_for([b"a"])
    assert watched.begin(NOW + 1) is None
