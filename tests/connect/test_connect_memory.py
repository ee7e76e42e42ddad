"""Clients that may do nothing here take no memory: neither by the headers of what they ask, nor by bodies."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import connect_wire as wire
import pytest
from connect_world import Access, Server, access, serving
from hostile_frames import data_frame, headers_frame, opened
from support import shop, until

ALLOWED = 32 * 1024 * 1024  # bytes that the server may grow by
HELD = 150  # connections at a time
CROWD = 400  # so many that what is kept of each shows, next to what the memory allocator keeps
BODY = 1024 * 1024
HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {size}\r\n\r\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@pytest.fixture
def server(home: Path, repository: Path) -> Iterator[Server]:
    with serving(home) as server:
        yield server


@pytest.fixture
def login(server: Server, repository: Path) -> Access:
    return access(repository, "login")


@pytest.fixture
def path(login: Access) -> wire.Path:
    with wire.Wire() as client:
        return client.opened(login.url, login.token)


def answers(server: Server, path: wire.Path) -> bool:
    with wire.Wire() as client:
        return client.send(path.url("snapshot_read"), wire.get(b"\x02a\0"), path.headers()).status == 200


def test_blanks_around_a_token_take_no_memory(server: Server, path: wire.Path) -> None:
    before = server.resident()
    place = path.url("snapshot_read").removeprefix(server.base)
    seen = set()
    for number in range(200):
        with socket.create_connection(("127.0.0.1", server.port), 60) as client, suppress(ConnectionError):
            blanks = " " * (300_000 + number)
            more = f"Authorization: Bearer {blanks}{path.token}\r\nx-denokv-database-id: {path.database}\r\n"
            client.sendall(HEAD.format(path=place, more=more, size=0).encode())
            seen.add(client.recv(1000).split(b" ")[1])
    assert seen <= {b"431"}
    for number in range(400):  # and those that are let in are one session
        blanks = " " * (30_000 + number)
        with socket.create_connection(("127.0.0.1", server.port), 60) as client:
            more = f"Authorization: Bearer {blanks}{path.token}\r\nx-denokv-database-id: {path.database}\r\n"
            client.sendall(HEAD.format(path=place, more=more, size=0).encode())
            assert client.recv(1000).split(b" ")[1] == b"200"
    assert server.resident() - before < ALLOWED
    with wire.Wire() as client:
        said = client.send(f"{server.base}/metrics", method="GET").text
    assert "provisioner_sessions 1\n" in said
    assert answers(server, path)


@pytest.mark.parametrize(
    "place",
    [
        "/login",
        "/instances/new",
        "/nothing",
        "/v2/databases/{database}/atomic_write",
        "/v2/databases/{database}/queue/claim",
    ],
)
@pytest.mark.parametrize(
    "length", ["Content-Length: 1048576\r\n", "Content-Length: 262000\r\n", "Transfer-Encoding: chunked\r\n"]
)
def test_a_body_of_who_is_not_logged_in_is_not_kept(server: Server, path: wire.Path, place: str, length: str) -> None:
    line = f"POST {place.format(database=path.database)} HTTP/1.1"
    head = f"{line}\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n{length}\r\n"
    body = b"x" * 200_000 if "Length" in length else b"%x\r\n" % BODY + b"x" * BODY + b"\r\n"
    _sending(server, head, body, 3)  # loads what answers, once
    before = server.resident()
    assert _sending(server, head, body, CROWD) - before < ALLOWED
    assert answers(server, path)


def _sending(server: Server, head: str, body: bytes, clients: int) -> int:
    """The server's memory while so many clients have sent as much as it takes."""
    with ExitStack() as stack:
        for _ in range(clients):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            client.sendall(head.encode())
            client.setblocking(False)  # sends as much as the server takes
            with suppress(OSError):
                while body:
                    client.send(body)
        return server.resident()


def test_bodies_on_streams_of_http2_are_not_kept(server: Server, path: wire.Path) -> None:
    before = server.resident()
    with ExitStack() as stack:
        for _ in range(HELD):
            client = stack.enter_context(opened(server.port))
            with suppress(OSError):
                for stream in range(1, 64, 2):
                    client.sendall(headers_frame(stream, "POST", "/login", end=False))
                    client.sendall(data_frame(stream, b"x" * 16_384))
        assert server.resident() - before < ALLOWED
    assert answers(server, path)


def test_bodies_to_one_database_leave_room_for_others(server: Server, path: wire.Path, repository: Path) -> None:
    main = access(repository, "main")
    with wire.Wire() as client:
        other = client.opened(main.url, main.token)
    place = path.url("atomic_write").removeprefix(server.base)
    more = f"Authorization: Bearer {path.token}\r\nx-denokv-database-id: {path.database}\r\n"
    head = HEAD.format(path=place, more=more, size=2 * BODY).encode()
    body = wire.put(b"\x02a\0", b"x" * 60_000)
    with ExitStack() as stack, wire.Wire() as client:
        for _ in range(32):  # 64 MiB that do not come
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 60)).sendall(head)
        until(lambda: client.send(path.url("atomic_write"), body, path.headers()).status == 503)
        assert client.send(other.url("atomic_write"), body, other.headers()).status == 200
    until(lambda: answers(server, path))
    with wire.Wire() as client:
        until(lambda: client.send(path.url("atomic_write"), body, path.headers()).status == 200)


def test_streams_are_known_by_their_token_not_by_their_header(server: Server, path: wire.Path) -> None:
    """Held as long as the stream is."""
    before = server.resident()
    place = path.url("watch").removeprefix(server.base)
    body = wire.watch(b"\x02a\0")
    with ExitStack() as stack:
        for number in range(HELD):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            blanks = " " * (50_000 + number)
            more = f"Authorization: Bearer {blanks}{path.token}\r\nx-denokv-database-id: {path.database}\r\n"
            client.sendall(HEAD.format(path=place, more=more, size=len(body)).encode() + body)
            assert client.recv(1000).split(b" ")[1] == b"200"
        assert server.resident() - before < ALLOWED
    until(lambda: answers(server, path))
