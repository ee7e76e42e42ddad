"""A clone is the database at one moment, whoever writes to it meanwhile, and writers hardly notice.

20 clones under fire; 200 with KV_NIGHTLY in the environment. PROVISIONER_TEST_DISKS names directories on other file
systems (apart by ":") on which the same is tried.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from clone_writer import ACCOUNTS, BALANCE
from kv_files import integrity, opened, rows
from kv_processes import Process, deno, running
from paths import SUPPORT
from support import daemon, database_of, ok, shop, until
from test_kv_held import COMES_AND_GOES, elsewhere

from provisioner.kv import KvError, open_kv, reflink
from provisioner.kv.codec import key
from provisioner.kv.stores.sqlite.clone import clone

CLONES = 200 if "KV_NIGHTLY" in os.environ else 20
# Each a process: what it is written in, and what it writes to.
WRITERS = (*[("deno", "file")] * 2, *[("python", "file")] * 4, ("deno", "server"), ("python", "server"))
LONGEST_PAUSE = 0.05
DISKS = [None, *filter(None, os.environ.get("PROVISIONER_TEST_DISKS", "").split(":"))]


@pytest.fixture(params=DISKS, ids=lambda disk: disk or "here")
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param is None:
        yield tmp_path
        return
    directory = Path(request.param) / f"test-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


class Fire:
    """Eight processes that write to a database. Of each it is known which commit it began, and which was acknowledged."""

    def __init__(self, directory: Path, places: dict[str, str]) -> None:
        """`places`: the database's file, and its URL at a server whose token is in the environment."""
        self._places = places
        self.counters = directory / "counters"
        self.counters.write_bytes(bytes(16 * len(WRITERS)))
        self.longest: list[float] = []
        with open_kv(places["file"]) as kv:
            for account in range(ACCOUNTS):
                kv.set(("account", account), BALANCE)

    def begun(self) -> tuple[int, ...]:
        return self._numbers()[::2]

    def acknowledged(self) -> tuple[int, ...]:
        return self._numbers()[1::2]

    def _numbers(self) -> tuple[int, ...]:
        return struct.unpack(f"<{2 * len(WRITERS)}Q", self.counters.read_bytes())

    @contextmanager
    def going_on(self) -> Iterator[None]:
        with ExitStack() as stack:
            writers = [stack.enter_context(running(*self._command(number))) for number in range(len(WRITERS))]
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
            yield
            self.longest = [_ended(writer) for writer in writers]

    def _command(self, number: int) -> tuple[str, ...]:
        language, place = WRITERS[number]
        arguments = (self._places[place], str(self.counters), str(number))
        if language == "deno":
            return deno("clone_writer.ts", *arguments)
        return sys.executable, str(SUPPORT / "clone_writer.py"), *arguments


def _ended(writer: Process) -> float:
    told, trouble = writer.communicate(timeout=60)
    assert writer.returncode == 0, trouble
    return float(told) / 1000


def of_one_moment(path: Path) -> list[int]:
    """How many commits of each writer the database holds: all up to that one, and no transfer in part."""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.read_bytes()  # in one go: a clone that shares its blocks is in nobody's memory yet
    assert integrity(path) == "ok"
    counts = []
    with open_kv(path) as kv, opened(path) as connection:
        assert sum(entry.value for entry in kv.list(("account",))) == ACCOUNTS * BALANCE
        for writer in range(len(WRITERS)):
            last = kv.get(("last", writer)).value or 0
            start, end = key.encode(("log", writer, 0)), key.encode(("log", writer, last + 1))
            after = key.encode(("log", writer, float("inf")))
            found = connection.execute(
                "select count(*), sum(k >= ?) from kv where k between ? and ?", (end, start, after)
            )
            assert found.fetchall() in ([(last, 0)], [(0, None)]), writer
            counts.append(last)
    return counts


@pytest.fixture
def places(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A branch's database: its file, on that disk, and its URL at a server of its own process."""
    home = disk / "organization"
    monkeypatch.setenv("PROVISIONER_HOME", str(home))
    repo = shop(tmp_path / "shop")
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):
        variables = json.loads(ok(repo, "env", "--format", "json"))
        monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", variables["DENO_KV_ACCESS_TOKEN"])
        yield {"file": database_of(repo, "production")["path"], "server": variables["PROVISIONER_KV_URL"]}


