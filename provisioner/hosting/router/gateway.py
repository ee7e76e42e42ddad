"""What the router asks about a request for which it has no route, or no session: the daemon's end of it.

A server on a socket in the home. It waits while an app starts, and answers with the app's address, to which the router then
sends the request itself, or with a page. Requests wait in an event loop, so one that waits costs no thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, assert_never

from granian._granian import SocketHolder
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server as Granian

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.core.host_names import is_host_name
from provisioner.hosting.router import answers, inquiry
from provisioner.hosting.router.access import PreviewAccess
from provisioner.hosting.router.answers import GatewayAnswer
from provisioner.hosting.router.inquiry import Inquiry
from provisioner.hosting.router.names import ASK, ASK_AGAIN, GATEWAY_SOCKET, KNOWN, OWN, UPSTREAM
from provisioner.hosting.router.pending import MOST, Full, Pending
from provisioner.hosting.router.sign_in import SignIn
from provisioner.hosting.router.waking import AppFailed, AppRunning, AppsBusy, AppStopped, NoSuchApp, Site, Waker, Woken
from provisioner.hosting.routes import LOOPBACK
from provisioner.system.home import DIRECTORY_MODE, Home
from provisioner.system.service_thread import ServiceThread

Log = Callable[..., None]

PAGE_SECONDS = 2.0  # until a browser is shown that the app starts
WAIT_SECONDS = 600.0  # that other programs are kept waiting at most
_REFRESH_SECONDS = 2
_THREADS = 4
_STOP_SECONDS = 2.0
_BACKLOG = 1024
_HEADER_BYTES = 131_072  # more than the router takes
_UNKNOWN_TITLE, _UNKNOWN_TEXT = "No preview at this address", "Its branch may be gone. See: provisioner status"


class Gateway:
    """With `show_logs`, anyone who can reach the router may see the end of an app's log, and otherwise only those with access to
    a preview that is not public. `dashboard` tells the address of the dashboard, if there is one that signs in to previews."""

    def __init__(
        self, home: Home, waker: Waker, log: Log, dashboard: Callable[[], str] = lambda: "", *, show_logs: bool = False
    ) -> None:
        self._directory = os.path.join(home.path, "router")
        self._access = PreviewAccess(home)
        self._waker, self._log, self._dashboard, self._show_logs = waker, log, dashboard, show_logs
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Future[None] | None = None
        self._conversation: _Conversation | None = None
        self._stopping = threading.Event()
        self._thread = ServiceThread("gateway", self._serve)

    def start(self) -> None:
        """Raises StorageFailed if the socket cannot be made."""
        try:
            os.makedirs(self._directory, mode=DIRECTORY_MODE, exist_ok=True)
            self._listener = _listening(self._directory)
        except OSError as error:
            raise StorageFailed(f"cannot create a socket in {self._directory}: {error.strerror}") from error
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait for apps."""
        return self._conversation.waiting if self._conversation is not None else 0

    def stop(self) -> None:
        """The router is to ask the next daemon for requests that wait."""
        self._stopping.set()
        self._thread.stop()
        if self._loop is not None and self._ending is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(_end, self._ending)
        self._thread.join()
        if self._listener is not None:
            self._listener.close()

    def _serve(self) -> None:
        if not self._stopping.is_set():
            asyncio.run(self._main())

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        ending: asyncio.Future[None] = loop.create_future()
        self._loop, self._ending = loop, ending
        if self._stopping.is_set():
            return
        assert self._listener is not None  # noqa: S101 - made before the thread
        with ThreadPoolExecutor(_THREADS, "gateway") as threads:
            self._conversation = _Conversation(
                *(self._access, self._waker, threads, self._log, self._dashboard, self._show_logs, ending)
            )
            server = _server(self._conversation, self._listener)
            serving = asyncio.create_task(server.serve())
            await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._conversation.idle()
            server.stop()  # type: ignore[no-untyped-call]
            await serving


