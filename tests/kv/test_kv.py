"""The library as a program uses it, on a file and in memory."""

from __future__ import annotations

import datetime
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from kv_server import Served

from provisioner import open_kv
from provisioner.kv import (
    COMMIT_VERSIONSTAMP,
    BigInt,
    Closed,
    CommitFailed,
    CommitResult,
    CursorInvalid,
    KeyInvalid,
    Kv,
    KvEntry,
    KvError,
    KvU64,
    LimitExceeded,
    Malformed,
    OptionInvalid,
    StoreFailed,
    TypeMismatch,
    ValueInvalid,
    Versionstamp,
)
from provisioner.kv.model import KvKeyPart
from provisioner.kv.stores.sqlite.store import SqliteStore

SECOND = datetime.timedelta(seconds=1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "kv.sqlite3")


@pytest.fixture(params=["file", "memory", "remote"])
def kv(request: pytest.FixtureRequest, path: str, server: Served) -> Iterator[Kv]:
    if request.param == "remote":
        made = server.database()
        opened = open_kv(made.url, access_token=made.token)
    else:
        opened = open_kv(path if request.param == "file" else ":memory:")
    with opened:
        yield opened


def test_what_was_set_is_got(kv: Kv) -> None:
    result = kv.set(("users", 1), {"name": "Ann"})
    assert kv.get(("users", 1)) == KvEntry(("users", 1), {"name": "Ann"}, result.versionstamp)
    assert isinstance(result.versionstamp, Versionstamp)
    assert len(result.versionstamp) == 20
    assert result


def test_what_is_absent_is_none(kv: Kv) -> None:
    assert kv.get(["users", 2]) == KvEntry(("users", 2), None, None)
    assert kv.get(()) == KvEntry((), None, None)


def test_several_are_got_in_order(kv: Kv) -> None:
    kv.set(("b",), 2)
    assert [entry.value for entry in kv.get_many([("a",), ("b",), ("b",)])] == [None, 2, 2]
    assert kv.get_many([]) == []
    with pytest.raises(LimitExceeded):
        kv.get_many([("a",)] * 11)


def test_what_was_deleted_is_gone(kv: Kv) -> None:
    kv.set(("a",), 1)
    assert kv.delete(("a",)) is None  # type: ignore[func-returns-value]
    kv.delete(("a",))
    assert kv.get(("a",)).versionstamp is None


def test_keys_that_python_takes_for_equal_are_apart(kv: Kv) -> None:
    parts: list[KvKeyPart] = [1, True, BigInt(1), "1", b"1"]
    for number, part in enumerate(parts):
        kv.set((part,), number)
    assert [entry.value for entry in kv.list(())] == [4, 3, 2, 0, 1]
    kv.set((-0.0,), "minus")
    kv.set((0,), "plus")
    assert [entry.value for entry in kv.list((), start=(-1,), limit=2)] == ["minus", "plus"]


@pytest.fixture
def numbered(kv: Kv) -> Kv:
    kv.set(("p",), "itself")
    kv.set(("pp",), "other")
    for number in range(5):
        kv.set(("p", number), number)
    return kv


@pytest.mark.parametrize(
    ("selector", "values"),
    [
        ({"prefix": ("p",)}, [0, 1, 2, 3, 4]),
        ({"prefix": ("p",), "reverse": True}, [4, 3, 2, 1, 0]),
        ({"prefix": ("p",), "start": ("p", 3)}, [3, 4]),
        ({"prefix": ("p",), "end": ("p", 2)}, [0, 1]),
        ({"start": ("p", 1), "end": ("p", 3)}, [1, 2]),
        ({"start": ("p", 1), "end": ("p", 3), "reverse": True}, [2, 1]),
        ({"start": ("p", 3), "end": ("p", 3)}, []),
        ({"prefix": ()}, ["itself", 0, 1, 2, 3, 4, "other"]),
        ({"prefix": ("p",), "limit": 2}, [0, 1]),
        ({"prefix": ("p",), "limit": 3, "batch_size": 2}, [0, 1, 2]),
        ({"prefix": ("p",), "limit": 2, "reverse": True}, [4, 3]),
        ({"prefix": ("p",), "batch_size": 1}, [0, 1, 2, 3, 4]),
        ({"prefix": ("p",), "batch_size": 1000, "consistency": "eventual"}, [0, 1, 2, 3, 4]),
        ({"prefix": ("p", "none")}, []),
    ],
)
def test_a_list_gives_what_was_selected(numbered: Kv, selector: dict[str, Any], values: list[object]) -> None:
    assert [entry.value for entry in numbered.list(**selector)] == values


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cursor_continues_where_a_list_stood(numbered: Kv, batch_size: int, reverse: bool) -> None:
    seen, cursor = [], None
    while cursor != "":
        entries = numbered.list(("p",), limit=2, cursor=cursor, batch_size=batch_size, reverse=reverse)
        seen += [entry.value for entry in entries]
        cursor = entries.cursor
    assert seen == sorted(range(5), reverse=reverse)


