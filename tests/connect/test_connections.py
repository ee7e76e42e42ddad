"""Connections that ask for nothing, and too many of one address, keep nobody else out."""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import connect_wire as wire
import pytest
from certificates import certificate
from connect_world import Access, Server, access, serving
from hostile_frames import PREFACE, headers_frame, opened, settings
from support import provisioner, shop, until

from provisioner.connect.server.connections import ClientConnection, ConnectionLimits, RequestActivity, leaving

NIGHTLY = "KV_NIGHTLY" in os.environ
MOST, FLOOD = (4096, 5000) if NIGHTLY else (256, 400)
ATTACKER, CLIENT = "127.0.0.1", "127.0.0.2"

SILENT: dict[str, bytes] = {
    "nothing": b"",
    "half a request": b"GET / HTTP/1.1\r\nHost: x\r\nA: ",
    "the beginning of HTTP/2": b"PRI",
    "HTTP/2 without a stream": PREFACE + settings(),
    "HTTP/2 with half a request": PREFACE + settings() + headers_frame(1, "GET", "/healthz", whole=False),
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@pytest.fixture
def server(home: Path, repository: Path) -> Iterator[Server]:
    with serving(home, "--max-connections", str(MOST)) as server:
        yield server


@pytest.fixture
def login(server: Server, repository: Path) -> Access:
    return access(repository, "login")


def connected(server: Server, source: str = ATTACKER) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 60, source_address=(source, 0))


@contextmanager
def flood(server: Server, data: bytes) -> Iterator[list[socket.socket]]:
    """More connections than the server takes, each of which has sent this."""
    with ExitStack() as stack:
        found = []
        for _ in range(FLOOD):
            client = stack.enter_context(socket.socket())
            client.bind((ATTACKER, 0))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", server.port))
            found.append(client)
        for client in found:
            select.select([], [client], [], 5)
            with suppress(OSError):
                client.send(data)
        yield found


def ended(client: socket.socket) -> bool:
    """Has the server closed it? What it has said before is skipped."""
    client.setblocking(False)
    try:
        while client.recv(65_536):
            continue
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        client.settimeout(60)
    return True


def answered(server: Server, source: str = CLIENT) -> bool:
    with connected(server, source) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("data", SILENT.values(), ids=SILENT)
def test_more_connections_of_one_address_than_there_may_be_keep_no_other_out(server: Server, data: bytes) -> None:
    with flood(server, data):
        for _ in range(5):
            assert answered(server)
    assert answered(server, ATTACKER)


