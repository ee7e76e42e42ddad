"""The same commands among ten branches and among ten thousand: in turns, so that both have the same machine.

What must not grow is guarded by counts, in `tests/cli/test_growth.py`; these are the times that come of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack

from bench.table import Row, compared, milliseconds, spread
from bench.world import PROVISIONER, World, alternated, world

FEW, MANY = 10, 10_000
ONE, OTHER = "branch-00003", "branch-00005"


def measure(runs: int) -> list[Row]:
    with ExitStack() as stack:
        places = [_registered(stack.enter_context(world()), count) for count in (FEW, MANY)]
        rows = [
            _grown(runs, places, name, words, target)
            for name, words, target in (
                ("exec", ["exec", "--branch", ONE, "--", "true"], 1.1),
                ("timeline show", ["timeline", "show", ONE], 1.3),
                ("status of one branch", ["status", ONE], 1.3),
                ("snapshot", ["database", "snapshot", "create", ONE], 1.3),
                ("fork", ["database", "fork", ONE, OTHER, "--yes"], 1.3),
            )
        ]
        rows += _status(runs, places[1])
        rows += _pushes(runs, places)
    return rows


Place = tuple[World, str, str]
"""A world with a bare repository that is registered, and a client of it."""


def _registered(here: World, count: int) -> Place:
    client = here.repository("client")
    path = here.bare("many.git", client)
    here.branches(path, count)
    here.git(path, "pack-refs", "--all")
    here.provisioner(path, "init")
    here.provisioner(path, "app", "set", "--max-branches", str(2 * MANY))  # so that those that are pushed get databases
    return here, path, client


def _grown(runs: int, places: list[Place], name: str, words: list[str], target: float) -> Row:
    def timed(place: Place) -> Callable[[int], float]:
        here, path, _ = place
        return lambda _: here.timed([PROVISIONER, *words], path)

    few, many = alternated(runs, *map(timed, places))
    return compared(f"{name}, {MANY:,} / {FEW} branches", many, few, target)


def _status(runs: int, place: Place) -> list[Row]:
    here, path, _ = place
    rows = []
    for words in (["status"], ["status", "--json"]):
        (taken,) = alternated(runs, lambda _, words=words: here.timed([PROVISIONER, *words], path))  # type: ignore[misc]
        rows.append(Row(f"{' '.join(words)} of {MANY:,} branches", spread(taken), "1.0 s", statistics.median(taken), 1))
    return rows


def _pushes(runs: int, places: list[Place]) -> list[Row]:
    """A push of one new branch with a daemon; beside each, the same to a repository that is not registered."""
    peers = []
    for here, _, client in places:
        peer = here.bare("peer.git", client)
        here.branches(peer, FEW if here is places[0][0] else MANY)
        here.git(peer, "pack-refs", "--all")
        here.hook(peer, "post-receive", "exec true")
        peers.append((here, peer, client))
    with ExitStack() as stack:
        for here, _, _ in places:
            stack.enter_context(here.daemon())

        def pushed(place: Place) -> Callable[[int], float]:
            here, path, client = place
            return lambda turn: here.timed(["git", "push", "--quiet", path, f"main:refs/heads/new-{turn}"], client)

        connected = [here.connected() for here, _, _ in places]
        few, many, peer_few, peer_many = alternated(runs, *map(pushed, [*places, *peers]))
        for (here, _, _), before in zip(places, connected, strict=True):
            here.must_be_connected(before + runs + 1)
    alone = f"push to git alone, {MANY:,} / {FEW} branches"
    return [
        compared(f"push, {MANY:,} / {FEW} branches", many, few, 3),
        Row(alone, spread(peer_many), milliseconds(statistics.median(peer_few)),
            statistics.median(peer_many) / statistics.median(peer_few), None),
    ]  # fmt: skip