def test_a_cursor_is_denos(numbered: Kv) -> None:
    entries = numbered.list(("p",))
    with pytest.raises(CursorInvalid):
        entries.cursor  # noqa: B018
    next(entries)
    next(entries)
    assert entries.cursor == "Ib_wAAAAAAAA"
    assert [entry.value for entry in entries] == [2, 3, 4]
    assert entries.cursor == ""
    assert next(entries, None) is None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": 0}, OptionInvalid),
        ({"limit": 1.5}, OptionInvalid),
        ({"limit": True}, OptionInvalid),
        ({"batch_size": 0}, OptionInvalid),
        ({"batch_size": 1001}, LimitExceeded),
        ({"cursor": "!"}, CursorInvalid),
        ({"consistency": "weak"}, OptionInvalid),
        ({"start": ("q",)}, KeyInvalid),
        ({"start": ("p", 1), "end": ("p", 2)}, KeyInvalid),
    ],
)
def test_a_list_refuses_what_makes_no_sense_at_once(kv: Kv, options: dict[str, Any], error: type[KvError]) -> None:
    with pytest.raises(error):
        kv.list(("p",), **options)


def test_a_commit_happens_if_its_checks_hold_and_says_which_did_not(kv: Kv) -> None:
    first = kv.get(("a",))
    assert kv.atomic().check(first).set(("a",), 1).commit()
    result = kv.atomic().check((("b",), None), first).check((("a",), "0" * 20)).set(("a",), 2).commit()
    assert not result
    assert isinstance(result, CommitFailed)
    assert result.failed == (1, 2)
    assert kv.get(("a",)).value == 1
    assert kv.atomic().check(kv.get(("a",))).delete(("a",)).commit()


def test_numbers_add_up(kv: Kv) -> None:
    for _ in range(3):
        kv.atomic().sum(("u64",), 5).min(("least",), 7).max(("most",), KvU64(7)).commit()
    assert kv.get(("u64",)).value == KvU64(15)
    kv.atomic().min(("least",), 3).max(("most",), 9).sum(("float",), 0.5).sum(("big",), BigInt(-5)).commit()
    kv.atomic().sum(("float",), 0.25).sum(("big",), BigInt(2**70)).commit()
    assert [kv.get((name,)).value for name in ("least", "most", "float", "big")] == [3, 9, 0.75, 2**70 - 5]
    assert type(kv.get(("big",)).value) is BigInt
    kv.atomic().sum(("float",), 100.0, maximum=10.0, clamp=True).commit()
    assert kv.get(("float",)).value == 10


def test_a_sum_over_another_type_writes_nothing(kv: Kv) -> None:
    kv.set(("a",), "text")
    with pytest.raises(TypeMismatch):
        kv.atomic().set(("b",), 1).sum(("a",), 1).commit()
    assert kv.get(("b",)).versionstamp is None


@pytest.mark.parametrize("operand", [-1, 2**64, "1", None, True])
def test_a_sum_refuses_what_is_no_number(kv: Kv, operand: Any) -> None:
    with pytest.raises(ValueInvalid):
        kv.atomic().sum(("a",), operand)


