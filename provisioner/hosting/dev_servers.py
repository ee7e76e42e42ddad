"""The dev servers that run on this machine: which timeline each is for, its port, and its route.

A dev server is recorded in a file ``<home>/dev/<port>`` that `provisioner dev` keeps locked while it runs. The lock ends with
the process, however that ends: then the record and its route are removed by whatever looks next.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.hosting.ports import free_port, is_free
from provisioner.hosting.routes import Routes
from provisioner.system.file_lock import if_free, locked, try_lock
from provisioner.system.home import DIRECTORY_MODE, Home
from provisioner.system.router_address import address


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
        with if_free(self._lock) as free:
            if free:
                self._running()

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
            raise StorageFailed(f"cannot create {self._directory}: {error.strerror}", "Check who owns it") from error
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
            chosen = free_port(f"{self._home.path}\0{host}", taken) if port is None else _must_be_free(port)
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


def _read(path: str) -> DevServer | None:
    try:
        with open(path) as file:
            return DevServer(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def _must_be_free(port: int) -> int:
    if not is_free(port):
        raise ProvisionerError(f"port {port} is in use", "Stop what uses it, or choose another: --port PORT")
    return port
