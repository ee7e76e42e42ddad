"""Programs that write while an instance is moved, and what they were told is written."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kv_instance_world import opened
from pg_server import PgServer
from pg_world import left
from support import ok, until

from provisioner.kv.errors import StoreFailed, Uncertain
from provisioner.kv.model import CommitResult

PATIENCE = 120.0  # seconds
PACE = 0.003  # seconds between writes: as fast as it can, a writer takes the core that the move needs


class Writer:
    """A program of a branch, which writes through the server, deletes what is old, and remembers what was acknowledged."""

    def __init__(self, repo: Path, branch: str, name: str = "writer") -> None:
        self.branch, self.name = branch, name
        self.acknowledged: list[int] = []
        self.stamps: list[str] = []
        self.doubtful: set[int] = set()
        self.failure: BaseException | None = None
        self._repo = repo
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join(PATIENCE)
        if self.failure is not None:
            raise self.failure

    def goes_on(self) -> None:
        """Wait until it was told of a write that it has begun since."""
        wanted = len(self.acknowledged) + 2
        until(lambda: len(self.acknowledged) >= wanted or self.failure, PATIENCE)
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            with opened(self._repo, self.branch) as kv:
                number = 0
                while not self._ending.wait(PACE):
                    number += 1
                    write = kv.atomic().set(("log", self.name, number), number).sum(("count", self.name), 1)
                    if number > 10:
                        write = write.set(("late", number % 3), number).delete(("late", (number + 1) % 3))
                    try:
                        done = write.commit()
                    except Uncertain:
                        self.doubtful.add(number)
                        continue
                    except StoreFailed:  # nothing was written
                        continue
                    assert isinstance(done, CommitResult)
                    self.acknowledged.append(number)
                    self.stamps.append(done.versionstamp)
        except BaseException as error:
            self.failure = error

    def check(self) -> None:
        """All that was acknowledged is there, once and in order, and nothing that was never written."""
        with opened(self._repo, self.branch) as kv:
            log = {entry.key[-1]: entry.value for entry in kv.list(prefix=("log", self.name))}
            count = kv.get(("count", self.name)).value
            last = kv.set(("after",), True).versionstamp
        there = set(log)
        assert set(self.acknowledged) <= there <= set(self.acknowledged) | self.doubtful
        assert all(key == value for key, value in log.items())
        assert count == len(there)
        assert self.stamps == sorted(set(self.stamps))
        assert not self.stamps or str(last) > self.stamps[-1]


def left_of(repo: Path, pg: PgServer) -> set[str]:
    """The databases and roles of the instance `default` that there are on the server."""
    identity: str = json.loads(ok(repo, "instance", "show", "default", "--json"))["id"]
    return {name for name in left(pg) if f"_{identity[:8]}_" in name}


@contextmanager
def writing(repo: Path, *branches: str) -> Iterator[list[Writer]]:
    """A writer on each branch for as long as the block lasts; then it is looked whether all is there."""
    writers = [Writer(repo, branch) for branch in branches]
    for writer in writers:
        writer.start()
    try:
        for writer in writers:
            writer.goes_on()
        yield writers
    finally:
        for writer in writers:
            writer._ending.set()
        for writer in writers:
            writer.end()
    for writer in writers:
        writer.check()