def test_a_key_can_end_with_the_versionstamp_of_its_commit(kv: Kv) -> None:
    result = kv.atomic().set(("log", COMMIT_VERSIONSTAMP), "one").set_versionstamped(("copy",), "two").commit()
    assert isinstance(result, CommitResult)
    assert kv.get(("log", result.versionstamp)).value == "one"
    assert kv.get(("copy", result.versionstamp)).value == "two"
    kv.set(("log", kv.commit_versionstamp()), "three")
    assert [entry.value for entry in kv.list(("log",))] == ["one", "three"]
    with pytest.raises(KeyInvalid):
        kv.set((COMMIT_VERSIONSTAMP,), 1)
    with pytest.raises(KeyInvalid):
        kv.get(("log", COMMIT_VERSIONSTAMP))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda atomic: atomic.set((), 1), KeyInvalid),
        (lambda atomic: atomic.delete(()), KeyInvalid),
        (lambda atomic: atomic.check(((), None)), KeyInvalid),
        (lambda atomic: atomic.set(("x" * 2047,), 1), LimitExceeded),
        (lambda atomic: atomic.set(("a",), b"x" * 65_537), LimitExceeded),
        (lambda atomic: atomic.set(("a",), "x" * 65_531), LimitExceeded),
        (lambda atomic: atomic.enqueue("x" * 65_531), LimitExceeded),
        (lambda atomic: [atomic.check((("a",), None)) for _ in range(101)], LimitExceeded),
        (lambda atomic: [atomic.delete(("a",)) for _ in range(1001)], LimitExceeded),
        (lambda atomic: [atomic.enqueue(1)] + [atomic.delete(("a",)) for _ in range(1000)], LimitExceeded),
        (lambda atomic: [atomic.set((number,), b"x" * 65_536) for number in range(13)], LimitExceeded),
        (lambda atomic: [atomic.set(("x" * 2045, number), 1) for number in range(41)], LimitExceeded),
        (lambda atomic: [atomic.delete(("x" * 2040,)) for _ in range(402)], LimitExceeded),
        (lambda atomic: atomic.check((("a",), "xyz")), ValueInvalid),
        (lambda atomic: atomic.set(("a",), 1, expire_in=-1), OptionInvalid),
        (lambda atomic: atomic.set(("a",), 1, expire_in=1.5), OptionInvalid),
        (lambda atomic: atomic.set(("a",), 1, expire_in=2**53), OptionInvalid),
        (lambda atomic: atomic.enqueue(1, delay=-1), OptionInvalid),
        (lambda atomic: atomic.enqueue(1, delay=datetime.timedelta(days=31)), OptionInvalid),
        (lambda atomic: atomic.enqueue(1, backoff_schedule=[1] * 6), OptionInvalid),
        (lambda atomic: atomic.enqueue(1, backoff_schedule=[3_600_001]), OptionInvalid),
        (lambda atomic: atomic.enqueue(1, keys_if_undelivered=["a"]), KeyInvalid),
    ],
)
def test_an_atomic_operation_keeps_denos_limits(kv: Kv, change: Callable[[Any], object], error: type[KvError]) -> None:
    def commit() -> None:
        change(atomic := kv.atomic())
        atomic.commit()

    with pytest.raises(error):
        commit()
    assert list(kv.list(())) == []


def test_what_is_just_within_the_limits_is_written(kv: Kv) -> None:
    kv.set(("x" * 2046,), b"x" * 65_536)
    kv.set(("a",), "x" * 65_530)
    atomic = kv.atomic()
    for number in range(1000):
        atomic.set((number,), b"x" * 750)
    assert atomic.commit()
    assert kv.atomic().commit()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_expires_goes_by_itself_and_not_before(kv: Kv) -> None:
    start = time.monotonic()
    kv.set(("soon",), 1, expire_in=300)
    kv.set(("later",), 1, expire_in=3600 * SECOND)
    kv.set(("kept",), 1, expire_in=100)
    kv.set(("kept",), 1)
    until(lambda: kv.get(("soon",)).versionstamp is None)
    assert time.monotonic() - start >= 0.299  # moments are whole milliseconds
    assert [entry.key for entry in kv.list(())] == [("kept",), ("later",)]


def test_a_watch_gives_the_state_and_then_each_change(kv: Kv) -> None:
    watch = kv.watch([("a",), ("b",)])
    assert [entry.value for entry in next(watch)] == [None, None]
    kv.set(("other",), 1)
    kv.set(("b",), 2)
    assert [entry.value for entry in next(watch)] == [None, 2]
    kv.delete(("b",))
    assert [entry.versionstamp for entry in next(watch)] == [None, None]
    kv.set(("a",), 1, expire_in=500)
    assert [entry.value for entry in next(watch)] == [1, None]
    assert [entry.value for entry in next(watch)] == [None, None]


def test_a_watch_ends_with_its_database(kv: Kv) -> None:
    watch = kv.watch([("a",)])
    next(watch)
    threading.Timer(0.1, kv.close).start()
    assert list(watch) == []


def test_a_watch_ends_when_it_is_closed(kv: Kv) -> None:
    with kv.watch([("a",)]) as watch:
        next(watch)
        threading.Timer(0.1, watch.close).start()
        assert next(watch, None) is None
    assert list(kv.watch([])) == []
    with pytest.raises(LimitExceeded):
        kv.watch([("a",)] * 11)


