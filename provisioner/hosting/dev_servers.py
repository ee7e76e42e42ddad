"""The dev servers that run on this machine: which timeline each is for, its port, and its route.

A dev server is recorded in a file ``<home>/dev/<port>`` that `provisioner dev` keeps locked while it runs. The lock ends with
the process, however that ends: then the record and its route are removed by whatever looks next.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.hosting.routes import LOOPBACK, Routes
from provisioner.system.file_lock import locked, try_lock
from provisioner.system.home import DIRECTORY_MODE, Home
from provisioner.system.router_address import address

FIRST_PORT, PORTS = 20_000, 10_000  # below the ports that systems give to outgoing connections


@dataclass(frozen=True, slots=True)
class DevServer:
    """`host` is that of the timeline's URL. ``routed``: requests for it come here; else only the port leads here."""

    app_id: str
    timeline: str
    host: str
    port: int
    routed: bool
    pid: int
    directory: str


class DevServers:
    """The dev servers of a home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._directory = os.path.join(home.path, "dev")
        self._lock = os.path.join(home.locks, "dev.lock")
        self._routes = Routes(home)

    def running(self) -> list[DevServer]:
        """Those that run. What others have left, which were killed, is removed."""
        if not os.path.isdir(self._directory):
            return []
        with self._alone():
            return self._running()

    def clean_up(self) -> None:
        """Remove what killed ones have left, unless another process looks at that now."""
        if not os.path.isdir(self._directory):
            return
        lock = try_lock(self._lock)
        if lock is not None:
            try:
                self._running()
            finally:
                os.close(lock)

    @contextmanager
    def registered(
        self, app_id: str, timeline: str, host: str, directory: str, port: int | None
    ) -> Iterator[DevServer]:
        """Have a dev server of this process, with this port or a free one, and a route to it, for the block.

        Raises ProvisionerError if another one has the route and no port is given, or if the port is in use.
        """
        try:
            os.makedirs(self._directory, mode=DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"cannot make {self._directory}: {error.strerror}", "Check who owns it") from error
        with self._alone():
            others = self._running()
            first = next((item for item in others if item.routed and item.host == host), None)
            if first is not None and port is None:
                raise ProvisionerError(
                    f"a dev server for {timeline} already runs: process {first.pid} in {first.directory} on port"
                    f" {first.port}",
                    "Stop it, or run a second one without its URL: --port PORT",
                )
            taken = {item.port for item in others}
            chosen = _free_port(f"{self._home.path}\0{host}", taken) if port is None else _must_be_free(port)
            found = DevServer(app_id, timeline, host, chosen, first is None, os.getpid(), directory)
            lease = self._record(found)
            if found.routed:
                self._routes.set(host, chosen, public=address(self._home).everyone)
        try:
            yield found
        finally:
            with self._alone():
                self._remove(found)
            os.close(lease)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with locked(self._lock, "the dev servers"):
            yield

    def _running(self) -> list[DevServer]:
        found = []
        for name in sorted(os.listdir(self._directory)):
            path = os.path.join(self._directory, name)
            server = _read(path)
            lock = try_lock(path)
            if lock is None:
                found += [server] if server is not None else []
                continue
            try:
                if server is not None:
                    self._remove(server)
                with suppress(FileNotFoundError):
                    os.unlink(path)
            finally:
                os.close(lock)
        return found

    def _record(self, server: DevServer) -> int:
        """Write the record of a dev server: a descriptor that keeps it locked."""
        path = self._path(server.port)
        lock = try_lock(f"{path}.new")  # locked before others can see it by its name
        if lock is None:
            raise ProvisionerError(f"port {server.port} is in use by another dev server", "Use another: --port PORT")
        os.ftruncate(lock, 0)
        os.write(lock, json.dumps(asdict(server)).encode())
        os.rename(f"{path}.new", path)
        return lock

    def _remove(self, server: DevServer) -> None:
        if server.routed and self._routes.port(server.host) == server.port:
            self._routes.clear(server.host)
        with suppress(FileNotFoundError):
            os.unlink(self._path(server.port))

    def _path(self, port: int) -> str:
        return os.path.join(self._directory, str(port))


def answers(port: int, address: str = LOOPBACK) -> bool:
    """Does something take connections at this port of this machine?"""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((address, port)) == 0
    except OSError:  # a machine without IPv6
        return False


def _read(path: str) -> DevServer | None:
    try:
        with open(path) as file:
            return DevServer(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def _free_port(owner: str, taken: set[int]) -> int:
    """A port of the owner's own, which is a host in a home, the same each time if it is free: browsers and sign-in services
    remember it, and another home on this machine gets another one."""
    from hashlib import sha256

    first = int.from_bytes(sha256(os.fsencode(owner)).digest()[:4])
    for number in range(PORTS):
        port = FIRST_PORT + (first + number) % PORTS
        if port not in taken and _is_free(port):
            return port
    raise ProvisionerError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free", "Choose one: --port PORT")


def _must_be_free(port: int) -> int:
    if not _is_free(port):
        raise ProvisionerError(f"port {port} is in use", "Stop what uses it, or choose another: --port PORT")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return not answers(port, "::1")
