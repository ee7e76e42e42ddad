"""A recorded history of a database, and whether it is linearizable.

Each commit has its place in one order, its version. A read of several keys has seen the state at some version: at least the
highest that it met, and less than the next commit of any of its keys. So a history is linearizable if versions can be
given to all reads such that whatever ended before another began has no higher one; and of two commits the later is higher.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from provisioner.kv import CommitResult, Kv, KvU64, open_kv

KEYS = 8


class Event(NamedTuple):
    """One operation between `began` and `ended`, by the machine's clock. `stamps`: the version of each key (0: absent), as
    it was read, or as it was checked before it was written. `version`: of the commit, 0 of a read."""

    began: float
    ended: float
    version: int
    stamps: dict[str, int]


def violations(events: Iterable[Event]) -> list[str]:
    events = sorted(events, key=lambda event: event.began)
    written: dict[str, list[int]] = defaultdict(list)
    commits = sorted((event for event in events if event.version), key=lambda event: event.version)
    found = [f"{a.version} was given twice" for a, b in itertools.pairwise(commits) if a.version == b.version]
    last: dict[str, int] = {}
    for commit in commits:
        for key, stamp in commit.stamps.items():
            if last.get(key, 0) != stamp:
                found.append(f"commit {commit.version} checked {key} at {stamp}, and it was at {last.get(key, 0)}")
            last[key] = commit.version
            written[key].append(commit.version)
    ending: list[tuple[float, int]] = []
    behind = 0  # the highest version that anything has which ended by now
    for event in events:
        while ending and ending[0][0] < event.began:
            behind = max(behind, heapq.heappop(ending)[1])
        low, high = bounds(event, written)
        if event.version and event.version <= behind:
            found.append(f"commit {event.version} began behind something that has seen {behind}")
        if high <= behind:
            found.append(f"a read is as of before {high}, and began behind something that has seen {behind}")
        if low >= high:
            found.append(f"a read has seen {low}, and not {high}")
        heapq.heappush(ending, (event.ended, max(low, behind) if not event.version else event.version))
    return found


def bounds(event: Event, written: dict[str, list[int]]) -> tuple[int, int]:
    """What a read has seen at least, and the first that it has not."""
    if event.version:
        return event.version, event.version + 1
    following = []
    for key, stamp in event.stamps.items():
        versions = written[key]
        at = bisect.bisect_right(versions, stamp)
        following.append(versions[at] if at < len(versions) else 1 << 62)
    return max(event.stamps.values()), min(following)


def version_of(stamp: str | None) -> int:
    return int(stamp[:16], 16) if stamp else 0


def worker(kv: Kv, seconds: float, events: list[Event]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        keys = [f"k{number}" for number in random.sample(range(KEYS), random.randrange(1, 4))]
        began = time.monotonic()
        entries = kv.get_many([(key,) for key in keys])
        stamps = {key: version_of(entry.versionstamp) for key, entry in zip(keys, entries, strict=True)}
        events.append(Event(began, time.monotonic(), 0, stamps))
        if random.random() < 0.5:
            continue
        operation = kv.atomic().sum(("count",), 1)
        for entry in entries:
            operation.check(entry).set(entry.key, random.random())
        began = time.monotonic()
        done = operation.commit()
        if isinstance(done, CommitResult):
            events.append(Event(began, time.monotonic(), version_of(done.versionstamp), stamps))


def record(url: str, threads: int, seconds: float) -> list[Event]:
    """What so many threads of this process do to a database, between "ready" and "go"."""
    events: list[Event] = []
    with open_kv(url) as kv:
        kv.get(("k0",))
        print("ready", flush=True)
        sys.stdin.readline()
        running = [threading.Thread(target=worker, args=(kv, seconds, events)) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    return events


def parsed(line: str) -> list[Event]:
    found: list[Any] = json.loads(line)
    return [Event(*each) for each in found]


def count(url: str) -> int:
    with open_kv(url) as kv:
        return int(kv.get(("count",)).value or KvU64(0))


if __name__ == "__main__":
    print(json.dumps(record(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