class _Conversation:
    """Answers requests, as granian calls it."""

    def __init__(
        self,
        access: PreviewAccess,
        waker: Waker,
        threads: ThreadPoolExecutor,
        log: Log,
        dashboard: Callable[[], str],
        show_logs: bool,
        ending: asyncio.Future[None],
    ) -> None:
        self._access, self._waker, self._threads, self._log = access, waker, threads, log
        self._show_logs = show_logs
        self._ending = ending
        self._answering = 0
        self._sign_in = SignIn(access, threads, dashboard)
        self._pending = Pending(waker, threads)

    @property
    def waiting(self) -> int:
        return self._pending.waiting

    async def idle(self) -> None:
        """Until everything is answered."""
        while self._answering:
            await asyncio.sleep(0.01)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        self._answering += 1
        try:
            await self._respond(scope, protocol)
        finally:
            self._answering -= 1

    async def _respond(self, scope: Any, protocol: Any) -> None:
        asked = inquiry.read(scope)
        try:
            answer = await self._answer(scope, protocol, asked)
        except ProvisionerError as error:
            self._log("error", f"the gateway cannot answer: {error}", host=asked.host)
            answer = answers.message(
                answers.UNAVAILABLE, "This preview cannot be opened", error.message, page=asked.navigation
            )
        except Exception as error:
            self._log("error", f"the gateway failed: {error!r}", host=asked.host)
            answer = answers.message(
                answers.UNAVAILABLE, "This preview cannot be opened", "See the log of the daemon", page=asked.navigation
            )
        if answer is not None:
            protocol.response_bytes(answer.status, answer.headers, answer.body)

    async def _answer(self, scope: Any, protocol: Any, asked: Inquiry) -> GatewayAnswer | None:
        if scope.path == KNOWN:
            return await self._known(scope.query_string)
        site = await self._find(asked.host) if asked.host else None
        if site is None:
            return answers.message(answers.NOT_FOUND, _UNKNOWN_TITLE, _UNKNOWN_TEXT, page=asked.navigation)
        if scope.path.startswith(f"{OWN}/"):
            return await self._sign_in.answer(scope.path, scope.query_string, asked, site, protocol)
        if scope.path != ASK:
            return answers.message(answers.NOT_FOUND, "Not found", "", page=asked.navigation)
        if not await self._may(asked, site):
            return self._sign_in.page(asked, site, following=asked.following)
        return await self._woken(asked, site, protocol)

    async def _known(self, query: str) -> GatewayAnswer:
        """May there be a certificate for a host?"""
        host = query.rpartition("domain=")[2].partition("&")[0].lower()
        found = await self._find(host) if is_host_name(host) else None
        return GatewayAnswer(answers.OK if found is not None else answers.NOT_FOUND)

    async def _find(self, host: str) -> Site | None:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._waker.find, host)

    async def _may(self, asked: Inquiry, site: Site) -> bool:
        return site.public or await asyncio.get_running_loop().run_in_executor(
            self._threads, self._signed_in, asked, site
        )

    def _signed_in(self, asked: Inquiry, site: Site) -> bool:
        now = now_ms()
        if asked.bypass and self._access.bypasses_with(site, asked.bypass, now):
            return True
        return self._access.sessions.find(asked.host, asked.cookies, now, encrypted=asked.encrypted) is not None

    async def _woken(self, asked: Inquiry, site: Site, protocol: Any) -> GatewayAnswer | None:
        """None if the client has left."""
        try:
            with self._pending.place(asked.host):
                answer = self._pending.answer(asked.host, asked.failed_port)
                gone = asyncio.ensure_future(protocol.client_disconnect())
                seconds = PAGE_SECONDS if asked.navigation else WAIT_SECONDS
                try:
                    waiting = {answer, gone, self._ending}
                    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                    if answer.done():
                        return self._of_woken(answer.result(), site, page=asked.navigation)
                    if gone.done():
                        return None
                    if self._ending.done():
                        return GatewayAnswer(ASK_AGAIN)
                finally:
                    gone.cancel()
        except Full:
            return _busy(1, "Too many requests wait for it", page=asked.navigation)
        return answers.message(
            *(answers.UNAVAILABLE, f"{site.name} is starting", "This page reloads when it has started."),
            page=asked.navigation,
            extra=[("retry-after", str(_REFRESH_SECONDS))],
            refresh=_REFRESH_SECONDS,
        )

    def _of_woken(self, woken: Woken, site: Site, *, page: bool) -> GatewayAnswer:
        match woken:
            case AppRunning():
                return GatewayAnswer(answers.OK, b"", [(UPSTREAM, f"{LOOPBACK}:{woken.port}")])
            case AppFailed():
                log_tail = woken.log_tail if self._show_logs or not site.public else ""
                return answers.failed(site.name, woken.reason, log_tail, page=page)
            case AppStopped():
                text = f"To start it, use the dashboard, or run: {woken.start}"
                return answers.message(answers.UNAVAILABLE, f"{site.name} is stopped", text, page=page)
            case NoSuchApp():
                return answers.message(answers.NOT_FOUND, _UNKNOWN_TITLE, _UNKNOWN_TEXT, page=page)
            case AppsBusy():
                return _busy(
                    woken.retry_after, "As many apps run as may. It starts when another one sleeps.", page=page
                )
        assert_never(woken)


def _end(ending: asyncio.Future[None]) -> None:
    if not ending.done():
        ending.set_result(None)


def _busy(seconds: int, why: str, *, page: bool) -> GatewayAnswer:
    extra = [("retry-after", str(seconds))]
    return answers.message(answers.UNAVAILABLE, "Busy", why, page=page, extra=extra, refresh=seconds)


class _OnSocket(Granian):
    """On a socket that is there already."""

    listener: socket.socket

    def _init_shared_socket(self) -> None:
        self._shd = SocketHolder(os.dup(self.listener.fileno()), True, _BACKLOG)  # type: ignore[call-arg, assignment]


def _server(target: Any, listener: socket.socket) -> Granian:
    logging.getLogger("_granian").setLevel(logging.ERROR)
    made = _OnSocket(
        target,
        interface=Interfaces.RSGI,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=2 * MOST,
        http1_settings=HTTP1Settings(max_buffer_size=_HEADER_BYTES),
        log_enabled=False,
    )
    made.listener = listener
    return made


def _listening(directory: str) -> socket.socket:
    """By way of its directory's descriptor: a path may be too long for a socket. It takes the place of one that was left."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = f"/proc/self/fd/{fd}/{GATEWAY_SOCKET}"
        beside = f"{place}.new"
        with suppress(FileNotFoundError):
            os.unlink(beside)
        found.bind(beside)
        os.chmod(beside, 0o600)
        found.listen(_BACKLOG)
        os.rename(beside, place)
    except BaseException:
        found.close()
        raise
    finally:
        os.close(fd)
    found.setblocking(False)
    return found
