"""Answers as servers and proxies may send them, in pieces that are cut anywhere."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.connect.client.http1 import ONE_PACKET, Answer, Unanswered, Unsent, asked

HEAD = b"POST /x HTTP/1.1\r\nHost: example.org\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type:a/b\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


class Pieces:
    """A server that reads everything and sends these pieces, then closes; `taken`: after so many bytes it reads no more."""

    def __init__(self, pieces: Sequence[bytes], taken: int | None = None) -> None:
        self.sent = bytearray()
        self._pieces = [piece for piece in pieces if piece]
        self._taken = taken

    def sendall(self, data: bytes, /) -> None:
        self.sent += data
        if self._taken is not None and len(self.sent) > self._taken:
            raise BrokenPipeError("closed")

    def recv(self, size: int, /) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]

    def recv_into(self, buffer: memoryview, size: int, /) -> int:
        piece = self.recv(size)
        buffer[: len(piece)] = piece
        return len(piece)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[one:other] for one, other in itertools.pairwise(places)]


@given(st.sampled_from([PLAIN, CHUNKED]), st.booleans(), st.lists(st.integers(0, 300), max_size=12))
def test_an_answer_may_come_in_any_pieces(answer: bytes, interim: bool, at: list[int]) -> None:
    server = Pieces(cut(INTERIM * interim + answer, at))
    assert asked(server, HEAD, b"body") == Answer(200, "a/b", b"hello", False)
    assert server.sent == HEAD + b"Content-Length: 4\r\n\r\nbody"


@given(st.sampled_from([PLAIN, CHUNKED]), st.integers(1, 200))
def test_an_answer_that_ends_early_is_none(answer: bytes, missing: int) -> None:
    with pytest.raises(Unanswered):
        asked(Pieces([answer[:-missing]]), HEAD, b"")


@given(st.binary(max_size=200))
def test_nonsense_is_no_answer(data: bytes) -> None:
    with pytest.raises(Unanswered):
        asked(Pieces([data]), HEAD, b"")


@pytest.mark.parametrize(
    "answer",
    [
        PLAIN + b"and more",
        PLAIN.replace(b"5", b"-5"),
        PLAIN.replace(b"5", b"5, 5"),
        PLAIN.replace(b"Content-Length: 5", b"Transfer-Encoding: gzip"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/2"),
        PLAIN.replace(b"200", b"2000"),
        CHUNKED.replace(b"3\r\n", b"-3\r\n"),
        CHUNKED.replace(b"3\r\n", b"x\r\n"),
        PLAIN.replace(b"Content-Length: 5\r\n", b""),
        b"HTTP/1.1 200 OK\r\n" + b"Field: value\r\n" * 10_000,
        b"",
    ],
)
def test_what_does_not_fit_is_no_answer(answer: bytes) -> None:
    with pytest.raises(Unanswered):
        asked(Pieces([answer]), HEAD, b"")


@pytest.mark.parametrize(
    ("answer", "closing"),
    [
        (PLAIN, False),
        (PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"), True),
        (PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), True),
    ],
)
def test_a_connection_that_ends_is_not_used_again(answer: bytes, closing: bool) -> None:
    assert asked(Pieces([answer]), HEAD, b"") == Answer(200, "a/b", b"hello", closing)


def test_of_a_refusal_the_end_of_the_connection_is_the_end() -> None:
    refusal = PLAIN.replace(b"200 OK", b"410 Gone").replace(b"Content-Length: 5\r\n", b"")
    assert asked(Pieces([refusal]), HEAD, b"") == Answer(410, "a/b", b"hello", True)


def test_a_request_that_could_not_be_sent_whole_was_not_carried_out() -> None:
    body = b"x" * (ONE_PACKET + 1)
    with pytest.raises(Unsent, match="closed"):
        asked(Pieces([], taken=100), HEAD, body)
    refusal = PLAIN.replace(b"200 OK", b"413 Too Large")
    assert asked(Pieces([refusal], taken=100), HEAD, body) == Answer(413, "a/b", b"hello", True)


def test_long_bodies_go_and_come_whole() -> None:
    here, there = socket.socketpair()
    body = bytes(range(256)) * 4000

    def serve() -> None:
        got = bytearray()
        while not got.endswith(body):
            got += there.recv(100_000)
        there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    thread = threading.Thread(target=serve)
    thread.start()
    with here, there:
        assert asked(here, HEAD, body).body == body
        thread.join()
