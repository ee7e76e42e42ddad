"""A server whose registry or own code fails: nobody is let in whom nobody could refuse, and writes are not called undone."""

from __future__ import annotations

import gc
import logging
import os
import socket
from urllib.parse import urlsplit

import connect_wire as wire
import pytest
from kv_server import Made, Served
from support import until

from provisioner.connect.server import auth, request_body
from provisioner.connect.server.databases.open_databases import OpenDatabases
from provisioner.connect.server.quickack import QuickAck
from provisioner.core.errors import StorageFailed
from provisioner.kv import Kv, open_kv
from provisioner.kv.codec import key
from provisioner.kv.errors import StoreFailed, Uncertain
from provisioner.registry.tables.connection import Tables

A = key.encode(("a",))


def opened(made: Made) -> Kv:
    return open_kv(made.url, access_token=made.token)


def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tables, *_: object) -> object:
        raise StorageFailed("the registry cannot be read: disk I/O error")

    monkeypatch.setattr(Tables, "rows", refuse)


def test_a_registry_that_cannot_be_read_lets_nobody_in_anew_and_for_a_while_those_it_knows(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = server.database(), server.database()
    with wire.Wire() as client:
        path, unseen = client.opened(made.url, made.token), client.opened(other.url, other.token)
        assert client.send(path.url("snapshot_read"), wire.get(A), path.headers()).status == 200
        with client.watching(path, A) as stream:
            next(stream)
            monkeypatch.setattr(auth, "TRUSTED_SECONDS", 3)
            unreadable(monkeypatch)
            assert client.send(path.url("snapshot_read"), wire.get(A), path.headers()).status == 200
            assert client.metadata(made.url, made.token).status == 503
            assert client.send(unseen.url("snapshot_read"), wire.get(A), unseen.headers()).status == 503
            until(lambda: client.send(path.url("snapshot_read"), wire.get(A), path.headers()).status == 503)
            assert list(stream) == []  # it ended
        monkeypatch.undo()
        until(lambda: client.send(path.url("snapshot_read"), wire.get(A), path.headers()).status == 200)


def test_what_happened_while_the_registry_could_not_be_read_is_done_when_it_can(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = server.database()
    looks: list[bool] = []
    look_again = OpenDatabases.look_again

    def once_in_vain(self: OpenDatabases) -> None:
        looks.append(True)
        if len(looks) == 1:
            raise StorageFailed("the registry cannot be read")
        look_again(self)

    with wire.Wire() as client:
        path = client.opened(made.url, made.token)
        assert client.send(path.url("snapshot_read"), wire.get(A), path.headers()).status == 200
        monkeypatch.setattr(OpenDatabases, "look_again", once_in_vain)
        server.archive(made)
        until(lambda: client.send(path.url("snapshot_read"), wire.get(A), path.headers()).status == 410)
    assert len(looks) > 1


def test_a_write_on_which_the_server_stumbles_is_uncertain_and_a_read_failed(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = server.database()
    with opened(made) as kv, caplog.at_level(logging.CRITICAL, "provisioner.connect"):
        kv.set(("a",), 1)
        from provisioner.connect.server import data_path, decode

        def stumble(*_: object) -> bytes:
            raise RuntimeError("not foreseen")

        monkeypatch.setattr(decode, "write_answer", stumble)
        with pytest.raises(Uncertain, match="may have been written or not"):
            kv.set(("a",), 2)
        monkeypatch.setattr(data_path, "read_answer", stumble)
        with pytest.raises(StoreFailed, match="422"):
            kv.get(("a",))
        monkeypatch.undo()
        assert kv.get(("a",)).value == 2, "and here it was"


def test_a_body_that_does_not_come_is_given_up(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "SECONDS", 1)
    made = server.database()
    with wire.Wire() as client:
        path = client.opened(made.url, made.token)
    fields = "".join(f"{name}: {value}\r\n" for name, value in path.headers().items())
    parts = urlsplit(path.url("atomic_write"))
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{fields}Content-Length: 100\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port), 60) as connection:
        connection.sendall(head.encode() + b"some")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_forgotten_connections_are_nobody_elses_to_close() -> None:
    quick_ack = QuickAck()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            host, port = client.getsockname()
            quick_ack.before(f"{host}:{port}", 1000)
            assert [found and found.fileno() for found in quick_ack.stalling.values()] == [accepted.fileno()]
            descriptor = accepted.fileno()
            quick_ack.close()
            del quick_ack
            gc.collect()
            os.fstat(descriptor)
            accepted.sendall(b"still open")
            assert client.recv(100) == b"still open"
