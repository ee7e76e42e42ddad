"""What one client may ask of the server: bodies, streams, connections, and not reading what it asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import connect_wire as wire
import pytest
from connect_world import Access, Server, access, deno, serving
from paths import SUPPORT
from support import files, shop, until

from provisioner.kv import open_kv

NIGHTLY = "KV_NIGHTLY" in os.environ
WATCHES = SUPPORT / "connect_watches.ts"
HEAD = (
    "POST {place} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nx-denokv-database-id: {database}\r\n"
    "x-denokv-version: 3\r\n{more}\r\n"
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@pytest.fixture
def server(home: Path, repository: Path) -> Iterator[Server]:
    with serving(home, "--max-connections", "64", "--max-connections-per-address", "64") as server:
        yield server


@pytest.fixture
def login(server: Server, repository: Path) -> Access:
    return access(repository, "login")


@pytest.fixture
def path(login: Access) -> wire.Path:
    with wire.Wire() as client:
        return client.opened(login.url, login.token)


def connection(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 60)


def head(server: Server, path: wire.Path, operation: str, more: str) -> bytes:
    place = path.url(operation).removeprefix(server.base)
    return HEAD.format(place=place, token=path.token, database=path.database, more=more).encode()


def streamed(found: socket.socket) -> int:
    """The bytes until the stream ends."""
    count, end = 0, b""
    while not end.endswith(b"\r\n0\r\n\r\n"):
        piece = found.recv(65_536)
        assert piece, "the connection ended within the stream"
        count += len(piece)
        end = (end + piece)[-16:]
    return count


def watches(server: Server) -> int:
    with wire.Wire() as client:
        said = client.send(f"{server.base}/metrics", method="GET").text
    (line,) = [line for line in said.splitlines() if line.startswith("provisioner_watches ")]
    return int(line.split()[1])


def answers(path: wire.Path) -> bool:
    with wire.Wire() as client:
        return client.send(path.url("snapshot_read"), wire.get(b"\x02a\0"), path.headers()).status == 200


@pytest.mark.parametrize(
    ("operation", "size"), [("snapshot_read", 70_000), ("atomic_write", 3_000_000), ("watch", 70_000)]
)
def test_a_body_that_is_too_large_is_refused_and_the_client_told_that_its_connection_ends(
    server: Server, path: wire.Path, operation: str, size: int
) -> None:
    for more in (f"Content-Length: {size}\r\n", "Transfer-Encoding: chunked\r\n"):
        with connection(server) as found:
            found.sendall(head(server, path, operation, more))
            if "chunked" in more:
                found.sendall(b"%x\r\n" % size)
            with suppress(ConnectionError):  # it may be answered before all was sent
                found.sendall(b"x" * size)
            got = found.recv(65_536)
        assert got.startswith(b"HTTP/1.1 413"), got
        assert b"connection: close" in got.lower()
        assert b"a body has at most" in got
    with wire.Wire() as client:
        for _ in range(20):
            assert client.send(path.url(operation), b"x" * size, path.headers()).status == 413
            assert client.send(path.url("snapshot_read"), wire.get(b"\x02a\0"), path.headers()).status == 200
    assert answers(path)


def test_who_does_not_read_a_watch_costs_little(server: Server, path: wire.Path, repository: Path) -> None:
    """The stream ends after some megabytes; whoever wants to go on begins again."""
    body = wire.watch(b"\x02big\0")
    before = server.resident()
    with ExitStack() as stack, open_kv(files(repository)["login"]) as kv:
        idlers = [stack.enter_context(connection(server)) for _ in range(3)]
        for found in idlers:
            found.sendall(head(server, path, "watch", f"Content-Length: {len(body)}\r\n") + body)
            assert found.recv(1)
        written = 0
        while watches(server):
            kv.set(("big",), bytes([written % 256]) * 65_000)
            written += 1
            assert written < 3000
        grown = server.resident() - before
        print(f"three clients that do not read: {grown / 1e6:+.0f} MB when their streams had ended")
        assert grown < 80_000_000
        assert answers(path)
        for found in idlers:
            assert streamed(found) < 25_000_000


def test_hundreds_of_watches_of_one_deno_do_not_starve_its_reads(server: Server, login: Access) -> None:
    count = 900 if NIGHTLY else 200
    assert deno(WATCHES, login.url, str(count), add=login.variables) == f"{count} written\n"


def test_connections_beyond_the_limit_wait_until_others_end(server: Server, path: wire.Path) -> None:
    body = wire.watch(b"\x02a\0")
    request = head(server, path, "watch", f"Content-Length: {len(body)}\r\n") + body
    with ExitStack() as stack:
        held = [stack.enter_context(connection(server)) for _ in range(64)]
        for found in held:
            found.sendall(request)
            assert found.recv(4096).startswith(b"HTTP/1.1 200")
        with connection(server) as late:
            late.sendall(request)
            late.settimeout(0.5)
            with pytest.raises(TimeoutError):
                late.recv(1)
            held.pop().close()
            late.settimeout(60)
            assert late.recv(4096).startswith(b"HTTP/1.1 200")
    until(lambda: answers(path))
