"""The router's table: a directory for each host, with one empty file whose name is the app's address.

The router looks at these files for each request, so a route changes without telling it, and is there again when it starts.
Hosts in ``open`` are for anyone who can reach the router; those in ``closed`` only for those who have signed in.

That the router has looked shows in the time at which a directory was last read, as far as the file system keeps that: so it
costs nothing to know which apps are in use.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from provisioner.core.host_names import is_host_name
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

OPEN, CLOSED = "open", "closed"
_UNUSED = 1  # ns since 1970: the time of a directory's last read, if it had none since its uses were taken
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
        for name in _names(directory):
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

    def shows_use(self) -> bool:
        """Does the file system keep when a directory was last read?"""
        probe = os.path.join(self.directory, "probe")
        os.makedirs(probe, mode=DIRECTORY_MODE, exist_ok=True)
        os.utime(probe, ns=(_UNUSED, os.stat(probe).st_mtime_ns))
        os.listdir(probe)
        return os.stat(probe).st_atime_ns != _UNUSED

    def take_uses(self) -> frozenset[str]:
        """The hosts for which the router has looked since the last call."""
        found = []
        for kind in (OPEN, CLOSED):
            for host in _names(os.path.join(self.directory, kind)):
                with suppress(FileNotFoundError):
                    times = os.stat(self._of(kind, host))
                    if times.st_atime_ns != _UNUSED:
                        found.append(host)
                        os.utime(self._of(kind, host), ns=(_UNUSED, times.st_mtime_ns))
        return frozenset(found)

    def _of(self, kind: str, host: str) -> str:
        return os.path.join(self.directory, kind, host)

    def _clear(self, kind: str, host: str) -> None:
        directory = self._of(kind, host)
        for name in _names(directory):
            _unlink(os.path.join(directory, name))
        with suppress(OSError):
            os.rmdir(directory)


def _names(directory: str) -> list[str]:
    """What is in a directory, which this does not count as a use of."""
    try:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_NOATIME", 0))
    except FileNotFoundError:
        return []
    try:
        return os.listdir(opened)
    finally:
        os.close(opened)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
