"""Whatever reads what somebody else wrote takes time and memory in proportion to its size. Values of databases have a file of
their own, tests/kv/test_hostile_values.py.

Times are processor times of this thread: for four times the size not more than ten times as long.
"""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import repository

from provisioner.connect.client import http1
from provisioner.connect.client.metadata import ProtocolViolation
from provisioner.connect.client.metadata import parse as metadata
from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.connect.protocol.http_errors import Refused
from provisioner.connect.server import decode
from provisioner.connect.server import metadata as exchange
from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import DatabaseId
from provisioner.dashboard.web.sessions import cookie
from provisioner.environment import dotenv, env_block
from provisioner.git import reflog
from provisioner.kv.codec import json_notation, key
from provisioner.kv.dump import json_lines
from provisioner.kv.errors import KvError
from provisioner.kv.rules import queue

GROWTH = 10  # 4 if the time grows with the size, 16 with its square
NOTICEABLE = 0.005  # seconds; of less, growth is noise


class Answering:
    """A server that sends this, and then closes the connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self._at = answer, 0

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes:
        piece = self._answer[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def recv_into(self, buffer: memoryview, size: int, /) -> int:
        piece = self.recv(min(size, len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


def answered(body: bytes) -> None:
    http1.asked(Answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body), b"", b"")


def listed(size: int, each: bytes) -> bytes:
    return each * (size // len(each))


READERS: dict[str, tuple[Callable[[bytes], object], Callable[[int], bytes], int]] = {
    "a cookie in quotes": (
        lambda data: cookie(data.decode(), "provisioner_1"),
        lambda size: b'provisioner_1="' + b"\\" * size + b'"',
        65_536,
    ),
    "many cookies": (lambda data: cookie(data.decode(), "a"), lambda size: listed(size, b"b=1;"), 65_536),
    "a file of variables": (
        lambda data: dotenv.parse("f", data.decode()),
        lambda size: b"".join(b"A%d=\n" % number for number in range(size // 6)),
        1_000_000,
    ),
    "a file of beginnings of our block": (
        lambda data: dotenv.parse("f", data.decode()),
        lambda size: listed(size, env_block.BEGIN.encode()),
        1_000_000,
    ),
    "a file of names without a value": (
        lambda data: dotenv.parse("f", data.decode()),
        lambda size: b" " * (size // 2) + b"A" * (size // 2),
        1_000_000,
    ),
    "a reflog of one second": (
        lambda data: reflog.parse(data),
        lambda size: listed(size, b"0 1 n <e> 5 +0000\tBranch: renamed refs/heads/a to refs/heads/b\n"),
        1_000_000,
    ),
    "a reflog that goes on from another one": (
        lambda data: reflog.goes_on(reflog.parse(data), reflog.parse(data), b"b", b"c"),
        lambda size: listed(size, b"0 1 n <e> 5 +0000\tBranch: renamed refs/heads/b to refs/heads/b\n"),
        1_000_000,
    ),
    "a reflog whose time has many digits": (
        lambda data: reflog.parse(data),
        lambda size: b"0 1 n <e> " + b"9" * size + b" +0000\tx\n",
        1_000_000,
    ),
    "a key of zeros": (key.decode, lambda size: b"\x02" + b"\0\xff" * (size // 2), 1_000_000),
    "a key of strings that do not end": (key.decode, lambda size: listed(size, b"\x02a"), 1_000_000),
    "a key of truths": (key.decode, lambda size: b"\x27" * size, 1_000_000),
    "a key in JSON": (lambda data: json_notation.key_of(data.decode()), lambda size: b"[" * size, 1_000_000),
    "a key of lists": (
        lambda data: json_notation.key_of(data.decode()),
        lambda size: b"[" * min(size // 2, 900) + b"]" * min(size // 2, 900),
        1_000_000,
    ),
    "a bigint in JSON": (
        lambda data: json_notation.value_of(data.decode()),
        lambda size: b'{"$bigint": "' + b"9" * size + b'"}',
        1_000_000,
    ),
    "a set of one hash in JSON": (
        lambda data: json_notation.value_of(data.decode()),
        lambda size: (
            b'{"$set": ['
            + b", ".join(b'{"$bigint": "%d"}' % ((2**61 - 1) * (2**60 + number)) for number in range(size // 55))
            + b"]}"
        ),
        200_000,
    ),
    "a line of a dump": (
        lambda data: [*_rows(data)],
        lambda size: b'{"key": ["a"], "value": ' + b'{"$set": [' * (size // 10) + b"}\n",
        1_000_000,
    ),
    "the schedule of a message": (lambda data: queue.schedule(data), lambda size: b"[" * size, 1_000_000),
    "the keys of a message": (
        lambda data: queue.undelivered(data),
        lambda size: b"[" + b",".join([b"[1]"] * (size // 4)) + b"]",
        1_000_000,
    ),
    "many empty mutations": (decode.write_of, lambda size: listed(size, b"\x12\0"), decode.WRITE_BYTES),
    "many unknown fields": (decode.write_of, lambda size: listed(size, b"\x38\x01"), decode.WRITE_BYTES),
    "a field without an end": (decode.write_of, lambda size: b"\x12" + b"\xff" * size, decode.WRITE_BYTES),
    "many ranges": (decode.ranges_of, lambda size: listed(size, b"\x0a\x02\x18\x01"), decode.READ_BYTES),
    "many watched keys": (decode.watched_keys, lambda size: listed(size, b"\x0a\0"), decode.WATCH_BYTES),
    "many intervals": (
        decode.write_of,
        lambda size: pb.AtomicWrite(enqueues=[pb.Enqueue(backoff_schedule=[1] * size)]).SerializeToString(),
        decode.WRITE_BYTES - 100,
    ),
    "many keys of a message": (
        decode.write_of,
        lambda size: pb.AtomicWrite(
            enqueues=[pb.Enqueue(keys_if_undelivered=[b"\x27"] * (size // 3))]
        ).SerializeToString(),
        decode.WRITE_BYTES - 100,
    ),
    "the metadata exchange": (
        lambda data: exchange.exchanged(data, DatabaseId(""), None, "", "", 0),
        lambda size: b'{"supportedVersions":' + b"[" * size,
        decode.READ_BYTES,
    ),
    "a server's metadata": (lambda data: metadata(data, "", None), lambda size: b"[" * size, 1_000_000),  # type: ignore[arg-type]
    "an answer in one piece": (answered, lambda size: b"%x\r\n" % (size * 40) + b"x" * size * 40, 1_000_000),
    "an answer in many pieces": (answered, lambda size: listed(size, b"1\r\nx\r\n"), 1_000_000),
}


def _rows(line: bytes) -> Iterator[object]:
    yield from json_lines.Dump(io.BytesIO(line)).rows()


def took(reader: Callable[[bytes], object], data: bytes) -> float:
    """Seconds; what is refused is refused in words."""
    gc.disable()  # which objects it looks through depends on what was there before
    try:
        began = time.thread_time()
        with suppress(ProvisionerError, KvError, Refused, ProtocolViolation, http1.Unanswered):
            reader(data)
        return time.thread_time() - began
    finally:
        gc.enable()


@pytest.mark.parametrize(("reader", "make", "size"), READERS.values(), ids=READERS)
def test_the_time_grows_with_the_size_only(
    reader: Callable[[bytes], object], make: Callable[[int], bytes], size: int
) -> None:
    large, small = make(size), make(size // 4)
    long = min(took(reader, large) for _ in range(2))
    short = min(took(reader, small) for _ in range(3))
    assert long < GROWTH * max(short, NOTICEABLE)


PEAK = """
from provisioner.connect.protocol.http_errors import Refused
from provisioner.connect.server import decode

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

