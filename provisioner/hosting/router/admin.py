"""Caddy's own interface for administration, on a socket in the home that only its user can reach."""

from __future__ import annotations

import http.client
import os
import socket

from provisioner.core.errors import StorageFailed
from provisioner.hosting.router.names import ADMIN_SOCKET

_SECONDS = 10.0
_LONGEST_REASON = 400


class _Connection(http.client.HTTPConnection):
    """HTTP on the socket, by way of its directory's descriptor: a path may be too long for a socket."""

    def __init__(self, directory: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._directory = directory

    def connect(self) -> None:
        fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{fd}/{ADMIN_SOCKET}")
        finally:
            os.close(fd)


def answers(directory: str) -> bool:
    """Has Caddy taken its configuration?"""
    try:
        return _request(directory, "GET", "/config/admin/listen", b"", 1.0)[0] == http.client.OK
    except OSError:
        return False


def load(directory: str, configuration: bytes) -> None:
    """Give it a configuration, and have it read the certificates that it names, without closing its listeners.

    Raises StorageFailed; then it continues with the configuration that it has.
    """
    try:
        status, answer = _request(directory, "POST", "/load", configuration, _SECONDS)
    except OSError as error:
        raise StorageFailed(f"the router cannot be given its configuration: {error}") from error
    if status != http.client.OK:
        reason = answer.decode(errors="replace").strip()[:_LONGEST_REASON]
        raise StorageFailed(f"the router refused its configuration: {reason}")


def _request(directory: str, method: str, path: str, body: bytes, seconds: float) -> tuple[int, bytes]:
    connection = _Connection(directory, seconds)
    try:
        connection.request(
            method, path, body or None, {"Content-Type": "application/json", "Cache-Control": "must-revalidate"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"it answers something else: {error!r}") from error
    finally:
        connection.close()
