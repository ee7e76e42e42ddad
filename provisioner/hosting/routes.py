"""The router's table: a directory for each host, with one empty file whose name is the app's address.

The router looks at these files for each request, so a route changes without telling it, and is there again when it starts.
Hosts in ``open`` are for anyone who can reach the router; those in ``closed`` only for those who have signed in.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from provisioner.hosting.host_names import is_host_name
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

OPEN, CLOSED = "open", "closed"
LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"127\.0\.0\.1:([0-9]{1,5})")


class Routes:
    """The routes of a home."""

    def __init__(self, home: Home) -> None:
        self.directory = os.path.join(home.path, "router")

    def set(self, host: str, port: int, *, public: bool) -> None:
        """Send requests for a host to this port of this machine from now on. There is no moment without a route."""
        if not is_host_name(host):
            raise ValueError(f"{host!r} is not a host name")
        kind, other = (OPEN, CLOSED) if public else (CLOSED, OPEN)
        address = f"{LOOPBACK}:{port}"
        directory = self._of(kind, host)
        for each in (self.directory, os.path.dirname(directory), directory):
            os.makedirs(each, mode=DIRECTORY_MODE, exist_ok=True)  # which has a mode for the last one only
        os.close(os.open(os.path.join(directory, address), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        for name in os.listdir(directory):
            if name != address:
                _unlink(os.path.join(directory, name))
        self._clear(other, host)

    def clear(self, host: str) -> None:
        """Have no route for a host: the gateway is asked for it."""
        for kind in (OPEN, CLOSED):
            self._clear(kind, host)

    def port(self, host: str) -> int | None:
        """Where requests for a host go to."""
        return self.all().get(host) if is_host_name(host) else None

    def all(self) -> dict[str, int]:
        """The port of each host that has a route."""
        found: dict[str, int] = {}
        for kind in (OPEN, CLOSED):
            for host in _names(os.path.join(self.directory, kind)):
                for name in _names(self._of(kind, host)):
                    if match := _ADDRESS.fullmatch(name):
                        found[host] = int(match[1])
        return found

    def _of(self, kind: str, host: str) -> str:
        return os.path.join(self.directory, kind, host)

    def _clear(self, kind: str, host: str) -> None:
        directory = self._of(kind, host)
        for name in _names(directory):
            _unlink(os.path.join(directory, name))
        with suppress(OSError):
            os.rmdir(directory)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