before = peak()
body = {body}
try:
    decode.write_of(body)
except Refused as refused:
    print(refused.status)
print(peak() - before)
"""


@pytest.mark.parametrize("body", ['b"\\x12\\0" * (1 << 20)', 'b"\\x0a\\0" * (1 << 20)', 'b"\\x1a\\0" * (1 << 20)'])
def test_a_message_of_many_empty_parts_is_refused_before_it_takes_memory(body: str) -> None:
    done = subprocess.run([sys.executable, "-c", PEAK.format(body=body)], capture_output=True, text=True, check=True)
    status, kilobytes = map(int, done.stdout.split())
    assert status == 400
    assert kilobytes < 16_384  # the body itself has 2 MiB


def test_a_number_among_the_keys_of_a_message_takes_no_memory() -> None:
    assert queue.undelivered("[10000000000000, [1, 2], null, [300]]") == (b"\1\2",)


@pytest.mark.parametrize("length", [b"Content-Length: 1000000000000", b"Transfer-Encoding: chunked"])
def test_an_answer_that_says_it_is_too_long_is_none(length: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\ne8d4a51000\r\n"
    with pytest.raises(http1.Unanswered, match="bytes"):
        http1.asked(Answering(answer), b"", b"")


def test_a_reflog_of_any_length_is_read_in_one_piece(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop")
    log = repo / ".git" / "logs" / "refs" / "heads" / "main"
    line = log.read_bytes().splitlines(keepends=True)[0]
    log.write_bytes(line * (300_000 // len(line)))
    assert reflog.read_file(os.fsencode(log)) == log.read_bytes()


def test_a_file_that_is_too_long_holds_no_block(tmp_path: Path) -> None:
    path = tmp_path / ".env.local"
    with path.open("wb") as file:
        file.truncate(env_block.MOST + 1)
    with pytest.raises(ProvisionerError, match="more than"):
        env_block.write(str(path), "A=1\n")
    with pytest.raises(ProvisionerError, match="more than"):
        dotenv.parse("f", "A" * (env_block.MOST + 1))
