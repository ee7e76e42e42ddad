"""The socket on which hooks hand a push over to the daemon; only this user can reach it.

The protocol is in `provisioner.handover`, the other end. `doctor` uses it too, to list the daemon's threads.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from provisioner.core.ids import AppId
from provisioner.jobs.progress import tell_steps
from provisioner.system.home import Home
from provisioner.system.pidfile import announce, withdraw
from provisioner.system.service_thread import ServiceThread, ThreadState, states

REQUEST_SECONDS = 10.0
ANSWER_SECONDS = 2.0  # that a client waits for the list of threads
END = b"\0"  # of an answer; handover.py has it too, and imports nothing
THREADS = b"threads\n"  # requests the list; no app has this id
SOCKET_PATH_LIMIT = 100  # bytes; the system's own is 104 to 108


@dataclass(frozen=True, slots=True)
class Push:
    """A hook that waits for an answer about branches of an app, each with the pushed commit (hex). `place` is the repository
    that received the push."""

    app_id: AppId
    place: bytes
    branches: list[tuple[str, bytes]]
    connection: socket.socket
    followed: threading.Event = field(default_factory=threading.Event)
    """Set once another thread reports progress to it, or has answered it."""

    def say(self, line: str) -> None:
        """Send it a line before its answer. Raises OSError if it has disconnected."""
        self.connection.sendall(line.encode("utf-8", "surrogateescape") + b"\n")

    def wait(self, home: Home) -> None:
        """Report at intervals what it waits for, until it is followed or answered."""
        with suppress(OSError):  # it has disconnected
            tell_steps(home, self.app_id, [branch for _, branch in self.branches], self.say, self.followed)

    def answer(self, lines: Sequence[str]) -> None:
        """Send its final lines. One that has disconnected needs no answer."""
        self.followed.set()
        try:
            self.connection.sendall("\n".join(lines).encode("utf-8", "surrogateescape") + b"\n" + END)
        except OSError:
            return
        finally:
            self.connection.close()


class HookServer:
    """The socket and its threads; `came` is called with each push from one of them.

    Without a free descriptor no connection can be accepted. New ones stay in the socket's queue, and the thread's guard
    retries.
    """

    def __init__(self, home: Home, came: Callable[[Push], None]) -> None:
        self._home, self._came = home, came
        self._path = os.path.join(home.path, "daemon.sock")
        if len(os.fsencode(self._path)) > SOCKET_PATH_LIMIT:
            self._path = os.path.join(tempfile.mkdtemp(prefix="provisioner-"), "daemon.sock")
        if os.path.exists(self._path):  # a killed daemon left it; the lock shows that it is gone
            os.unlink(self._path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self._path)
        os.chmod(self._path, 0o600)
        self._listener.listen(128)
        self._closing = threading.Event()
        self._thread = ServiceThread("hooks", self._accept)
        self._thread.start()

    def open(self) -> None:
        """Announce the socket to hooks."""
        announce(self._home.daemon, self._path)

    def close(self) -> None:
        withdraw(self._home.daemon)
        self._closing.set()
        self._thread.stop()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread
        self._thread.join()
        self._listener.close()
        os.unlink(self._path)
        if os.path.dirname(self._path) != self._home.path:
            shutil.rmtree(os.path.dirname(self._path))

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except ConnectionAbortedError:  # it disconnected before its turn
                continue
            except OSError:
                if self._closing.is_set():
                    return
                raise
            try:
                threading.Thread(target=self._receive, args=(connection,), daemon=True, name="hook").start()
            except RuntimeError:  # the system has no thread to spare: closing the connection tells the hook
                connection.close()
                raise

    def _receive(self, connection: socket.socket) -> None:
        connection.settimeout(REQUEST_SECONDS)
        data = bytearray()
        try:
            while piece := connection.recv(65536):
                data += piece
        except OSError:
            connection.close()
            return
        if data == THREADS:
            _tell_threads(connection)
            return
        first, *lines = bytes(data).removesuffix(b"\n").split(b"\n")
        app_id, _, place = first.partition(b" ")
        push = Push(AppId(app_id.decode("ascii", "replace")), place, parse(lines), connection)
        self._came(push)
        push.wait(self._home)


def threads_of(path: str) -> list[ThreadState]:
    """The threads of the daemon whose socket this is. Raises OSError if it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(path)
        connection.sendall(THREADS)
        connection.shutdown(socket.SHUT_WR)
        data = bytearray()
        while piece := connection.recv(65536):
            data += piece
    try:
        return [ThreadState(**each) for each in json.loads(data.removesuffix(END))]
    except (ValueError, TypeError) as error:
        raise OSError("it answers something else") from error


def _tell_threads(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.sendall(json.dumps([asdict(state) for state in states()]).encode() + END)


def parse(lines: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """The pushed branches in a hook's request: pairs of commit and name."""
    pairs = [line.partition(b" ") for line in lines]
    return [(revision.decode("ascii", "replace"), branch) for revision, _, branch in pairs]
