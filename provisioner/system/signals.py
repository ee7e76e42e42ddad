"""Signals that end a wait, no matter when they come.

Python runs a signal's handler between two of its instructions. A signal that comes just before a system call that blocks
is therefore acted on when that call returns, which may be never. Its number in a pipe is there before and after.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LOOK_SECONDS: Final = 1.0


class SignalPipe:
    """Catches these signals until it is closed, and remembers that one came. Made and closed by the main thread."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = bytes(numbers)
        self._came = False
        self.first: int | None = None
        """The signal that came first, if one did."""
        self._fd, self._told = os.pipe()
        os.set_blocking(self._fd, False)
        os.set_blocking(self._told, False)
        self._before = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        # The handlers have nothing to do, but a signal without one is not written into the pipe.
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}

    def tell(self) -> None:
        """Do as if one of the signals had come. For any thread."""
        os.write(self._told, self._numbers[:1])

    def wait(self, *descriptors: int) -> bool:
        """Wait for a signal, or for input on one of the descriptors: whether a signal came. For any one thread."""
        while not self._came:
            if not self._told_of(_ready(None, self._fd, *descriptors)):
                return False
        return True

    def close(self) -> bool:
        """Handle these signals as before: whether one came."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before)
        self._told_of(_ready(0, self._fd))
        os.close(self._fd)
        os.close(self._told)
        return self._came

    def _told_of(self, ready: set[int]) -> bool:
        """Whether a signal was among what is ready."""
        if self._fd not in ready:
            return False
        told = os.read(self._fd, 512)  # other signals that have a handler may be in it
        came = [number for number in told if number in self._numbers]
        if came and not self._came:
            self._came, self.first = True, came[0]
        return True


@contextmanager
def fatal_interrupts() -> Iterator[None]:
    """In this block Ctrl-C ends the process at once. For imports, in which Python drops a KeyboardInterrupt now and then."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(event: threading.Event, seconds: float = math.inf) -> None:
    """Wait until the event is set. In the main thread a signal is acted on within LOOK_SECONDS; for a program with its own
    handlers, which a pipe would take the place of."""
    if threading.current_thread() is not threading.main_thread():
        event.wait(None if seconds == math.inf else seconds)
        return
    until = time.monotonic() + seconds
    while not event.wait(max(0.0, min(LOOK_SECONDS, until - time.monotonic()))) and time.monotonic() < until:
        pass


def _ready(milliseconds: int | None, *descriptors: int) -> set[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(milliseconds)}


@contextmanager
def interruptible() -> Iterator[SignalPipe]:
    """Ctrl-C ends the waits of this block, after which it raises KeyboardInterrupt. It stays ignored if it was."""
    pipe = SignalPipe(*(() if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else (signal.SIGINT,)))
    came = False
    try:
        yield pipe
    finally:
        came = pipe.close()
    if came:
        raise KeyboardInterrupt
