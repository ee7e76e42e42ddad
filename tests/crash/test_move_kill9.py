"""A kill -9 at any instant of a move, while programs write: each goes on, and nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from kv_instance_world import serving
from move_world import Writer, left_of, writing
from pg_server import PgServer
from support import killed, ok, points, provisioner, rows, shop

from provisioner.kv.stores.sqlite.schema import why_not_a_database

LONG = os.environ.get("KV_NIGHTLY") == "1"
ROUNDS = 10
FENCED = ("move.intended", "move.closed", "move.fenced", "move.settled", "move.renamed", "move.placed")
OF_EACH = [point for point in points("move") if point not in ("move.begun", "move.recorded", "move.turned")]
THERE = [point for point in OF_EACH if point != "move.closed"]  # of servers only
BACK = OF_EACH if LONG else ["move.closed", "move.placed"]


def cut_off(repo: Path, point: str, writers: list[Writer], *place: str) -> None:
    """Killed there, it lets programs go on after a reconcile at the latest."""
    killed(repo, point, "instance", "move", "default", "--yes", *place)
    if point in FENCED:
        ok(repo, "reconcile")
    for writer in writers:
        writer.goes_on()


def test_at_every_instant_of_a_move_to_a_server_and_back(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", "login")
    with serving(), writing(repo, "main", "login") as writers:
        cut_off(repo, "move.begun", writers, "--url", pg.url())
        for point in THERE:
            cut_off(repo, point, writers)
        killed(repo, "move.recorded", "instance", "move", "default", "--yes")
        assert all(row["path"] is None for row in rows(repo))
        for writer in writers:
            writer.goes_on()
        ok(repo, "instance", "move", "default", "--forget", "--yes")
        place: tuple[str, ...] = ("--directory", str(tmp_path / "again"))
        for point in BACK:
            cut_off(repo, point, writers, *place)
            place = ()
        ok(repo, "instance", "move", "default", "--yes")
        for writer in writers:
            writer.goes_on()
    assert {row["path"].startswith(str(tmp_path / "again")) for row in rows(repo)} == {True}


def test_a_daemon_lets_programs_go_on_and_turned_back_it_is_where_it_was(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", "login", "cart")
    paths = {row["timeline"]: row["path"] for row in rows(repo)}
    with serving("up"), writing(repo, "login") as (writer,):
        killed(repo, "move.placed:2", "instance", "move", "default", "--url", pg.url(), "--yes")
        writer.goes_on()
        killed(repo, "move.turned", "instance", "move", "default", "--back", "--yes")
        writer.goes_on()
        ok(repo, "instance", "move", "default")
        writer.goes_on()
    there = {row["timeline"]: row["path"] for row in rows(repo)}
    assert there.keys() == paths.keys()
    assert all(not why_not_a_database(path) for path in there.values())
    assert {name.partition("_")[0] for name in left_of(repo, pg)} <= {"pvo", "pv"}  # what was put away, and its roles
    ok(repo, "instance", "move", "default", "--forget", "--yes")
    assert left_of(repo, pg) == set()


@pytest.mark.skipif(not LONG, reason="for the long run")
def test_at_any_time_there_and_back_again_and_again(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", "login", "cart")
    chance = random.Random()
    places = [("--url", pg.url()), *(("--directory", str(tmp_path / f"place{number}")) for number in range(ROUNDS))]
    with serving("up"), writing(repo, "main", "login", "cart") as writers:
        for number in range(ROUNDS):
            place: tuple[str, ...] = places[0] if number % 2 == 0 else places[number]
            provisioner(repo, "instance", "move", "default", "--forget", "--yes")
            while "is being moved" in ok(repo, "instance", "show", "default") or place:
                command = ["provisioner", "instance", "move", "default", "--yes", *place]
                with subprocess.Popen(
                    command, cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                ) as moving:
                    try:
                        moving.wait(chance.uniform(0.5, 6))
                    except subprocess.TimeoutExpired:
                        moving.kill()
                if moving.wait() != -signal.SIGKILL or "is being moved" in ok(repo, "instance", "show", "default"):
                    place = ()
                for writer in writers:
                    writer.goes_on()
