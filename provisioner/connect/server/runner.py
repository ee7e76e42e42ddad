"""The server in a thread with its event loop: started, drained and stopped from another thread.

It is ready from when apps know of a server of this home until that is no longer so. In this order: it accepts
connections, it is announced, it is ready; and at its end it is not ready, no longer announced, and drains.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import uvloop

from provisioner.connect.server.app import ConnectServer
from provisioner.connect.server.auth import Authenticator
from provisioner.connect.server.connections import ConnectionLimits, Connections
from provisioner.connect.server.databases.open_databases import OpenDatabases
from provisioner.connect.server.listener import http_server, listening
from provisioner.connect.server.metrics import Metrics
from provisioner.connect.server.mounted_app import MakeSite, ServerContext
from provisioner.connect.server.options import Options, checked
from provisioner.connect.server.tokens import BUSY_SECONDS, Access
from provisioner.core.clock import now_ms
from provisioner.core.errors import LockTimeout, ProvisionerError, StorageFailed
from provisioner.engines import catalog
from provisioner.registry.store import Registry
from provisioner.system import pidfile
from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home

Log = Callable[..., None]

START_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 25.0  # below the 30 that supervisors wait before they kill
DESCRIPTORS_EACH: Final = 8  # of an open database, at most
SPARE_DESCRIPTORS: Final = 64


class RunningServer:
    """A server of a home. `start` returns when it answers, `stop` when all that was in flight has been answered.

    `died` is called, from the server's thread, where it ends without having been stopped. `site` makes what answers the
    paths that are not KV Connect's, in that thread.
    """

    def __init__(
        self,
        home: Home,
        options: Options,
        log: Log,
        died: Callable[[], None],
        clock: Callable[[], int] = now_ms,
        site: MakeSite | None = None,
    ) -> None:
        self.home = home
        self.options = checked(options, log)
        self._log = log
        self._died = died
        self._clock = clock
        self.site = site
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="connect", daemon=True)
        self._lock: int | None = None
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Raises ProvisionerError where it cannot: the port is taken, a server of this home already runs."""
        self._lock = self._first()
        if self._lock is None and not self.options.beside:
            raise LockTimeout(
                f"a server already runs on {self.home.path}",
                "Stop it first, or use it; 'provisioner serve --beside' runs beside it",
            )
        try:
            self._listener = listening(self.options)
            self.options = replace(self.options, port=self._listener.getsockname()[1])
            self._thread.start()
            self._started.wait()
            if self._failure is not None:
                raise self._failure
        except BaseException:
            self._withdraw()
            if self._listener is not None:
                self._listener.close()
            raise
        self._log("info", "serving", url=self.options.url, home=self.home.path, pid=os.getpid())

    def _first(self) -> int | None:
        """The lock of the one server of a home that is announced to apps; None if another server has it."""
        return try_lock(os.path.join(self.home.locks, "server.lock"))

    def _announce(self) -> None:
        try:
            pidfile.announce(self.home.server, f"{self.options.url} {self.options.near_url}")
        except OSError as error:
            raise StorageFailed(
                f"the server cannot be announced to apps in {self.home.server}: {error.strerror}"
            ) from error

    def _told(self) -> bool:
        """Are apps told of a server of this home, of this one or of another that lives?"""
        return pidfile.at_work(self.home.server) is not None

    def _keep_told(self) -> None:
        """Announce this server if the announced one has ended, and again if the file is gone."""
        assert self._ending is not None  # noqa: S101 it exists before anything ticks
        if self._ending.is_set() or self._told():
            return
        if self._lock is None:
            self._lock = self._first()
        if self._lock is None:  # another server has it, and is about to tell
            return
        self._announce()
        self._log("info", "apps now connect to this server", url=self.options.url)

    def _withdraw(self) -> None:
        """Withdraw the announcement. One beside it may be announced from now on."""
        lock, self._lock = self._lock, None
        if lock is not None:
            pidfile.withdraw(self.home.server)
            os.close(lock)

    def stop(self) -> None:
        """Finish what is in flight, end watches, close all databases."""
        if self._loop is None or self._ending is None:
            return
        self.begin_to_stop()
        self._thread.join()
        if self._listener is not None:
            self._listener.close()
        self._withdraw()
        catalog.close()
        self._log("info", "served")

    def begin_to_stop(self) -> None:
        """Take in nothing more, and finish what is in flight; `stop` waits for that."""
        if self._loop is not None and self._ending is not None:
            with suppress(RuntimeError):  # it has already ended
                self._loop.call_soon_threadsafe(self._ending.set)

    def must_have_lived(self) -> None:
        """Raises ProvisionerError if it ended unexpectedly."""
        if self._failure is not None:
            raise StorageFailed(f"the server ended unexpectedly: {self._failure}", "See the lines above")

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._failure = error
            if self._started.is_set():
                self._log("error", f"the server ended: {error!r}")
                self._died()
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        access = Access(self.home)
        registry = Registry.open(self.home, busy_seconds=BUSY_SECONDS)
        assert self._listener is not None  # noqa: S101
        metrics = Metrics()
        limits = ConnectionLimits(self.options.connections, self.options.connections_each)
        connections = Connections(self.options.port, limits, self._log)
        most = _most_databases(self.options)
        databases = OpenDatabases(registry, most, self._log, metrics.groups.add, self._clock)
        surroundings = ServerContext(self.home, self.options, databases, metrics, self._log)
        server = ConnectServer(
            Authenticator(access),
            databases,
            metrics,
            self._log,
            connections,
            self._told,
            public_url=self.options.public_url,
            log_all=self.options.log_all,
            site=self.site(surroundings) if self.site else None,
        )
        granian = http_server(server, self.options, self._listener)
        serving = asyncio.create_task(granian.serve())
        ticking: asyncio.Task[None] | None = None
        try:
            await _answers(self.options, serving)
            if self._lock is not None:
                self._announce()
            connections.start()
            server.readiness.started = True
            ticking = asyncio.create_task(_tick((server.each_second, self._keep_told), self._log))
            gc.collect()
            gc.freeze()  # objects that exist by now stay, so the collector can skip them
            self._started.set()
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait({ending, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                raise StorageFailed("its listener ended", "See the lines above")
            server.drain()  # no longer ready, in the same turn of the loop
            self._withdraw()
            await _idle(server)
        finally:
            if ticking is not None:
                ticking.cancel()
                connections.close()
            granian.stop()  # type: ignore[no-untyped-call]
            await asyncio.gather(serving, return_exceptions=True)
            server.close()
            await databases.close()
            registry.close()
            access.close()


async def _tick(work: Sequence[Callable[[], None]], log: Log) -> None:
    """It continues after any failure, because otherwise nothing would be revoked."""
    said = ""
    while True:
        await asyncio.sleep(1)
        try:
            for each in work:
                each()
        except Exception as error:
            text = str(error) if isinstance(error, ProvisionerError) else repr(error)
            if text != said:  # once, not every second
                log("error", f"the work of every second failed: {text}")
            said = text
        else:
            said = ""


async def _idle(server: ConnectServer) -> None:
    """Answer the requests in progress."""
    deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
    while not server.idle and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)


async def _answers(options: Options, serving: asyncio.Task[None]) -> None:
    """Wait until the port takes connections."""
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(options.host, options.port)
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                raise StorageFailed(f"nothing answers on {options.host}:{options.port}") from None
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    await serving  # raises what it ended with
    raise StorageFailed(f"the server on {options.host}:{options.port} ended at once", "See the lines above")


def _most_databases(options: Options) -> int:
    """As many as the open files allow, beside the connections. The soft limit is raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    free = hard - SPARE_DESCRIPTORS - options.connections
    return max(16, min(options.databases or 4096, free // DESCRIPTORS_EACH))