def test_handshakes_of_tls_that_do_not_end_keep_nobody_out(home: Path, repository: Path, tmp_path: Path) -> None:
    cert, private = certificate(tmp_path)
    with serving(home, "--max-connections", str(MOST), "--tls-cert", str(cert), "--tls-key", str(private)) as server:
        context = ssl.create_default_context(cafile=str(cert))
        hello = ssl.MemoryBIO()
        with suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
        with (
            flood(server, hello.read()),
            connected(server, CLIENT) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_a_connection_that_does_not_ask_for_anything_is_ended_and_one_that_has_is_not(
    server: Server, login: Access
) -> None:
    with ExitStack() as stack, wire.Wire() as wired:
        path = wired.opened(login.url, login.token)
        good = stack.enter_context(opened(server.port))
        good.sendall(headers_frame(1, "GET", "/healthz"))
        assert good.recv(1)
        watching = stack.enter_context(wired.watching(path, b"\x02a\0"))
        assert next(watching)
        silent = {}
        for name, data in SILENT.items():
            silent[name] = stack.enter_context(connected(server))
            silent[name].sendall(data)
        until(lambda: all(map(ended, silent.values())))
        assert not ended(good)
        good.sendall(headers_frame(3, "GET", "/healthz"))
        assert good.recv(1)
        body = wire.put(b"\x02a\0", b"1")
        assert wired.send(path.url("atomic_write"), body, path.headers()).status == 200
        assert next(watching)
        said = wired.send(f"{server.base}/metrics", method="GET").text
    assert f"provisioner_ended_connections_total {len(SILENT)}\n" in said


def test_a_flood_ends_no_stream_of_a_valid_token_even_of_its_own_address(server: Server, login: Access) -> None:
    with wire.Wire() as wired:
        path = wired.opened(login.url, login.token)
        with wired.watching(path, b"\x02a\0") as watching:
            assert next(watching)
            with flood(server, b""):
                for _ in range(5):
                    assert answered(server)
                body = wire.put(b"\x02a\0", b"1")
                with wire.Wire(source=CLIENT) as other:
                    assert other.send(path.url("atomic_write"), body, path.headers()).status == 200
                assert next(watching)


def test_an_address_may_have_so_many_connections(home: Path, repository: Path) -> None:
    with serving(home, "--max-connections-per-address", "16") as server, ExitStack() as stack:
        resting = [stack.enter_context(opened(server.port)) for _ in range(40)]
        for client in resting:
            client.sendall(headers_frame(1, "GET", "/healthz"))
        until(lambda: sum(map(ended, resting)) >= 24)
        others = [stack.enter_context(opened(server.port, CLIENT)) for _ in range(16)]
        for client in others:
            client.sendall(headers_frame(1, "GET", "/healthz"))
            assert client.recv(1)
        assert sum(map(ended, resting)) == 24
        assert not any(map(ended, others))


def test_resting_connections_make_room_where_all_are_taken(home: Path, repository: Path) -> None:
    """Of the address that has most of them."""
    with (
        serving(home, "--max-connections", "64", "--max-connections-per-address", "64") as server,
        ExitStack() as stack,
    ):
        few = [stack.enter_context(opened(server.port, CLIENT)) for _ in range(4)]
        many = [stack.enter_context(opened(server.port)) for _ in range(70)]
        for client in (*few, *many):
            client.sendall(headers_frame(1, "GET", "/healthz"))
        until(lambda: any(map(ended, many)))
        assert answered(server)
        assert not any(map(ended, few))


def test_whoever_may_not_listen_there_takes_no_connections_from_the_server(server: Server, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", server.port))
    refused = provisioner(tmp_path, "serve", "--port", str(server.port), "--beside")
    assert (refused.returncode, "cannot listen on" in refused.stderr) == (1, True)


# what is decided


def made(count: int, address: str, since: float = 0.0) -> list[ClientConnection]:
    return [ClientConnection(f"{address}:{number}", address, since) for number in range(count)]


NOBODY = RequestActivity({}, ())
LIMITS = ConnectionLimits(64, 48)


def test_who_has_just_come_or_is_within_the_limits_stays() -> None:
    assert leaving(made(40, "a", 9.5), NOBODY, LIMITS, 10) == []
    assert leaving(made(8, "a", 5), NOBODY, LIMITS, 10) == []
    asked = {each.peer: 9.0 for each in made(40, "a")}
    assert leaving(made(40, "a"), RequestActivity(asked, ()), LIMITS, 1000) == []


def test_strangers_leave_after_a_while_and_the_first_of_too_many_at_once() -> None:
    assert leaving(made(3, "a"), NOBODY, LIMITS, 11) == made(3, "a")
    many = [*made(8, "a", 7), *made(4, "b", 6), ClientConnection("a:99", "a", 5)]
    assert leaving(many, NOBODY, LIMITS, 10) == [ClientConnection("a:99", "a", 5)]


def test_of_an_address_beyond_its_limit_those_leave_that_have_rested_longest() -> None:
    connections = made(50, "a")
    asked = RequestActivity({each.peer: float(number) for number, each in enumerate(connections)}, {"a:0"})
    assert leaving(connections, asked, LIMITS, 100) == connections[1:3]


def test_where_all_are_taken_the_largest_groups_become_equal() -> None:
    connections = [*made(30, "a"), *made(28, "b"), *made(6, "c")]
    asked = {each.peer: float(number) for number, each in enumerate(connections)}
    gone = leaving(connections, RequestActivity(asked, ()), LIMITS, 1000)
    assert [sum(each.address == name for each in gone) for name in "abc"] == [3, 1, 0]
    under_way = {each.peer for each in connections}
    assert leaving(connections, RequestActivity(asked, under_way), LIMITS, 1000) == []
