"""A remote database whose answers are late, lost, or none: what is tried again, and what never happens twice."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kv_wire import PROTOBUF, Fault, Wire, wire
from support import until

from provisioner.connect.client import metadata, session, transport
from provisioner.connect.client.store import RemoteStore
from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.kv import (
    AccessDenied,
    Closed,
    CommitResult,
    Kv,
    KvError,
    KvU64,
    LimitExceeded,
    OptionInvalid,
    OutOfRange,
    ReadOnly,
    StoreFailed,
    TypeMismatch,
    Uncertain,
    Unsupported,
)
from provisioner.kv.model import AtomicWrite, Committed, Encoding, Mutation, MutationKind

CUT = Fault()
CUT_WHEN_DONE = Fault(done=True)
LATER = [Fault(status=503), Fault(status=429)]
LOST = [
    CUT,
    CUT_WHEN_DONE,
    Fault(status=500),
    Fault(status=502, done=True),
    Fault(status=504),
    Fault(status=200, short=True),
]


@pytest.fixture
def server() -> Iterator[Wire]:
    with wire() as running:
        yield running


@pytest.fixture
def kv(server: Wire) -> Iterator[Kv]:
    with opened(server) as made:
        yield made


def opened(server: Wire, patience: float = 10) -> Kv:
    return Kv(RemoteStore(server.url, "access", patience=patience))


def strange(message: Any) -> Fault:
    return Fault(status=200, kind=PROTOBUF, body=message if isinstance(message, bytes) else message.SerializeToString())


@pytest.mark.parametrize("fault", [*LATER, *LOST])
def test_a_read_is_tried_again(server: Wire, kv: Kv, fault: Fault) -> None:
    kv.set(("a",), 1)
    server.fail("snapshot_read", fault, fault, fault)
    assert kv.get(("a",)).value == 1
    assert server.count("snapshot_read") == 4


def test_what_is_tried_again_fails_in_the_end(server: Wire) -> None:
    with opened(server, patience=0.5) as kv:
        server.fail("snapshot_read", *[Fault(status=503, body=b"come\nlater")] * 1000)
        with pytest.raises(StoreFailed, match=r"503: come later \(tried for 0.5 seconds\)"):
            kv.get(("a",))
        assert server.count("snapshot_read") < 12, "pauses grow"


def test_closing_ends_what_is_being_tried_again(server: Wire) -> None:
    kv = opened(server, patience=60)
    server.fail("snapshot_read", *[CUT] * 1000)
    outcomes: list[type] = []

    def read() -> None:
        with pytest.raises(Closed) as raised:
            kv.get(("a",))
        outcomes.append(raised.type)

    thread = threading.Thread(target=read)
    thread.start()
    until(lambda: server.count("snapshot_read") > 3)
    kv.close()
    thread.join(60)
    assert outcomes == [Closed]


def entry(key: bytes, versionstamp: bytes = bytes(10)) -> pb.KvEntry:
    return pb.KvEntry(key=key, value=b"x", encoding=pb.VE_BYTES, versionstamp=versionstamp)


def output(*entries: pb.KvEntry, **fields: Any) -> pb.SnapshotReadOutput:
    said = {"status": pb.SR_SUCCESS, "read_is_strongly_consistent": True, **fields}
    return pb.SnapshotReadOutput(ranges=[pb.ReadRangeOutput(values=entries)], **said)


@pytest.mark.parametrize(
    "answer",
    [
        Fault(status=200, kind="text/html", body=b"<h1>Sign in to this network</h1>"),
        Fault(status=200, kind="application/x-protobuf; charset=utf-8"),
        Fault(status=302, body=b"elsewhere"),
        strange(b"\xff\xff\xff"),
        strange(b""),
        strange(pb.SnapshotReadOutput(status=pb.SR_SUCCESS, read_is_strongly_consistent=True)),
        strange(output(status=7)),
        strange(output(entry(b"\x02a\0", bytes(9)))),
        strange(output(entry(b"\x02b\0"))),
        strange(output(entry(b"\x02a\0"), entry(b"\x02a\0"))),
    ],
)
def test_an_answer_that_is_none_is_an_error_at_once(server: Wire, kv: Kv, answer: Fault) -> None:
    server.fail("snapshot_read", answer)
    with pytest.raises(StoreFailed):
        kv.get(("a",))
    assert server.count("snapshot_read") == 1


@pytest.mark.parametrize(
    "answer", [output(read_disabled=True), output(status=2), output(read_is_strongly_consistent=False)]
)
def test_an_endpoint_that_does_not_serve_reads_makes_the_metadata_be_asked_again(
    server: Wire, kv: Kv, answer: pb.SnapshotReadOutput
) -> None:
    kv.set(("a",), 1)
    server.fail("snapshot_read", strange(answer))
    assert kv.get(("a",)).value == 1
    assert server.count("connect") == 2
    server.fail("snapshot_read", *[strange(answer)] * 3)
    with pytest.raises(StoreFailed, match="no endpoint"):
        kv.get(("a",))


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (400, "Failed to perform 'sum' mutation on a non-U64 value in the database", TypeMismatch),
        (400, "Cannot sum KvU64 with Number", TypeMismatch),
        (400, "The result of a Sum operation would exceed its range limit", OutOfRange),
        (400, "something else", OptionInvalid),
        (413, "too large", LimitExceeded),
        (403, "only reading", ReadOnly),
        (410, "database shop--x is archived", StoreFailed),
    ],
)
def test_a_refusal_is_the_error_that_it_would_be_here(
    server: Wire, kv: Kv, status: int, text: str, error: type[KvError]
) -> None:
    refusal = Fault(status=status, body=text.encode())
    server.fail("atomic_write", refusal, *[refusal] * (status == 403))
    with pytest.raises(error, match=text):
        kv.atomic().sum(("a",), 1).commit()
    assert server.count("atomic_write") == 1 + (status == 403), (
        "after a refused token the metadata is asked again, once"
    )


@pytest.mark.parametrize("fault", LATER)
def test_a_write_that_was_not_carried_out_is_tried_again(server: Wire, kv: Kv, fault: Fault) -> None:
    server.fail("atomic_write", fault, fault)
    assert kv.atomic().sum(("n",), 1).commit()
    assert kv.get(("n",)).value == KvU64(1)
    assert server.count("atomic_write") == 3


@pytest.mark.parametrize("fault", [*LOST, strange(b"\xff"), strange(b""), Fault(status=200, kind="text/html")])
def test_a_write_whose_answer_was_lost_is_sent_once_and_says_so(server: Wire, kv: Kv, fault: Fault) -> None:
    writes: list[Callable[[], object]] = [
        lambda: kv.atomic().sum(("n",), 1).commit(),
        lambda: kv.set(("a",), 1),
        lambda: kv.enqueue("x"),
        lambda: kv.atomic().check((("b",), None)).set(("b",), 1).commit(),
    ]
    for write in writes:
        before = server.count("atomic_write")
        server.fail("atomic_write", fault)
        with pytest.raises(Uncertain, match="may have been written or not"):
            write()
        assert server.count("atomic_write") == before + 1
    assert kv.get(("n",)).value in (None, KvU64(1))
    assert (kv.get(("n",)).value is None) is not fault.done


def test_a_write_that_can_only_happen_once_is_tried_again(server: Wire, kv: Kv) -> None:
    kv.set(("a",), 1)
    before = kv.get(("a",))
    server.fail("atomic_write", CUT, Fault(status=500))
    assert isinstance(kv.atomic().check(before).set(("a",), 2).sum(("n",), 1).commit(), CommitResult)
    assert kv.get(("n",)).value == KvU64(1)


def test_where_such_a_write_may_have_happened_its_failing_check_proves_nothing(server: Wire, kv: Kv) -> None:
    kv.set(("a",), 1)
    before = kv.get(("a",))
    server.fail("atomic_write", CUT_WHEN_DONE)
    with pytest.raises(Uncertain):
        kv.atomic().check(before).set(("a",), 2).sum(("n",), 1).commit()
    assert kv.get(("a",)).value == 2
    assert kv.get(("n",)).value == KvU64(1)


def test_a_write_of_nothing_may_be_repeated(server: Wire, kv: Kv) -> None:
    server.fail("atomic_write", CUT_WHEN_DONE, CUT)
    assert not kv.atomic().check((("a",), "0" * 20)).commit()


def test_writes_behind_one_that_nobody_knows_of_are_not_sent(server: Wire) -> None:
    writes = [AtomicWrite((), (Mutation(MutationKind.SET, b"\x02%d\0" % at, b"x", Encoding.BYTES),)) for at in range(3)]
    store = RemoteStore(server.url, "access")
    server.fail("atomic_write", Fault(status=503), CUT)
    assert [type(each) for each in store.write(writes)] == [Uncertain, StoreFailed, StoreFailed]
    assert [type(each) for each in store.write(writes)] == [Committed] * 3
    store.close()


def test_a_token_that_is_no_longer_taken_is_replaced_without_a_word(server: Wire, kv: Kv) -> None:
    with kv.watch([("a",)]) as states:
        assert next(states)[0].value is None
        server.token = "data-2"
        kv.set(("a",), 1)
        assert next(states)[0].value == 1
        server.token = "data-3"
        server.cut_streams()
        assert kv.get(("a",)).value == 1
        kv.set(("a",), 2)
        assert next(states)[0].value == 2
    assert server.count("connect") == 3


def test_an_access_token_that_is_no_longer_taken_is_an_error(server: Wire, kv: Kv) -> None:
    server.token = "data-2"
    server.fail("connect", Fault(status=401, body=b"not any more"))
    with pytest.raises(AccessDenied, match="not any more"):
        kv.get(("a",))


def test_a_token_is_replaced_before_it_expires_but_not_all_the_time(
    server: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.metadata["expiresAt"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 240))
    with opened(server) as kv:
        for _ in range(5):
            kv.get(("a",))
        assert server.count("connect") == 1
        monkeypatch.setattr(session, "BETWEEN_RENEWALS", 0.0)
        server.metadata["expiresAt"] = "2099-01-01T00:00:00+00:00"
        for _ in range(5):
            kv.get(("a",))
        assert server.count("connect") == 2


def test_a_token_that_still_holds_is_used_while_no_new_one_can_be_had(
    server: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.metadata["expiresAt"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 240))
    monkeypatch.setattr(session, "BETWEEN_RENEWALS", 0.0)
    with opened(server) as kv:
        server.fail("connect", CUT, Fault(status=500), Fault(status=429))
        for _ in range(3):
            assert kv.get(("a",)).value is None
        assert server.count("snapshot_read") == 3


def test_a_token_that_is_no_longer_taken_is_replaced_as_soon_as_that_can_be_done(server: Wire, kv: Kv) -> None:
    server.token = "data-2"
    server.fail("connect", CUT, Fault(status=503), Fault(status=429))
    assert kv.set(("a",), 1)


def test_many_threads_ask_for_one_new_token(server: Wire, kv: Kv) -> None:
    server.token = "data-2"
    together([lambda: kv.get(("a",))] * 16)
    assert server.count("connect") == 2


def test_another_database_under_the_same_url_is_an_error(server: Wire, kv: Kv) -> None:
    server.metadata["databaseId"] = "11111111-0d4f-4a54-9f6f-0f6a1c6d7e8f"
    server.token = "data-2"
    with pytest.raises(StoreFailed, match="another database"):
        kv.set(("a",), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 4},
        {"version": 1},
        {"version": "3"},
        {"databaseId": "shop"},
        {"databaseId": None},
        {"endpoints": []},
        {"endpoints": [{"url": "/x", "consistency": "eventual"}]},
        {"endpoints": [{"url": "file:///etc/passwd", "consistency": "strong"}]},
        {"endpoints": {"url": "/x"}},
        {"expiresAt": "2099-01-01T00:00:00"},
        {"expiresAt": 4_000_000_000},
    ],
)
def test_metadata_that_is_none_is_an_error(server: Wire, change: dict[str, Any]) -> None:
    server.metadata.update(change)
    with pytest.raises(StoreFailed, match="does not speak KV Connect"):
        opened(server)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///connect",
        "http://name:secret@localhost/connect",
        "http://localhost/a b",
        "http://localhost/a\r\nX: y",
        "http://localhost/é",
        "http://localhost/connect?x=1",
        "http://localhost:port/connect",
        "http://[::1/connect",
    ],
)
def test_what_is_no_url_of_a_server_is_refused_without_asking(url: str) -> None:
    with pytest.raises(OptionInvalid):
        RemoteStore(url, "access")


def test_nothing_leads_from_https_to_where_all_can_be_read(server: Wire) -> None:
    body = json.dumps(server.metadata).encode()
    places = transport.Transport()
    assert metadata.parse(body, "https://example.org/x/connect", places).strong[0].origin.name == "https://example.org"
    server.metadata["endpoints"].append({"url": "http://example.org/near", "consistency": "eventual"})
    body = json.dumps(server.metadata).encode()
    metadata.parse(body, "http://example.org/x/connect", places)
    with pytest.raises(metadata.ProtocolViolation, match="unencrypted"):
        metadata.parse(body, "https://example.org/x/connect", places)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=401, body=b"wrong token"), AccessDenied),
        (Fault(status=404, body=b"nothing here"), AccessDenied),
        (Fault(status=410, body=b"deleted for good"), StoreFailed),
        (Fault(status=307, body=b"elsewhere"), StoreFailed),
        (Fault(status=200, kind="text/html", body=b"<h1>Hello</h1>"), StoreFailed),
    ],
)
def test_what_cannot_be_opened_says_why(server: Wire, fault: Fault, error: type[KvError]) -> None:
    server.fail("connect", fault)
    with pytest.raises(error, match=server.url):
        opened(server)
    assert server.count("connect") == 1


def test_opening_waits_for_a_server_that_starts_but_not_for_long(server: Wire) -> None:
    server.fail("connect", Fault(status=503), CUT, Fault(status=500))
    opened(server).close()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(StoreFailed, match="cannot be reached"):
            RemoteStore(f"http://127.0.0.1:{nobody.getsockname()[1]}/connect", "access", patience=0.3)


def test_reads_that_may_lag_go_to_where_they_may(server: Wire) -> None:
    base = server.metadata["endpoints"][0]["url"]
    server.metadata["endpoints"].append({"url": f"/near{base}/", "consistency": "eventual"})
    with opened(server) as kv:
        kv.get(("a",))
        kv.get(("a",), consistency="eventual")
        list(kv.list((), consistency="eventual"))
        kv.get_many([("a",)])
        near = [path.startswith("/near") for path in server.asked if path.endswith("snapshot_read")]
        assert near == [False, True, True, False]
        server.fail("snapshot_read", CUT)
        kv.get(("a",), consistency="eventual")
        assert [path.startswith("/near") for path in server.asked[-2:]] == [True, False], "another is tried"


def test_of_several_endpoints_another_is_tried(server: Wire) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = {"url": f"http://127.0.0.1:{nobody.getsockname()[1]}/x", "consistency": "strong"}
        server.metadata["endpoints"].insert(0, dead)
        with opened(server) as kv:
            assert kv.set(("a",), 1)
            assert kv.get(("a",)).value == 1


def test_a_watch_survives_its_stream(server: Wire, kv: Kv) -> None:
    with kv.watch([("a",), ("b",)]) as states:
        assert [found.value for found in next(states)] == [None, None]
        for number in range(5):
            server.cut_streams()
            if number % 2:
                server.fail("watch", CUT, Fault(status=503), strange(b"x"))
            kv.set(("b",), number)
            assert [found.value for found in next(states)] == [None, number]


def test_who_watches_hears_why_there_is_no_stream_any_more(server: Wire, kv: Kv) -> None:
    with kv.watch([("a",)]) as states:
        next(states)
        until(lambda: bool(server.streams))
        gone = Fault(status=410, body=b"archived")
        server.fail("watch", *[gone] * 100)
        server.fail("snapshot_read", *[gone] * 100)
        server.cut_streams()
        with pytest.raises(StoreFailed, match="archived"):
            next(states)


def test_an_older_protocol_has_no_watch_and_another_server_no_queue(server: Wire) -> None:
    server.metadata["version"] = 2
    with opened(server) as kv:
        kv.enqueue("x")
        with pytest.raises(Unsupported, match="version 2"):
            kv.watch([("a",)])
        with pytest.raises(Unsupported, match="provisioner serve"):
            kv.listen_queue(print)


def test_connections_are_kept_one_for_each_thread_that_asks(
    server: Wire, kv: Kv, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        kv.set((number,), b"x" * 3000 * number)
    assert server.connections == 1
    together([lambda: [kv.get((1,)) for _ in range(20)]] * 4)
    assert server.connections <= 4
    before = server.connections
    monkeypatch.setattr(transport, "IDLE", 0.0)
    kv.get((1,))
    assert server.connections == before + 1, "one that idled may be about to be closed"


def together(calls: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
