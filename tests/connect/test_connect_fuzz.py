"""Whatever comes, the server answers it with less than 500, lives on, and does not grow.

300 cases for each endpoint; 10,000 with KV_NIGHTLY in the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import connect_wire as wire
import pytest
from connect_world import Access, Server, access, serving
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import shop

from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.connect.protocol import queue_pb2
from provisioner.kv.codec import key as keys
from provisioner.kv.codec import value

CASES = 10_000 if "KV_NIGHTLY" in os.environ else 300
GROWTH = 3 * 1024 * 1024  # bytes of memory: a leak of 300 bytes a case shows in the long form

Drawn = st.SearchStrategy[Any]

int32s = st.one_of(
    st.sampled_from([0, 1, 2, -1, 10, 500, 1000, 1001, 2**31 - 1, -(2**31)]), st.integers(-(2**31), 2**31 - 1)
)
int64s = st.one_of(
    st.sampled_from([0, 1, -1, 10**12, 4 * 10**12, 8_210_266_876_799_999, 8_210_266_876_800_000, 2**63 - 1, -(2**63)]),
    st.integers(-(2**63), 2**63 - 1),
)
enums = st.one_of(st.integers(0, 10), int32s)
parts = st.one_of(
    st.text(max_size=5),
    st.binary(max_size=5),
    st.integers(-3, 3),
    st.floats(width=32),
    st.booleans(),
    st.just("x" * 2044),
)
good_keys = st.lists(parts, min_size=1, max_size=3).map(keys.encode)
key_bytes = st.one_of(
    good_keys,
    good_keys,
    st.sampled_from(
        [
            b"",
            b"\x00",
            b"\xff",
            b"\x02a\0",
            b"\x02a\0\xff",
            b"\x01" * 2048,
            b"\x02" + b"x" * 2047,
            b"\x02" * 2050,
            b"\x0b\x00",
            b"\x1d\xff",
        ]
    ),
    st.binary(max_size=40),
)
numbers = st.sampled_from([0.0, -1.5, float("nan"), float("inf")])
good_values = st.one_of(
    st.integers(0, 2**64 - 1).map(lambda n: (n.to_bytes(8, "little"), 2)),
    st.binary(max_size=50).map(lambda data: (data, 3)),
    st.one_of(numbers, st.text(max_size=5), st.none(), st.booleans()).map(value.encode),
)
odd_values = st.tuples(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"", b"\xff\x0f", b"\xff\x0fZ\xff\xff\xff\xff\x7f", b"x" * 65_536, b"x" * 65_537]),
    ),
    enums,
)
bounds = st.one_of(st.just(b""), st.just(b""), numbers.map(value.to_v8), st.binary(max_size=12))


def _range(start: bytes, end: bytes, limit: int, reverse: bool) -> Any:
    return pb.ReadRange(start=start, end=end, limit=limit, reverse=reverse)


def _mutation(
    key: bytes, stored: tuple[bytes, int], kind: int, expiry: int, low: bytes, high: bytes, clamp: bool
) -> Any:
    encoded: Any = stored[1]
    return pb.Mutation(
        key=key,
        value=pb.KvValue(data=stored[0], encoding=encoded),
        mutation_type=kind,  # type: ignore[arg-type]
        expire_at_ms=expiry,
        sum_min=low,
        sum_max=high,
        sum_clamp=clamp,
    )


def _enqueue(payload: bytes, deadline: int, undelivered: list[bytes], backoff: list[int]) -> Any:
    return pb.Enqueue(payload=payload, deadline_ms=deadline, keys_if_undelivered=undelivered, backoff_schedule=backoff)


limits = st.one_of(st.integers(1, 300), int32s)
reads = st.lists(st.builds(_range, key_bytes, key_bytes, limits, st.booleans()), max_size=12).map(
    lambda found: pb.SnapshotRead(ranges=found)
)
versionstamps = st.one_of(st.just(b""), st.binary(min_size=10, max_size=10), st.binary(max_size=20))
checks = st.builds(lambda key, stamp: pb.Check(key=key, versionstamp=stamp), key_bytes, versionstamps)
kinds = st.one_of(st.sampled_from([1, 2, 3, 3, 3, 4, 5, 9]), enums)
mutations = st.builds(
    _mutation,
    st.one_of(good_keys, good_keys, key_bytes),
    st.one_of(good_values, good_values, odd_values),
    kinds,
    int64s,
    bounds,
    bounds,
    st.booleans(),
)
enqueues = st.builds(
    _enqueue,
    st.binary(max_size=30),
    int64s,
    st.lists(key_bytes, max_size=3),
    st.lists(st.integers(0, 2**32 - 1), max_size=7),
)
writes = st.builds(
    lambda a, b, c: pb.AtomicWrite(checks=a, mutations=b, enqueues=c),
    st.lists(checks, max_size=2),
    st.lists(mutations, max_size=4),
    st.one_of(st.just([]), st.lists(enqueues, max_size=2)),
)
watched = st.lists(key_bytes, max_size=12).map(lambda found: pb.Watch(keys=[pb.WatchKey(key=key) for key in found]))
ids = st.one_of(st.text(max_size=8), st.just("x" * 200))
MESSAGES: dict[str, Drawn] = {
    "snapshot_read": reads,
    "atomic_write": writes,
    "watch": watched,
    "queue/claim": st.one_of(st.integers(0, 101), st.integers(0, 2**32 - 1)).map(
        lambda most: queue_pb2.Claim(most=most)
    ),
    "queue/renew": st.lists(ids, max_size=120).map(lambda found: queue_pb2.Renew(ids=found)),
    "queue/finish": st.builds(lambda one, well: queue_pb2.Finish(id=one, success=well), ids, st.booleans()),
    "queue/revive": st.just(queue_pb2.Revive()),
}


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, kind: int, integer: int, data: bytes) -> bytes:
    body = {0: varint(integer), 1: data.ljust(8, b"\0")[:8], 2: varint(len(data)) + data, 5: data.ljust(4, b"\0")[:4]}
    return varint(number << 3 | kind) + body.get(kind, data)


fields = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.lists(
        st.builds(
            _field, st.integers(1, 9), st.sampled_from([0, 2, 2, 2, 1, 5, 3, 4, 7]), st.integers(0, 2**64 - 1), inner
        ),
        max_size=4,
    ).map(b"".join),
    max_leaves=8,
)


def bodies(operation: str) -> Drawn:
    """Random bytes, random protobuf, odd messages, and messages that were cut or altered."""
    whole = MESSAGES[operation].map(lambda message: message.SerializeToString())
    cut = st.tuples(whole, st.integers(0, 200)).map(lambda drawn: drawn[0][: drawn[1]])
    altered = st.tuples(whole, st.integers(0, 200), st.integers(0, 255)).map(
        lambda drawn: drawn[0][: drawn[1]] + bytes([drawn[2]]) + drawn[0][drawn[1] + 1 :]
    )
    return st.one_of(whole, whole, whole, fields, fields, st.binary(max_size=100), cut, altered)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=10,
)
documents = st.one_of(
    st.lists(st.one_of(st.integers(-1, 5), json_values), max_size=4).map(
        lambda each: json.dumps({"supportedVersions": each}).encode()
    ),
    json_values.map(lambda each: json.dumps({"supportedVersions": each}).encode()),
    json_values.map(lambda each: json.dumps(each).encode()),
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"[" * 30_000,
            b'{"supportedVersions":[' + b"9" * 5000 + b"]}",
            b'{"supportedVersions":[1e400]}',
            b"x" * 70_000,
        ]
    ),
)


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[tuple[Server, Access]]:
    """One server for all, since each has to survive whatever came before, with what opens a database of it."""
    repository = shop(shared_home.parent / "shop", "login")
    with serving(shared_home) as server:
        yield server, access(repository, "login")


@pytest.fixture
def server(world: tuple[Server, Access]) -> Server:
    return world[0]


@pytest.fixture
def login(world: tuple[Server, Access]) -> Access:
    return world[1]


@pytest.fixture
def path(login: Access) -> wire.Path:
    with wire.Wire() as client:
        return client.opened(login.url, login.token)


def survives(server: Server, strategy: Drawn, ask: Any) -> dict[int, int]:
    """Answers by status, after as many cases. The first tenth is for the caches to fill."""
    statuses: dict[int, int] = {}

    def rounds(count: int) -> None:
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(strategy)
        def each(drawn: Any) -> None:
            answer = ask(drawn)
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status < 500, (drawn, answer)
            if answer.status >= 400:
                assert answer.headers["content-type"].startswith("text/plain"), answer
                assert "failed on this request" not in answer.text, drawn
                assert answer.text

        each()

    rounds(max(100, CASES // 10))
    before, opened = server.resident(), server.descriptors()
    rounds(CASES)
    grown = server.resident() - before
    print(
        f"{dict(sorted(statuses.items()))}; memory {grown / 1e6:+.1f} MB, descriptors {server.descriptors() - opened:+d}"
    )
    assert grown < GROWTH
    assert server.descriptors() < opened + 20
    assert "Traceback" not in server.log.read_text()
    assert server.process is not None
    assert server.process.poll() is None
    return statuses


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", [name for name in MESSAGES if name != "watch"])
def test_no_message_makes_the_server_fail(server: Server, path: wire.Path, operation: str) -> None:
    with wire.Wire() as client:
        statuses = survives(
            server, bodies(operation), lambda body: client.send(path.url(operation), body, path.headers())
        )
        assert {200, 400} <= statuses.keys()
        assert client.send(path.url("snapshot_read"), wire.get(b"\x02a\0"), path.headers()).status == 200


@pytest.mark.timeout(3600)
def test_no_watch_makes_the_server_fail(server: Server, path: wire.Path) -> None:
    with wire.Wire() as client:
        statuses = survives(
            server, bodies("watch"), lambda body: client.first_frame(path.url("watch"), body, path.headers())
        )
    assert {200, 400} <= statuses.keys()


@pytest.mark.timeout(3600)
def test_no_metadata_request_makes_the_server_fail(server: Server, login: Access) -> None:
    with wire.Wire() as client:
        statuses = survives(server, documents, lambda body: client.metadata(login.url, login.token, body))
    assert {200, 400, 413} <= statuses.keys()


names = st.sampled_from(
    ["authorization", "x-denokv-database-id", "x-denokv-version", "x-transaction-domain-id", "content-length"]
)
latin = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)
header_values = st.one_of(
    latin,
    latin.map(lambda text: f"Bearer {text}"),
    st.integers(0, 5).map(str),
    st.sampled_from(
        [
            "",
            "Bearer",
            "bearer x",
            "Basic eDp5",
            "2",
            "3",
            "-1",
            "99999999999999999999",
            "a" * 8000,
            "pts_a_rw_token-a_1_x",
        ]
    ),
)
places = st.one_of(
    st.sampled_from(
        ["/", "/v2/databases/", "/v2/databases//connect", "/v2/databases/../connect", "/metrics/", "//", "/%00", "/%ff"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60).map(lambda text: "/v2/databases/" + text),
    st.just(""),
)
requests = st.tuples(
    st.sampled_from(["POST", "POST", "GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "X"]),
    places,
    st.sampled_from([*wire.OPERATIONS, "connect", "enqueue", ""]),
    st.dictionaries(names, header_values, max_size=2),
)


@pytest.mark.timeout(3600)
def test_no_path_and_no_header_makes_the_server_fail(server: Server, path: wire.Path) -> None:
    """Nor does anything of it open a database that it was not made for."""

    def ask(drawn: tuple[str, str, str, dict[str, str]]) -> int:
        method, place, operation, headers = drawn
        url = place or f"{path.base.removeprefix(server.base)}/{operation}"
        named = {
            "authorization": f"Bearer {path.token}",
            "x-denokv-database-id": path.database,
            "content-length": "0",
            **headers,
        }
        lines = "".join(f"{name}: {text}\r\n" for name, text in named.items())
        got = wire.raw(
            server.base, f"{method} {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode("latin-1")
        )
        return int(got.split(b" ")[1]) if got else 0

    statuses: dict[int, int] = {}

    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(requests)
    def each(drawn: tuple[str, str, str, dict[str, str]]) -> None:
        status = ask(drawn)
        statuses[status] = statuses.get(status, 0) + 1
        assert status < 500, drawn
        authorization = drawn[3].get("authorization", "right")
        if status == 200:
            assert authorization == "right" or drawn[0] in ("GET", "HEAD"), drawn

    each()
    print(dict(sorted(statuses.items())))
    with wire.Wire() as client:
        assert client.send(path.url("snapshot_read"), wire.get(b"\x02a\0"), path.headers()).status == 200


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x10\x01\x05\0\0\0\x01" + b"\x82" * 16,
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"POST /v2/databases/x/connect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v2/databases/x/connect HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
    b"\r\n\r\n\r\n",
    b"\0" * 1000,
]
LEAVES = (
    "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nx-denokv-database-id: {database}\r\n"
    "Content-Length: 1000\r\n\r\npiece"
)


def test_no_bytes_on_a_connection_make_the_server_fail(server: Server, path: wire.Path) -> None:
    opened = server.descriptors()
    for data in GARBAGE:
        got = wire.raw(server.base, data)
        assert not got.startswith(b"HTTP/1.1 5"), (data, got)
    for operation in (*wire.OPERATIONS, "connect"):
        place = path.url(operation).removeprefix(server.base)
        wire.raw(server.base, LEAVES.format(path=place, token=path.token, database=path.database).encode())
    with wire.Wire() as client:
        assert client.send(path.url("snapshot_read"), wire.get(b"\x02a\0"), path.headers()).status == 200
    assert server.descriptors() < opened + 20
    assert "Traceback" not in server.log.read_text()
