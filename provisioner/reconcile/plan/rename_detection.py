"""Which branch's data goes with which branch, by what the reflogs say that was not there at the last look. Pure.

Every look remembers each rename it has seen in any log, so one that is not among those came after it: its branch was
there at the last look under the name that it is followed back to. That tells chains, shifts and swaps of names alike,
also where the names are the same as before, and takes no old rename for a new one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from provisioner.git.reflog import Log, Move


def unseen(branch: bytes, log: Log, seen: Collection[str]) -> list[Move]:
    """The renames since the last look that led to `branch`, last to first."""
    path: list[Move] = []
    name = branch
    for move in reversed(log.moves):
        if move.mark in seen or move.new != name:  # a log that was copied tells of another branch's renames
            break
        path.append(move)
        name = move.old
    return path


def carried(
    logs: Mapping[bytes, Log], seen: Collection[str], movable: Collection[bytes], production: bytes
) -> dict[bytes, bytes]:
    """By the name a branch has now, the name at the last look whose data it has taken along; no name twice.

    `movable` are the names that had data then. Where a name was renamed away, made anew and renamed again, the first
    to leave it has its data. Through the name of the production branch nothing is followed.
    """
    claims: dict[bytes, list[tuple[int, int, bytes]]] = defaultdict(list)
    for branch, log in logs.items():
        path = unseen(branch, log, seen)
        barred = [number for number, move in enumerate(path) if production in (move.old, move.new)]
        for move in reversed(path[: barred[0]] if barred else path):
            if move.old in movable:
                claims[move.old].append((move.at, log.born, branch))
                break
    first = {old: min(claimants)[2] for old, claimants in claims.items()}
    return {new: old for old, new in first.items() if new != old}
