"""The queue's extension on the wire: what it refuses, who may, and when its stream says something."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing

import connect_wire as wire
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kv_server import Made, Served

from provisioner.connect.protocol import queue_pb2
from provisioner.kv import open_kv
from provisioner.kv.model import AtomicWrite, Enqueue
from provisioner.kv.stores.sqlite.store import SqliteStore

CASES = 10_000 if "KV_NIGHTLY" in os.environ else 200
PATHS = ("queue/claim", "queue/renew", "queue/finish", "queue/revive", "queue/news")


@pytest.fixture
def client() -> Iterator[wire.Wire]:
    with wire.Wire() as made:
        yield made


@pytest.fixture
def made(server: Served) -> Made:
    return server.database()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("queue/claim", queue_pb2.Claim(most=1).SerializeToString(), 200),
        ("queue/claim", queue_pb2.Claim(most=100).SerializeToString(), 200),
        ("queue/claim", b"", 400),
        ("queue/claim", queue_pb2.Claim(most=101).SerializeToString(), 400),
        ("queue/claim", b"\xff", 400),
        ("queue/claim", b"x" * 20_000, 413),
        ("queue/renew", queue_pb2.Renew(ids=["nobody's"] * 100).SerializeToString(), 200),
        ("queue/renew", queue_pb2.Renew(ids=["x"] * 101).SerializeToString(), 400),
        ("queue/renew", b"\x0a\x02\xed\xa0", 400),
        ("queue/finish", queue_pb2.Finish(id="nobody's", success=True).SerializeToString(), 200),
        ("queue/finish", queue_pb2.Finish(id="nobody's").SerializeToString(), 200),
        ("queue/finish", queue_pb2.Finish(id="a\0b").SerializeToString(), 200),
        ("queue/finish", queue_pb2.Finish(id="x" * 101).SerializeToString(), 400),
        ("queue/revive", b"", 200),
        ("queue/revive", b"\x07", 400),
        ("queue/other", b"", 404),
        ("queue", b"", 404),
    ],
)
def test_what_is_no_request_is_refused(client: wire.Wire, made: Made, path: str, body: bytes, status: int) -> None:
    opened = client.opened(made.url, made.token)
    answer = client.send(opened.url(path), body, opened.headers())
    assert answer.status == status, answer
    kind = "application/x-protobuf" if status == 200 else "text/plain; charset=utf-8"
    assert answer.headers["content-type"] == kind
    assert client.send(opened.url(path), body, opened.headers(), method="GET").status in (404, 405)


@settings(max_examples=CASES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(PATHS[:-1]),
    body=st.one_of(
        st.binary(max_size=60),
        st.builds(queue_pb2.Claim, most=st.integers(0, 2**32 - 1)).map(lambda made: made.SerializeToString()),
        st.builds(queue_pb2.Finish, id=st.text(st.characters(codec="utf-8"), max_size=120), success=st.booleans()).map(
            lambda made: made.SerializeToString()
        ),
        st.builds(queue_pb2.Renew, ids=st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=120)).map(
            lambda made: made.SerializeToString()
        ),
    ),
)
def test_whatever_comes_is_answered(client: wire.Wire, made: Made, path: str, body: bytes) -> None:
    opened = client.opened(made.url, made.token)
    assert client.send(opened.url(path), body, opened.headers()).status in (200, 400, 413)


@pytest.mark.parametrize("path", PATHS)
def test_only_who_may_write_listens_and_only_to_its_own_database(server: Served, made: Made, path: str) -> None:
    client = wire.Wire(source=f"127.0.4.{PATHS.index(path) + 1}")  # the server counts what fails by address
    other = server.database()
    mine, theirs = client.opened(made.url, made.token), client.opened(other.url, other.token)
    reading = client.opened(made.url, server.reading(made))
    assert client.send(reading.url(path), b"", reading.headers()).status == 403
    for headers, status in (
        (theirs.headers(), 401),
        (mine.headers(authorization=f"Bearer {made.token}"), 401),
        (mine.headers(authorization=""), 401),
        (mine.headers(x_denokv_database_id=theirs.database), 400),
    ):
        answer = client.send(mine.url(path), b"", headers)
        assert answer.status == status, answer
    client.__exit__(None, None, None)


def test_the_stream_speaks_when_it_begins_and_when_a_message_came_from_anywhere(client: wire.Wire, made: Made) -> None:
    opened = client.opened(made.url, made.token)
    with client._stream(opened.url("queue/news"), b"", opened.headers()) as stream:
        assert stream.headers["content-type"] == "application/octet-stream"
        frames = wire.frames(stream)
        assert queue_pb2.News.FromString(next(frames)).maybe
        sent: list[Callable[[], None]] = [lambda: enqueue_here(made), lambda: enqueue_on_the_file(made)]
        for send in sent:
            send()
            assert queue_pb2.News.FromString(next(frames)).maybe
        assert next(frames) == b"", "and nothing else but that it lives"


def enqueue_here(made: Made) -> None:
    with open_kv(made.url, access_token=made.token) as kv:
        kv.enqueue("x")


def enqueue_on_the_file(made: Made) -> None:
    with closing(SqliteStore(made.path)) as store:
        store.write([AtomicWrite(enqueues=(Enqueue(b"x", 0),))])
