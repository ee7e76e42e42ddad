"""A push to a server: how much later than any other it returns, with its databases connected."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext

from bench.table import Row, compared
from bench.world import World, alternated, wait_until, world
from provisioner.daemon.spares import MOST_SPARES


def push_one(runs: int) -> list[Row]:
    with world() as here:
        client = here.repository("client")
        ours, peer = here.bare("ours.git", client), here.bare("peer.git", client)
        here.provisioner(ours, "init")
        here.hook(peer, "post-receive", f"exec '{sys.executable}' -c pass")
        with here.daemon():

            def push(target: str, turn: int) -> float:
                return here.timed(["git", "push", "--quiet", target, f"main:refs/heads/new-{turn}"], client)

            def pushed(turn: int) -> float:
                took = push(ours, turn)
                here.must_be_connected(turn + 2)  # main is one
                return took

            mine, others = alternated(runs, pushed, lambda turn: push(peer, turn))
        return [compared("push-one", mine, others, 1.1)]


def push_1000(runs: int) -> list[Row]:
    return [_many(runs, daemon=True), _many(runs, daemon=False)]


def _many(runs: int, *, daemon: bool) -> Row:
    """With a daemon that has had the seconds of idleness in which it makes empty databases ahead."""
    with world() as here:
        client = here.repository("client")
        here.branches(client, 1000, "many/")
        first = here.bare("first.git", client)
        here.provisioner(first, "init")
        with here.daemon() if daemon else nullcontext():
            mine, others = alternated(
                runs,
                lambda turn: _push_all(here, client, _served(here, client, turn, idle=daemon)),
                lambda turn: _push_all(here, client, here.bare(f"peer-{turn}.git", client)),
                settle=0.3,
            )
        return compared(f"push-1000{'' if daemon else ', no daemon'}", mine, others, 2)


def _served(here: World, client: str, turn: int, *, idle: bool) -> str:
    """A new repository that is registered, and has been pushed to; where `idle`, the daemon is given time after that."""
    path = here.bare(f"ours-{turn}.git", client)
    here.provisioner(path, "init")
    here.git(client, "push", "--quiet", path, "main:refs/heads/seen")
    if idle:
        wait_until(lambda: here.spares() >= MOST_SPARES)
        time.sleep(0.2)
    return path


def _push_all(here: World, client: str, target: str) -> float:
    before = here.connected()
    took = here.timed(["git", "push", "--quiet", target, "refs/heads/many/*:refs/heads/many/*"], client)
    if os.path.basename(target).startswith("ours"):
        here.must_be_connected(before + 1000)
    return took
