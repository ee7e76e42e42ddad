"""Streams that wake: each has its own thread, and is opened again when it breaks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from provisioner.connect.client.codec import Disabled
from provisioner.connect.client.metadata import ProtocolViolation
from provisioner.connect.client.retries import LONGEST_PAUSE, Remote, RequestRefused, pause
from provisioner.connect.client.transport import RequestNotSent, ResponseLost, ResponseStream
from provisioner.kv.errors import Closed, KvError
from provisioner.system.service_thread import ServiceThread

LONGEST_FRAME: Final = 1024 * 1024  # ten entries of the greatest key and value have about 660 KB
LONGEST_REFUSED: Final = 30.0  # seconds between two tries where a server refuses

_log = logging.getLogger("provisioner.kv")


class StreamListener:
    """A subscription: `wake` is called after each frame, and `judge` before, which raises Strange or Disabled.

    The first frame after each opening says how things are, so nothing that happened while there was no stream is lost.
    If the server refuses, `wake` is called too: the next read then gets the reason.
    """

    def __init__(
        self,
        remote: Remote,
        path: str,
        body: bytes,
        judge: Callable[[bytes], None],
        wake: Callable[[], None],
        others: set[StreamListener],
    ) -> None:
        self._remote = remote
        self._path = path
        self._body = body
        self._judge = judge
        self.wake = wake
        self._others = others
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._stream: ResponseStream | None = None
        self._failures = 0
        others.add(self)
        self._thread = ServiceThread("kv stream", self._run)
        self._thread.start()

    def close(self) -> None:
        self._others.discard(self)
        self._thread.stop()
        with self._lock:
            self._closed.set()
            if self._stream is not None:
                self._stream.interrupt()

    def _run(self) -> None:
        while not self._closed.is_set():
            longest = LONGEST_PAUSE
            try:
                self._listen()
            except Closed:
                return
            except (RequestNotSent, ResponseLost) as error:
                _log.debug("a stream broke: %s", error)
            except (RequestRefused, ProtocolViolation, Disabled, KvError) as error:
                longest = LONGEST_REFUSED
                if not self._closed.is_set():
                    _log.warning("a stream is refused: %s", error)
                    self.wake()
            self._closed.wait(pause(self._failures, longest))
            self._failures += 1

    def _listen(self) -> None:
        with self._remote.stream(self._path, self._body) as stream:
            with self._lock:
                if self._closed.is_set():
                    return
                self._stream = stream
            try:
                while not self._closed.is_set():
                    self._frame(stream)
            finally:
                with self._lock:
                    self._stream = None

    def _frame(self, stream: ResponseStream) -> None:
        size = int.from_bytes(stream.read(4), "little")
        if size > LONGEST_FRAME:
            raise ProtocolViolation(f"a frame of its stream has {size} bytes")
        if size:
            self._judge(stream.read(size))
            self._failures = 0
            if not self._closed.is_set():
                self.wake()
