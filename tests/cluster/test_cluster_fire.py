"""Sixteen clients transfer through two servers while nodes and servers die or are cut off: nothing acknowledged is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from fire_world import Fire, fire, killed, now
from pg_cluster import cluster_running
from support import until

NIGHTLY = bool(os.environ.get("KV_NIGHTLY"))
CUT = os.geteuid() == 0  # nodes are cut off from each other by root alone


@pytest.fixture
def burning(tmp_path: Path, home: Path) -> Iterator[Fire]:
    with cluster_running() as cluster, fire(cluster, tmp_path / "shop", home) as made:
        yield made


def leader_of(burning: Fire) -> str:
    until(burning.cluster.leader, 60)
    return burning.cluster.leader() or ""


def standby_of(burning: Fire) -> str:
    leader = leader_of(burning)
    return next(node.name for node in burning.cluster.layout.nodes if node.name != leader)


def primary(burning: Fire, number: int) -> str:
    """All of its node, or its PostgreSQL alone."""
    alone = not NIGHTLY or number % 8 >= 4
    burning.cluster.kill(leader_of(burning), postgres_only=alone)
    return "kill -9 of the primary's PostgreSQL" if alone else "kill -9 of the primary"


def standby(burning: Fire, number: int) -> str:
    burning.cluster.kill(standby_of(burning))
    return "kill -9 of a standby"


def server(burning: Fire, number: int) -> str:
    killed(burning.servers[number // 4 % 2])
    return "kill -9 of a server of ours"


def partition(burning: Fire, number: int) -> str:
    victim, word = (standby_of(burning), "a standby") if number % 8 >= 4 else (leader_of(burning), "the primary")
    burning.cluster.partition(victim)
    return f"{word} cut off"


Deed = Callable[[Fire, int], str]
IN_TURN: tuple[Deed, ...] = (primary, standby, server, partition) if CUT else (primary, standby, server)


@pytest.mark.timeout(0 if NIGHTLY else 300)
def test_whatever_dies_or_is_cut_off_nothing_acknowledged_is_lost(burning: Fire) -> None:
    """In turn; the short form kills the primary's PostgreSQL, and a server of ours."""
    for number in range(int(os.environ.get("FIRE_ROUNDS", 20)) if NIGHTLY else 2):
        deed = IN_TURN[number % len(IN_TURN)] if NIGHTLY else (primary, server)[number]
        burning.crowd.writing(now())
        began, led = now(), leader_of(burning)
        said = deed(burning, number)
        if "the primary" in said:
            until(partial(_led_by_another, burning, led), 120)
        burning.crowd.writing(now())
        pauses = burning.pauses(began)
        for each in burning.servers:
            if each.process is None:
                each.start()
        burning.cluster.heal()
        burning.cluster.start(seconds=300)
        burning.crowd.writing(now())
        count = burning.check(number)
        print(f"{number + 1}. {said}: {count} transfers, {pauses}", dict(burning.crowd.refused), flush=True)
        assert not [text for text in burning.crowd.refused if "(status=4" in text or "answered 4" in text]
        burning.crowd.refused.clear()
    print(sum(burning.crowd.over.values()), "times a client went over to the other server")


def _led_by_another(burning: Fire, led: str) -> bool:
    return burning.cluster.leader() not in (None, led)