def listen(kv: Kv, handler: Callable[[Any], object]) -> threading.Thread:
    thread = threading.Thread(target=kv.listen_queue, args=(handler,))
    thread.start()
    return thread


def test_messages_reach_who_listens(kv: Kv) -> None:
    heard: list[object] = []
    kv.enqueue({"before": 1})
    thread = listen(kv, heard.append)
    kv.enqueue(BigInt(5), delay=50)
    kv.atomic().set(("a",), 1).enqueue("atomic").commit()
    until(lambda: len(heard) == 3)
    kv.close()
    thread.join()
    assert sorted(map(repr, heard)) == sorted(map(repr, [{"before": 1}, "atomic", BigInt(5)]))  # they run side by side


def test_a_handler_that_fails_gets_the_message_again_and_then_it_is_put_down(kv: Kv) -> None:
    tries: list[float] = []

    def fail(_: object) -> None:
        tries.append(time.monotonic())
        raise ValueError("no")

    kv.enqueue("hard", backoff_schedule=[50, 100], keys_if_undelivered=[("dead", 1), ("dead", 2)])
    thread = listen(kv, fail)
    until(lambda: kv.get(("dead", 2)).value == "hard")
    kv.close()
    thread.join()
    assert len(tries) == 3
    assert tries[1] - tries[0] >= 0.045
    assert tries[2] - tries[1] >= 0.095


def test_a_handler_may_close_the_database_and_its_message_is_done(path: str) -> None:
    kv = open_kv(path)
    kv.enqueue("last")
    kv.listen_queue(lambda _: kv.close())
    with pytest.raises(Closed):
        kv.get(("a",))
    with closing(apsw.Connection(path)) as connection:
        assert connection.execute("select count(*) from queue_running").fetchall() == [(0,)]
        assert connection.execute("select count(*) from queue").fetchall() == [(0,)]


def test_closing_waits_for_the_handler_that_runs(path: str) -> None:
    started, go = threading.Event(), threading.Event()
    kv = open_kv(path)
    kv.enqueue("slow")

    def handler(_: object) -> None:
        started.set()
        go.wait()

    thread = listen(kv, handler)
    started.wait()
    threading.Timer(0.1, go.set).start()
    kv.close()
    thread.join()
    with closing(apsw.Connection(path)) as connection:
        assert connection.execute("select count(*) from queue_running").fetchall() == [(0,)]


def test_an_interrupted_handler_gives_its_message_back(path: str) -> None:
    with open_kv(path) as kv:
        kv.enqueue("m", backoff_schedule=[1])

        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            kv.listen_queue(interrupt)
        heard: list[object] = []
        thread = listen(kv, heard.append)
        until(lambda: heard == ["m"])
        kv.close()
        thread.join()


def test_a_closed_database_says_so(kv: Kv) -> None:
    entries = kv.list(("a",))
    kv.close()
    kv.close()
    for use in (
        lambda: kv.get(("a",)),
        lambda: kv.set(("a",), 1),
        lambda: kv.delete(("a",)),
        lambda: next(entries),
        lambda: kv.enqueue(1),
        lambda: kv.atomic().commit(),
        lambda: kv.listen_queue(print),
    ):
        with pytest.raises(Closed):
            use()


def test_many_threads_use_one_database(kv: Kv) -> None:
    def work(number: int) -> None:
        for turn in range(20):
            kv.set((number, turn), turn)
            assert kv.get((number, turn)).value == turn
            assert len(list(kv.list((number,)))) == turn + 1
            kv.atomic().sum(("total",), 1).commit()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kv.get(("total",)).value == 160


def test_the_environment_says_which_database(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENO_KV_DEFAULT_PATH", path)
    with open_kv() as kv:
        kv.set(("a",), 1)
    monkeypatch.setenv("PROVISIONER_KV_URL", path + "2")
    with open_kv() as kv:
        assert kv.get(("a",)).value is None
    monkeypatch.setenv("PROVISIONER_KV_URL", "sqlite://" + path.replace("kv", "k%76"))
    with open_kv() as kv:
        assert kv.get(("a",)).value == 1
    monkeypatch.delenv("PROVISIONER_KV_URL")
    with open_kv() as kv:
        assert kv.get(("a",)).value == 1


def test_without_a_name_it_is_in_memory_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="in memory"):
        kv = open_kv()
    with kv:
        kv.set(("a",), 1)
        assert kv.get(("a",)).value == 1


