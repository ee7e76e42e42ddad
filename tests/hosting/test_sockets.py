"""The sockets of this machine: asked of the kernel, and as its list of all has them."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

import pytest

from provisioner.hosting.deployments import sockets


def test_the_listener_of_a_port_and_its_connections_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        for family, host, loopback in (
            (socket.AF_INET, "127.0.0.1", True),
            (socket.AF_INET, "0.0.0.0", False),
            (socket.AF_INET6, "::1", True),
            (socket.AF_INET6, "::ffff:127.0.0.1", True),
            (socket.AF_INET6, "::", False),
        ):
            server = stack.enter_context(socket.socket(family))
            server.bind((host, 0))
            server.listen()
            port = server.getsockname()[1]
            (found,) = sockets.listeners(port)
            assert (found.port, found.loopback) == (port, loopback)
            assert sockets.belongs_to(found, os.getpid())
            assert not sockets.belongs_to(sockets.ListeningSocket(port, "1", loopback=True), os.getpid())
            assert not sockets.connections({port})
            for _ in range(3):
                stack.enter_context(socket.create_connection((host, port)))
            several = {port, 1}
            assert sockets.connections({port}) == sockets.connections(several) == {port: 3}
            with monkeypatch.context() as without:
                without.setattr(sockets, "_SOCK_DIAG", 255)  # as on a kernel that has none
                assert sockets.listeners(port) == [found]
                assert sockets.connections({port}) == {port: 3}
