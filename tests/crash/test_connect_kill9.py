"""The server is killed, or asked to end, under many writers that go on: what was acknowledged is there, in order.

Five times by default; fifty with KV_NIGHTLY in the environment.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import connect_wire as wire
import pytest
import urllib3
from connect_world import QUIET, Access, Server, access, deno_command, serving
from kv_files import integrity
from paths import SUPPORT
from support import files, shop, until

from provisioner.kv import Kv, open_kv

TIMES = 50 if "KV_NIGHTLY" in os.environ else 5
WRITERS = 64
PROGRAM = SUPPORT / "connect_writers.ts"


@dataclass(slots=True)
class Writers:
    """A Deno with writers, and what it was told is written: by writer, the versionstamps in order."""

    process: subprocess.Popen[str]
    acknowledged: dict[int, list[str]] = field(default_factory=lambda: {writer: [] for writer in range(WRITERS)})
    count: int = 0

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            writer, number, versionstamp = line.split()
            told = self.acknowledged[int(writer)]
            told.append(versionstamp)
            assert int(number) == len(told)
            self.count += 1

    def more(self, count: int) -> None:
        """Wait for so many acknowledgements from now on."""
        wanted = self.count + count
        until(lambda: self.count >= wanted or self.process.poll() is not None, 60)
        assert self.process.poll() is None


@contextmanager
def writing(to: Access) -> Iterator[Writers]:
    """Writers at work; at the end they finish what they have begun."""
    process = subprocess.Popen(
        deno_command(PROGRAM, to.url, str(WRITERS)),
        env={**os.environ, **QUIET, **to.variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # Deno says each time that it tries again
        text=True,
    )
    writers = Writers(process)
    listener = threading.Thread(target=writers.listen)
    listener.start()
    try:
        yield writers
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        listener.join()


@pytest.fixture
def shop_path(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@pytest.fixture
def server(home: Path, shop_path: Path) -> Iterator[Server]:
    with serving(home) as server:
        yield server


def written(kv: Kv) -> dict[int, dict[int, str]]:
    """By writer, the versionstamp of each number."""
    found: dict[int, dict[int, str]] = {writer: {} for writer in range(WRITERS)}
    for entry in kv.list(("log",), batch_size=1000):
        _, writer, number = entry.key
        assert entry.value == number
        found[int(writer)][int(number)] = str(entry.versionstamp)
    return found


def all_there(writers: Writers, path: Path) -> int:
    """How many commits there were. Each acknowledged one is in the file under the versionstamp that was told, and those grew."""
    assert integrity(path) == "ok"
    with open_kv(path) as kv:
        found = written(kv)
        for writer, told in writers.acknowledged.items():
            assert told == sorted(set(told)), "versionstamps went back"
            assert [found[writer].get(number) for number in range(1, len(told) + 1)] == told, "lost"
            assert kv.get(("last", writer)).value == len(found[writer])
        commits: int = kv.get(("count",)).value
    return commits


@pytest.mark.timeout(1800)
def test_no_acknowledged_write_is_lost_when_the_server_is_killed(server: Server, shop_path: Path) -> None:
    with writing(access(shop_path, "login")) as writers:
        writers.more(WRITERS)
        for _ in range(TIMES):
            writers.more(random.randrange(1, 2000))
            server.stop(signal.SIGKILL)
            server.start()
        writers.more(WRITERS)
    commits = all_there(writers, files(shop_path)["login"])
    print(
        f"{TIMES} kills, {writers.count} writes acknowledged, {commits} commits (writes whose answer was lost came again)"
    )
    assert commits >= writers.count


@pytest.mark.timeout(1800)
def test_a_server_that_ends_answers_what_it_has_begun(server: Server, shop_path: Path) -> None:
    """Deno sends again what was not answered: a write that was done without an answer would count twice."""
    with writing(access(shop_path, "login")) as writers:
        writers.more(WRITERS)
        for _ in range(TIMES):
            writers.more(random.randrange(1, 2000))
            assert server.stop() == 0
            server.start()
        writers.more(WRITERS)
    commits = all_there(writers, files(shop_path)["login"])
    print(f"{TIMES} ends, {writers.count} writes acknowledged, {commits} commits")
    assert commits == writers.count


def test_what_a_client_that_tries_once_is_not_answered_was_not_done(server: Server, shop_path: Path) -> None:
    """HTTP/1.1, a connection for each writer, nothing sent again."""
    opened = access(shop_path, "login")
    done = threading.Semaphore(0)

    def write(writer: int, path: wire.Path) -> tuple[int, bool]:
        """How many were acknowledged, and whether the last one was answered with a refusal."""
        with wire.Wire(1) as client:
            for number in range(1_000_000):
                body = wire.put(b"\x02%d\0\x02%d\0" % (writer, number), b"x")
                try:
                    answer = client.send(path.url("atomic_write"), body, path.headers())
                except urllib3.exceptions.HTTPError:
                    return number, False
                if answer.status != 200:
                    assert answer.status == 503, answer
                    return number, True
                done.release()
        raise AssertionError("never ended")

    with wire.Wire() as client, ThreadPoolExecutor(WRITERS) as pool:
        path = client.opened(opened.url, opened.token)
        ends = [pool.submit(write, writer, path) for writer in range(WRITERS)]
        for _ in range(WRITERS * 10):
            assert done.acquire(timeout=60)
        assert server.stop() == 0
        counts = [end.result() for end in ends]
    with open_kv(files(shop_path)["login"]) as kv:
        stored = [sum(1 for _ in kv.list((str(writer),), batch_size=1000)) for writer in range(WRITERS)]
    refused = sum(refused for _, refused in counts)
    print(f"{sum(stored)} writes; at the end {refused} were refused and {WRITERS - refused} found no server")
    assert stored == [count for count, _ in counts]