@pytest.mark.parametrize("token", [None, "", "two words", "line\nfeed", "é"])
def test_a_url_wants_an_access_token(token: str | None) -> None:
    with pytest.raises(OptionInvalid, match="DENO_KV_ACCESS_TOKEN"):
        open_kv("http://localhost:4512", access_token=token)


def test_what_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello" * 1000)
    for path in (tmp_path / "text", tmp_path / "no" / "directory", tmp_path):
        with pytest.raises(StoreFailed, match=str(path)):
            open_kv(path)
    with pytest.raises(OptionInvalid):
        open_kv(tmp_path / "x", synchronous="off")


def test_older_files_get_the_tables_they_lack(path: str) -> None:
    from provisioner.kv.stores.sqlite import schema

    whole = []
    for version in (-1, 0, 1, 2, 3):
        old = f"{path}{version}"
        with closing(apsw.Connection(old)) as connection:
            later = set(schema.missing(version))
            for statement in schema.missing(-1):
                if statement not in later:
                    connection.execute(statement)
        with open_kv(old) as kv:
            kv.set(("a",), 1, expire_in=10_000_000)
            kv.enqueue(1)
        with closing(apsw.Connection(old)) as connection:
            whole.append(sorted(connection.execute("select name, sql from sqlite_master").fetchall()))
            assert connection.execute("select * from migration_state").fetchall() == [(0, 3)]
    assert all(each == whole[-1] for each in whole)


def test_entries_that_nobody_can_read_leave_the_others_readable(path: str) -> None:
    bad = {
        b"\x02a\0": (b"1234567", 2),
        b"\x02b\0": (b"\xff\x0f\x01", 1),
        b"\x02c\0": (b"x", 9),
        b"\x02d\0\x02cut": (b"x", 3),
        b"\x02e\0": (b"", 1),
    }
    with open_kv(path) as kv:
        kv.set(("good",), 1)
        with closing(apsw.Connection(path)) as connection:
            for key, (data, encoding) in bad.items():
                connection.execute(
                    "insert into kv (k, v, v_encoding, version) values (?, ?, ?, 1)", (key, data, encoding)
                )
        for name in "abce":
            with pytest.raises(Malformed, match=f"'{name}'"):
                kv.get((name,))
        entries, read, refused = kv.list(()), [], []
        while True:
            try:
                read.append(next(entries))
            except Malformed as error:
                refused.append(str(error))
            except StopIteration:
                break
        assert [entry.key for entry in read] == [("good",)]
        assert len(refused) == 5
        assert "x'02640002637574'" in refused[3]
        assert entries.cursor == ""
        kv.set(("a",), "mended")
        assert kv.get(("a",)).value == "mended"


def test_a_full_disk_refuses_and_loses_nothing(path: str) -> None:
    with open_kv(path) as kv:
        kv.set(("a",), 1)
        store = kv._store
        assert isinstance(store, SqliteStore)
        store._file._writer.execute("pragma max_page_count = 12").fetchall()

        def fill() -> None:
            for number in range(20):
                kv.set((number,), b"x" * 60_000)

        with pytest.raises(StoreFailed, match="full"):
            fill()
        before = [entry.key for entry in kv.list(())]
        assert before[0] == ("a",)
        store._file._writer.execute("pragma max_page_count = 100000").fetchall()
        kv.set(("z",), 1)
        assert len(list(kv.list(()))) == len(before) + 1


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"), reason="root may write everything")
def test_a_file_without_write_permission_can_be_read(tmp_path: Path) -> None:
    directory = tmp_path / "kv"
    directory.mkdir()
    with open_kv(directory / "db") as kv:
        kv.set(("a",), 1)
    program = (
        "from provisioner.kv import open_kv, ReadOnly\n"
        f"kv = open_kv({str(directory / 'db')!r})\n"
        "print(kv.get(('a',)).value)\n"
        "try: kv.set(('a',), 2)\nexcept ReadOnly: print('read only')\n"
        "kv.close()"
    )
    os.chmod(directory / "db", 0o444)
    os.chmod(directory, 0o777)
    for parent in directory.parents:
        if parent != Path("/") and parent.stat().st_uid == os.geteuid():
            os.chmod(parent, parent.stat().st_mode | 0o755)
    command = [sys.executable, "-c", program]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=65534", "--clear-groups", *command]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert result.stdout.split("\n")[:2] == ["1", "read only"], result.stderr


def test_nan_as_a_key_is_found_again(kv: Kv) -> None:
    kv.set((math.nan,), 1)
    assert kv.get((math.nan,)).value == 1
