"""The router as a part of the daemon: its process is kept running, the gateway answers it, ended sessions are deleted."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from threading import Event

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.hosting.router.access import PreviewAccess
from provisioner.hosting.router.certificates import remove_unknown
from provisioner.hosting.router.gateway import Gateway, Log
from provisioner.hosting.router.options import LocalAuthority, RouterOptions
from provisioner.hosting.router.process import RouterProcess
from provisioner.hosting.router.waking import Waker
from provisioner.system.backoff import Backoff
from provisioner.system.home import Home
from provisioner.system.service_thread import ServiceThread

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_QUIET_SECONDS = 30.0  # without an end, after which pauses are short again
_SWEEP_SECONDS = 60.0


class Router:
    """`start` and `stop` are for the thread that made it. What goes wrong is logged, and tried again after a pause."""

    def __init__(
        self, home: Home, options: RouterOptions, waker: Waker, log: Log, dashboard: Callable[[], str] = lambda: ""
    ) -> None:
        self._home, self._options, self._waker, self._log = home, options, waker, log
        self._process = RouterProcess(home, options)
        self._gateway = Gateway(home, waker, log, dashboard, show_logs=options.local)
        self._access = PreviewAccess(home)
        self._stopping = Event()
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = ServiceThread("router", self._keep)
        self._settled = Event()
        self.problem = ""
        """Why the router does not run as it should; empty if it does."""

    def start(self) -> None:
        """Have the router run, and wait until it does, or has failed to for the first time. Raises StorageFailed if the home
        cannot be written to; a port that is taken is logged, and is tried again until it is free."""
        self._gateway.start()
        self._access.sweep(now_ms())  # before the router believes in sessions of an earlier key
        self._thread.start()
        self._settled.wait()

    def stop(self, *, keep_router: bool = False) -> None:
        """With `keep_router`, it keeps running for the next daemon: apps that run can still be reached, others wait."""
        self._stopping.set()
        self._thread.stop()
        os.eventfd_write(self._woken, 1)
        self._thread.join()
        if not keep_router:
            self._process.stop()
        self._gateway.stop()
        os.close(self._woken)

    @property
    def root_certificate(self) -> str | None:
        """The file of what machines must trust, if the certificates are of the home's own authority."""
        return self._process.root_certificate if isinstance(self._options.tls, LocalAuthority) else None

    @property
    def waiting(self) -> int:
        """How many requests wait for apps."""
        return self._gateway.waiting

    def _keep(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not self._stopping.is_set():
            began = time.monotonic()
            if self._run():
                self._watch()
            if time.monotonic() - began > _QUIET_SECONDS:
                backoff.reset()
            if not self._stopping.is_set():
                self._wait(None, backoff.next())

    def _run(self) -> bool:
        """True if it runs."""
        try:
            self._pidfd = self._process.run()
        except (ProvisionerError, OSError) as error:
            self._fail(str(error))
        else:
            self.problem = ""
            self._log("info", "routing", url=self._options.url(self._options.domain))
        self._settled.set()
        return not self.problem

    def _fail(self, text: str) -> None:
        if text != self.problem:  # once, not with each attempt
            self._log("error", text)
        self.problem = text

    def _watch(self) -> None:
        """Until the router has ended, or is to be left."""
        try:
            while not self._stopping.is_set():
                if self._wait(self._pidfd, _SWEEP_SECONDS):
                    if not self._stopping.is_set():
                        self._log("warning", "the router ended; it is started again")
                    return
                self._sweep()
        finally:
            os.close(self._pidfd)

    def _sweep(self) -> None:
        """Every minute."""
        try:
            self._process.renew()
        except ProvisionerError as error:
            self._fail(str(error))
        else:
            self.problem = ""
        self._access.sweep(now_ms())
        self._access.keep_only(self._waker.find)
        remove_unknown(self._home, lambda host: self._waker.find(host) is not None)

    def _wait(self, pidfd: int | None, seconds: float) -> bool:
        """Wait at most this long. True if the process has ended; it also returns when the router must stop."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if pidfd is not None:
            poll.register(pidfd, select.POLLIN)
        return any(fd == pidfd for fd, _ in poll.poll(seconds * 1000))
