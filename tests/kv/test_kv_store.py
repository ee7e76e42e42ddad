"""What every store of encoded keys and values does. A store that joins is one more line in STORES."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kv_server import Served, TimedStore
from kv_steps import (
    DEAD,
    EVERYTHING,
    LETTERS,
    NOW,
    A,
    B,
    C,
    D,
    K,
    N,
    X,
    Z,
    change,
    do,
    done,
    emptied,
    enqueued,
    names,
    put,
    stored,
)
from pg_server import PgServer

from provisioner.kv.codec import key, value
from provisioner.kv.errors import Closed, KvError, Malformed, OutOfRange, TypeMismatch
from provisioner.kv.model import (
    AtomicWrite,
    BigInt,
    Check,
    ChecksFailed,
    Committed,
    Enqueue,
    KvU64,
    Mutation,
    MutationKind,
    RawEntry,
    ReadRange,
)
from provisioner.kv.store import Outcome, Store
from provisioner.kv.stores.memory import MemoryStore
from provisioner.kv.stores.postgres.store import open_store
from provisioner.kv.stores.sqlite.store import SqliteStore

STORES: dict[str, Callable[[Path, Served], Store]] = {
    "memory": lambda *_: MemoryStore(),
    "sqlite": lambda directory, _: SqliteStore(directory / "kv.sqlite3"),
    "sqlite, one of many": lambda directory, _: SqliteStore(directory / "kv.sqlite3", lean=True),
    "remote": lambda _, server: TimedStore(server, server.database()),
}

ON_POSTGRES = ("postgres", "remote, on postgres")

END = b"\xff"


@pytest.fixture(scope="module")
def on_postgres(pg: PgServer, server: Served) -> Iterator[dict[str, tuple[str, Callable[[], Store]]]]:
    """For each store on PostgreSQL, the URL of its database and what opens it: making a database for each test takes long."""
    with pg.database() as name:
        made = server.on_postgres(pg)
        open_store(pg.url(name)).close()
        yield {
            "postgres": (pg.url(name), lambda: open_store(pg.url(name))),
            "remote, on postgres": (made.path, lambda: TimedStore(server, made)),
        }


@pytest.fixture(params=[*STORES, *ON_POSTGRES])
def store(request: pytest.FixtureRequest, tmp_path: Path, server: Served) -> Iterator[Store]:
    if request.param in ON_POSTGRES:
        url, opened = request.getfixturevalue("on_postgres")[request.param]
        emptied(url)
        with closing(opened()) as made:
            yield made
    else:
        with closing(STORES[request.param](tmp_path, server)) as made:
            yield made


def test_what_was_written_is_read_with_its_versionstamp(store: Store) -> None:
    versionstamp = done(store, put(A, "x"))
    assert store.read([key.point(A)]) == [[RawEntry(A, *value.encode("x"), versionstamp)]]
    assert len(versionstamp) == 10
    assert versionstamp.endswith(b"\0\0")


def test_what_is_absent_is_no_entry(store: Store) -> None:
    assert store.read([key.point(A)]) == [[]]


def test_all_of_one_write_has_one_versionstamp_and_later_ones_greater(store: Store) -> None:
    first = done(store, put(A), put(B))
    second = done(store, put(C))
    entries = store.read([EVERYTHING])[0]
    assert [entry.versionstamp for entry in entries] == [first, first, second]
    assert 1 <= int.from_bytes(second[:8], "big") - int.from_bytes(first[:8], "big") <= 9


def test_a_range_starts_with_its_start_and_ends_before_its_end(store: Store) -> None:
    done(store, *(put(name) for name in (A, B, C, D)))
    assert names(store, ReadRange(B, D, 10)) == [B, C]
    assert names(store, ReadRange(B, D, 10, reverse=True)) == [C, B]
    assert names(store, ReadRange(A, END, 2)) == [A, B]
    assert names(store, ReadRange(A, END, 2, reverse=True)) == [D, C]
    assert names(store, ReadRange(C, C, 2)) == []


def test_several_ranges_are_answered_in_their_order(store: Store) -> None:
    done(store, put(A), put(B))
    answers = store.read([key.point(B), ReadRange(A, END, 9), key.point(X)])
    assert [[entry.key for entry in entries] for entries in answers] == [[B], [A, B], []]


def test_a_check_holds_for_the_same_versionstamp_or_for_absence(store: Store) -> None:
    versionstamp = done(store, put(A))
    assert isinstance(do(store, checks=(Check(A, versionstamp), Check(B, None))), Committed)


def test_checks_that_fail_are_named_and_nothing_is_written(store: Store) -> None:
    old = done(store, put(A))
    done(store, put(A))
    checks = (Check(A, old), Check(X, None), Check(A, None), Check(X, old))
    assert do(store, put(B), checks=checks) == ChecksFailed((0, 2, 3))
    assert names(store) == [A]


def test_mutations_happen_in_order(store: Store) -> None:
    done(
        store,
        put(A, 1),
        Mutation(MutationKind.DELETE, A),
        put(A, 2),
        put(B),
        Mutation(MutationKind.DELETE, B),
    )
    assert stored(store, A) == 2
    assert names(store) == [A]


def test_a_versionstamped_key_ends_with_the_digits(store: Store) -> None:
    versionstamp = done(store, put(A)._replace(kind=MutationKind.SET_VERSIONSTAMPED))
    assert names(store) == [A + b"\x02" + versionstamp.hex().encode() + b"\0"]


@pytest.mark.parametrize(
    ("kind", "old", "operand", "new"),
    [
        (MutationKind.SUM, KvU64(5), KvU64(2), KvU64(7)),
        (MutationKind.SUM, None, KvU64(2), KvU64(2)),
        (MutationKind.SUM, KvU64(2**64 - 1), KvU64(3), KvU64(2)),
        (MutationKind.MIN, KvU64(5), KvU64(2), KvU64(2)),
        (MutationKind.MIN, None, KvU64(2), KvU64(2)),
        (MutationKind.MAX, KvU64(5), KvU64(2), KvU64(5)),
        (MutationKind.MAX, None, KvU64(2), KvU64(2)),
        (MutationKind.SUM, 3, 0.5, 3.5),
        (MutationKind.SUM, 2**31 - 1, 1, 2**31),
        (MutationKind.SUM, None, 2, 2),
        (MutationKind.SUM, BigInt(2**64), BigInt(-(2**64)), BigInt(0)),
        (MutationKind.SUM, BigInt(-5), BigInt(2), BigInt(-3)),
        (MutationKind.SUM, KvU64(1), BigInt(2**64 - 1), KvU64(0)),
    ],
)
def test_numbers_are_computed(store: Store, kind: MutationKind, old: object, operand: object, new: object) -> None:
    if old is not None:
        done(store, put(N, old))
    done(store, change(kind, N, operand))
    assert stored(store, N) == new
    assert type(stored(store, N)) is type(new)


@pytest.mark.parametrize(
    ("low", "high", "clamp", "operand", "result"),
    [
        ("", 10.0, False, 5.0, 10),
        ("", 10.0, False, 6.0, OutOfRange),
        ("", 10.0, True, 6.0, 10),
        (0.0, "", False, -6.0, OutOfRange),
        (0.0, "", True, -6.0, 0),
        (0.0, 10.0, True, 1.0, 6),
        ("", BigInt(10), False, 1.0, TypeMismatch),
    ],
)
def test_a_sum_keeps_its_bounds(
    store: Store, low: object, high: object, clamp: bool, operand: object, result: object
) -> None:
    done(store, put(N, 5))
    outcome = do(store, change(MutationKind.SUM, N, operand, low, high, clamp))
    if isinstance(result, type):
        assert isinstance(outcome, result)
        assert stored(store, N) == 5
    else:
        assert stored(store, N) == result


@pytest.mark.parametrize("old", ["x", 3, BigInt(3), b"12345678", None, [1], True])
@pytest.mark.parametrize("kind", [MutationKind.SUM, MutationKind.MIN, MutationKind.MAX])
def test_another_type_is_refused_and_nothing_of_the_write_happens(
    store: Store, kind: MutationKind, old: object
) -> None:
    before = done(store, put(N, old))
    outcome = do(store, put(A), change(kind, N, KvU64(1)), put(Z))
    assert isinstance(outcome, TypeMismatch)
    assert names(store) == [N]
    assert int.from_bytes(done(store)[:8], "big") - int.from_bytes(before[:8], "big") <= 9


@pytest.mark.parametrize(
    ("old", "operand"),
    [
        (KvU64(5), 2),
        (KvU64(5), BigInt(-1)),
        (KvU64(5), BigInt(2**64)),
        (3, BigInt(1)),
        (BigInt(3), 1),
        ("x", 1),
        (True, 1),
    ],
)
def test_kinds_of_numbers_do_not_mix(store: Store, old: object, operand: object) -> None:
    done(store, put(N, old))
    assert isinstance(do(store, change(MutationKind.SUM, N, operand)), TypeMismatch)
    assert stored(store, N) == old


def test_a_failed_check_comes_before_a_type_error(store: Store) -> None:
    done(store, put(N, "x"))
    assert do(store, change(MutationKind.SUM, N, KvU64(1)), checks=(Check(N, None),)) == ChecksFailed((0,))


def test_writes_that_travel_together_fail_alone(store: Store) -> None:
    done(store, put(N, "x"))
    outcomes = store.write(
        [
            AtomicWrite((), (put(A),)),
            AtomicWrite((Check(N, None),), (put(B),)),
            AtomicWrite((), (put(C), change(MutationKind.SUM, N, KvU64(1)))),
            AtomicWrite((Check(D, None),), (put(D),)),
            AtomicWrite((Check(D, None),), (put(D),)),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [Committed, ChecksFailed, TypeMismatch, Committed, ChecksFailed]
    assert names(store) == [A, D, N]


def test_concurrent_writers_lose_nothing(store: Store) -> None:
    stamps: list[bytes] = []

    def write(number: int) -> None:
        for _ in range(25):
            stamps.append(done(store, change(MutationKind.SUM, N, KvU64(number))))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(store, N) == KvU64(25 * sum(range(16)))
    assert len(set(stamps)) == len(stamps) == 400


def test_concurrent_checks_let_one_pass(store: Store) -> None:
    outcomes: list[Outcome] = []
    barrier = threading.Barrier(16)

    def write() -> None:
        barrier.wait()
        outcomes.append(do(store, put(A), checks=(Check(A, None),)))

    threads = [threading.Thread(target=write) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
    assert outcomes.count(ChecksFailed((0,))) == 15


def test_what_expired_is_deleted_and_wakes(store: Store) -> None:
    woken = threading.Event()
    done(store, put(A, expire_at=NOW), put(B, expire_at=NOW + 1), put(C), put(D, expire_at=NOW + 50))
    store.watch([A], woken.set)
    assert store.collect(NOW - 1) == (0, NOW)
    assert names(store) == [A, B, C, D]
    woken.clear()
    assert store.collect(NOW + 1) == (2, NOW + 50)
    assert woken.wait(60)
    assert names(store) == [C, D]
    assert store.collect(NOW + 60) == (1, None)


def test_a_crowd_that_expired_is_deleted_in_steps(store: Store) -> None:
    for start in range(0, 3000, 1000):
        done(store, *(put(key.encode((number,)), expire_at=NOW) for number in range(start, start + 1000)))
    done(store, put(A, expire_at=NOW + 50))
    count, due = store.collect(NOW + 1)
    while due is not None and due <= NOW + 1:
        more, due = store.collect(NOW + 1)
        count += more
    assert (count, due) == (3000, NOW + 50)
    assert names(store) == [A]


def test_writing_again_takes_the_expiry_away(store: Store) -> None:
    done(store, put(A, expire_at=NOW), put(N, KvU64(1), expire_at=NOW))
    done(store, put(A), change(MutationKind.SUM, N, KvU64(1)))
    assert store.collect(NOW + 1) == (0, None)
    assert names(store) == [A, N]


def test_a_watcher_is_woken_by_its_keys_until_it_is_closed(store: Store) -> None:
    woken = threading.Event()
    done(store, put(A))
    subscription = store.watch([A, B], woken.set)
    done(store, put(B))
    assert woken.wait(60)
    woken.clear()
    done(store, Mutation(MutationKind.DELETE, A))
    assert woken.wait(60)
    subscription.close()
    subscription.close()


def test_messages_come_when_they_are_due_in_order(store: Store) -> None:
    enqueued(store, b"late", NOW + 100)
    enqueued(store, b"second", NOW)
    enqueued(store, b"first", NOW - 1)
    messages, due = store.claim(NOW, 10)
    assert [message.payload for message in messages] == [b"first", b"second"]
    assert due == NOW + 100
    assert store.claim(NOW, 10) == ([], NOW + 100)
    assert [message.payload for message in store.claim(NOW + 100, 10)[0]] == [b"late"]
    assert store.claim(NOW + 100, 10) == ([], None)


def test_a_message_wakes_who_waits_for_the_queue(store: Store) -> None:
    woken = threading.Event()
    store.watch_queue(woken.set)
    enqueued(store, b"m", NOW)
    assert woken.wait(60)


def test_a_claim_takes_no_more_than_wanted(store: Store) -> None:
    for _ in range(3):
        enqueued(store, b"m", NOW)
    assert len(store.claim(NOW, 2)[0]) == 2
    assert len(store.claim(NOW, 2)[0]) == 1


def test_a_failed_message_comes_again_as_its_schedule_says(store: Store) -> None:
    enqueued(store, value.to_v8("hello"), NOW, (10, 1000), DEAD, LETTERS)
    at = NOW
    for wait in (10, 1000):
        ((message,), _) = store.claim(at, 1)
        store.finish(message.id, False, at)
        assert store.claim(at + wait - 1, 1) == ([], at + wait)
        at += wait
    ((message,), _) = store.claim(at, 1)
    store.finish(message.id, False, at)
    assert store.claim(at + 10**9, 1) == ([], None)
    assert store.revive(at + 10**9) == (0, None)
    assert names(store) == [DEAD, LETTERS]
    assert stored(store, DEAD) == "hello"


def test_without_a_schedule_of_its_own_a_message_has_denos(store: Store) -> None:
    enqueued(store, b"m", NOW, None)
    at = NOW
    for wait in (100, 1000, 5000, 30_000, 60_000):
        ((message,), _) = store.claim(at, 1)
        store.finish(message.id, False, at)
        assert store.claim(at, 1)[1] == at + wait
        at += wait


def test_what_succeeded_never_comes_again(store: Store) -> None:
    enqueued(store, b"m", NOW, (1, 1), K)
    ((message,), _) = store.claim(NOW, 1)
    store.finish(message.id, True, NOW)
    assert store.revive(NOW + 10**9) == (0, None)
    assert store.claim(NOW + 10**9, 1) == ([], None)
    assert names(store) == []


def test_what_a_dead_process_held_is_delivered_again_unless_it_was_renewed(store: Store) -> None:
    enqueued(store, b"m", NOW, (10, 10))
    ((message,), _) = store.claim(NOW, 1)
    assert store.revive(NOW + 4999) == (0, NOW + 5000)
    store.renew([message.id], NOW + 4000)
    assert store.revive(NOW + 8999) == (0, NOW + 9000)
    assert store.revive(NOW + 9000) == (1, None)
    ((again,), _) = store.claim(NOW + 9010, 1)
    assert again.payload == b"m"


def test_a_failed_check_sends_nothing(store: Store) -> None:
    done(store, put(A))
    do(store, checks=(Check(A, None),), enqueues=(Enqueue(b"m", NOW),))
    assert store.claim(NOW, 1) == ([], None)


def test_a_wrong_length_in_a_sum_is_an_error_of_that_write(store: Store) -> None:
    if isinstance(do(store, Mutation(MutationKind.SET, N, b"123", 2)), KvError):
        return  # a server does not let it be stored in the first place
    assert isinstance(do(store, change(MutationKind.SUM, N, KvU64(1))), (Malformed, TypeMismatch))


def test_a_closed_store_says_so_and_wakes_who_waits(store: Store) -> None:
    woken = threading.Event()
    store.watch([A], woken.set)
    store.close()
    store.close()
    assert woken.wait(60)
    for use in (
        lambda: store.read([EVERYTHING]),
        lambda: store.write([AtomicWrite()]),
        lambda: store.claim(NOW, 1),
        lambda: store.collect(NOW),
        lambda: store.revive(NOW),
    ):
        with pytest.raises(Closed):
            use()
    assert issubclass(Closed, KvError)
