"""Where hooks hand a push over to the daemon: a socket that only this user can reach, and who to find there.

What is said over it is in `provisioner.handover`, the other end.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provisioner.system.home import Home
from provisioner.system.pidfile import announce, withdraw

REQUEST_SECONDS = 10.0
END = b"\0"  # of an answer; handover.py has it too, and imports nothing
SOCKET_PATH_LIMIT = 100  # bytes; the system's own is 104 to 108


@dataclass(frozen=True, slots=True)
class Push:
    """A hook that waits for an answer about branches of an app, each with the commit it was pushed to (hex)."""

    app_id: str
    branches: list[tuple[str, bytes]]
    connection: socket.socket

    def say(self, line: str) -> None:
        """Tell it something before its answer. Raises OSError where it has gone away."""
        self.connection.sendall(line.encode("utf-8", "surrogateescape") + b"\n")

    def answer(self, lines: Sequence[str]) -> None:
        """Tell it what to print. One that has gone away needs no answer."""
        try:
            self.connection.sendall("\n".join(lines).encode("utf-8", "surrogateescape") + b"\n" + END)
        except OSError:
            return
        finally:
            self.connection.close()


class Counter:
    """The socket and its threads; `came` is called with each push from one of them."""

    def __init__(self, home: Home, came: Callable[[Push], None]) -> None:
        self._home, self._came = home, came
        self._path = os.path.join(home.path, "daemon.sock")
        if len(os.fsencode(self._path)) > SOCKET_PATH_LIMIT:
            self._path = os.path.join(tempfile.mkdtemp(prefix="provisioner-"), "daemon.sock")
        if os.path.exists(self._path):  # a daemon that was killed left it; the lock says that it is gone
            os.unlink(self._path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self._path)
        os.chmod(self._path, 0o600)
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True, name="hooks").start()

    def open(self) -> None:
        """Say to hooks that somebody answers here."""
        announce(self._home.daemon, self._path)

    def close(self) -> None:
        withdraw(self._home.daemon)
        self._listener.close()
        os.unlink(self._path)
        if os.path.dirname(self._path) != self._home.path:
            shutil.rmtree(os.path.dirname(self._path))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._receive, args=(connection,), daemon=True, name="hook").start()

    def _receive(self, connection: socket.socket) -> None:
        connection.settimeout(REQUEST_SECONDS)
        data = bytearray()
        try:
            while piece := connection.recv(65536):
                data += piece
        except OSError:
            connection.close()
            return
        app_id, *lines = bytes(data).removesuffix(b"\n").split(b"\n")
        self._came(Push(app_id.decode("ascii", "replace"), parse(lines), connection))


def parse(lines: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """What a hook says of the branches that were pushed: pairs of commit and name."""
    pairs = [line.partition(b" ") for line in lines]
    return [(revision.decode("ascii", "replace"), branch) for revision, _, branch in pairs]