@pytest.mark.timeout(0)
def test_clones_under_fire(disk: Path, places: dict[str, str]) -> None:
    path = Path(places["file"])
    fire = Fire(disk, places)
    pauses = []
    sizes = []
    with fire.going_on():
        for number in range(CLONES):
            moment = sum(fire.acknowledged()) + random.randrange(20)
            until(lambda moment=moment: sum(fire.acknowledged()) >= moment)  # type: ignore[misc]
            directory = disk / f"clone-{number}"
            directory.mkdir()
            acknowledged = fire.acknowledged()
            made = clone(str(path), str(directory / "kv.sqlite3"))
            begun = fire.begun()
            pauses.append(made.paused)
            assert made.version == rows(directory / "kv.sqlite3", "data_version")[0]["version"]
            counts = of_one_moment(directory / "kv.sqlite3")
            for before, count, after in zip(acknowledged, counts, begun, strict=True):
                assert before <= count <= after
            sizes.append((directory / "kv.sqlite3").stat().st_size)
            shutil.rmtree(directory)
    assert min(fire.acknowledged()) > 0
    assert integrity(path) == "ok"
    pauses.sort()
    longest = {f"{language} on the {place}": 0.0 for language, place in WRITERS}
    for (language, place), seconds in zip(WRITERS, fire.longest, strict=True):
        kind = f"{language} on the {place}"
        longest[kind] = max(longest[kind], seconds)
    print(
        f"{CLONES} clones of up to {max(sizes) >> 10} KiB, blocks shared: {made.shared}; writers paused for"
        f" {pauses[len(pauses) // 2] * 1000:.2f} ms (median), {pauses[-1] * 1000:.2f} ms (longest);"
        f" {sum(fire.acknowledged())} commits, the longest in ms:"
        f" {', '.join(f'{kind} {seconds * 1000:.0f}' for kind, seconds in longest.items())}"
    )
    assert pauses[len(pauses) // 2] < LONGEST_PAUSE


def test_a_long_log_is_copied_before_writers_have_to_wait(tmp_path: Path) -> None:
    """Somebody reads all the time, so nothing can be brought from the log into the file."""
    path = tmp_path / "kv.sqlite3"
    with open_kv(path) as kv, opened(path) as reader:
        kv.set(("first",), 1)
        reader.execute("begin")
        reader.execute("select * from kv").fetchall()
        for number in range(100):
            operation = kv.atomic()
            for part in range(10):
                operation.set((number, part), bytes(60_000))
            operation.commit()
        assert path.with_name("kv.sqlite3-wal").stat().st_size > 50 << 20
        (tmp_path / "copy").mkdir()
        made = clone(str(path), str(tmp_path / "copy" / "kv.sqlite3"))
        assert made.paused < LONGEST_PAUSE
        with open_kv(tmp_path / "copy" / "kv.sqlite3") as copy:
            assert len([None for _ in copy.list(())]) == 1001
        assert integrity(tmp_path / "copy" / "kv.sqlite3") == "ok"


def test_who_clones_a_file_that_it_has_open_keeps_its_locks_on_it(tmp_path: Path) -> None:
    file = tmp_path / "kv.sqlite3"
    with open_kv(file) as kv:
        for number in range(1, 6):
            kv.set(("a",), number)
            (tmp_path / str(number)).mkdir()
            clone(str(file), str(tmp_path / str(number) / "kv.sqlite3"))
            elsewhere(COMES_AND_GOES, file)
            assert file.with_name("kv.sqlite3-wal").exists(), "another process took itself for the last one"
    for number in range(1, 6):
        with open_kv(tmp_path / str(number) / "kv.sqlite3") as copy:
            assert copy.get(("a",)).value == number


def test_clones_made_at_once_by_threads_that_have_it_open(tmp_path: Path) -> None:
    file = tmp_path / "kv.sqlite3"
    trouble: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(10):
                directory = tmp_path / f"{thread}-{number}"
                directory.mkdir()
                clone(str(file), str(directory / "kv.sqlite3"))
                assert integrity(directory / "kv.sqlite3") == "ok"
        except BaseException as error:
            trouble.append(error)

    with open_kv(file) as kv:
        kv.set(("n",), 0)
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        number = 0
        while any(thread.is_alive() for thread in threads):
            number += 1
            kv.set(("n", number), bytes(5000))
        for thread in threads:
            thread.join()
    assert trouble == []
    assert integrity(file) == "ok"


@pytest.mark.parametrize("with_queue", [False, True])
def test_messages_are_copied_only_when_asked_for(tmp_path: Path, with_queue: bool) -> None:
    with open_kv(tmp_path / "kv.sqlite3") as kv:
        kv.enqueue("later", delay=1000)
    with opened(tmp_path / "kv.sqlite3") as connection:
        connection.execute("insert into queue_running select * from queue")
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "kv.sqlite3"
    clone(str(tmp_path / "kv.sqlite3"), str(copy), with_queue=with_queue)
    for table in ("queue", "queue_running"):
        assert len(rows(copy, table)) == int(with_queue)
        assert len(rows(tmp_path / "kv.sqlite3", table)) == 1


def test_what_a_killed_writer_has_left_in_the_log_is_in_the_clone(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    program = (
        "import os, sys; from provisioner.kv import open_kv\n"
        "kv = open_kv(sys.argv[1]); kv.set(('a',), 1); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, path], check=False)
    assert path.with_name("kv.sqlite3-wal").stat().st_size
    (tmp_path / "copy").mkdir()
    clone(str(path), str(tmp_path / "copy" / "kv.sqlite3"))
    with open_kv(tmp_path / "copy" / "kv.sqlite3") as copy:
        assert copy.get(("a",)).value == 1


def test_a_file_that_is_moved_meanwhile_is_not_cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "copy").mkdir()
    path = tmp_path / "live" / "kv.sqlite3"
    open_kv(path).close()

    def moved(source: int, target: str) -> bool:
        (tmp_path / "live").rename(tmp_path / "archive")
        return False

    monkeypatch.setattr(reflink, "copy", moved)
    with pytest.raises(KvError, match="has been moved"):
        clone(str(path), str(tmp_path / "copy" / "kv.sqlite3"))


def test_neither_nothing_nor_something_else_is_cloned(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "other").write_bytes(b"something else" * 1000)
    for source in ("none", "other"):
        with pytest.raises(KvError):
            clone(str(tmp_path / source), str(tmp_path / "copy" / "kv.sqlite3"))
    assert not (tmp_path / "none").exists()
    assert (tmp_path / "other").read_bytes() == b"something else" * 1000
