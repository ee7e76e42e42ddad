"""What happens to messages of the queue, and the loop that hands them to a handler.

The rules are pure and shared by the stores: what a failed message becomes. The loop claims, keeps the claims alive
while their handlers run, and gives back what the handlers made of them.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from provisioner.kv import limits
from provisioner.kv.codec import value
from provisioner.kv.errors import Closed, KvError
from provisioner.kv.model import Enqueue, Message
from provisioner.kv.store import Store
from provisioner.system.service_thread import ServiceThread
from provisioner.system.signals import wait_for

DEADLINE: Final = 5_000  # milliseconds after which a message without a renewal was abandoned
PATIENCE: Final = 60_000  # milliseconds for messages that Deno holds, which renews nothing; it too looks once a minute
RENEWAL: Final = 2.0  # seconds between renewals
LONGEST_WAIT: Final = 60.0  # seconds until the queue is looked at without a reason
MOST_RUNNING: Final = 100  # handlers at a time, as in Deno

_log = logging.getLogger("provisioner.kv")


class Retry(NamedTuple):
    """Try again at `at`, and then with the rest of the schedule."""

    at: int
    backoff: tuple[int, ...]


class GiveUp(NamedTuple):
    """The payload goes to these keys, as V8 bytes."""

    keys: tuple[bytes, ...]


def failed(backoff: tuple[int, ...], keys: tuple[bytes, ...], now: int) -> Retry | GiveUp:
    """What becomes of a message whose handler failed."""
    return Retry(now + backoff[0], backoff[1:]) if backoff else GiveUp(keys)


def columns(enqueue: Enqueue) -> tuple[str, str]:
    """The schedule and the keys as the file holds them: JSON, keys as lists of bytes."""
    backoff = limits.BACKOFF_DEFAULT if enqueue.backoff is None else enqueue.backoff
    return compact(list(backoff)), compact([list(key) for key in enqueue.keys_if_undelivered])


def compact(item: object) -> str:
    return json.dumps(item, separators=(",", ":"))


def schedule(column: str | bytes) -> tuple[int, ...]:
    """The intervals in a column. Nonsense is an empty schedule: a broken row must not stop the queue."""
    items = _parsed(column)
    return tuple(item for item in items if isinstance(item, int) and item >= 0)


def undelivered(column: str | bytes) -> tuple[bytes, ...]:
    """The keys in a column."""
    keys = []
    for item in _parsed(column):
        if not isinstance(item, list) or len(item) > limits.KEY_READ:  # a number would be that many bytes
            continue
        try:
            keys.append(bytes(item))
        except (TypeError, ValueError):
            continue
    return tuple(keys)


def _parsed(column: str | bytes) -> list[Any]:
    try:
        items = json.loads(column)
    except (ValueError, TypeError, RecursionError):
        return []
    return items if isinstance(items, list) else []


class Renewer:
    """A thread that renews the messages in progress, as long as there are some."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._running: set[str] = set()
        self._stop = threading.Event()
        self._thread = ServiceThread("kv queue", self._run)
        self._thread.start()

    def add(self, message: Message) -> None:
        self._running.add(message.id)

    def remove(self, message: Message) -> None:
        self._running.discard(message.id)

    def close(self) -> None:
        self._stop.set()
        self._thread.stop()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(RENEWAL):
            if running := tuple(self._running):
                try:
                    self._store.renew(running, self._clock())
                except Closed:
                    return
                except KvError:
                    _log.exception("the messages that are being handled could not be renewed")


def seconds_until(now: int, *times: int | None) -> float:
    """How long to wait for the first of these times, in seconds."""
    return min((max(0.0, (time - now) / 1000) for time in times if time is not None), default=LONGEST_WAIT)


def handled(payload: bytes, handler: Callable[[Any], object]) -> bool:
    """Whether the handler took the message. What it raises is logged, and the message tried again."""
    try:
        handler(value.from_v8(payload))
    except Exception:
        _log.exception("the handler of a queue's message failed")
        return False
    return True


class Dispatcher:
    """Hands messages to a handler, one after the other, in the calling thread, until it is closed."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.current_thread()
        self._closed = False

    def run(self, handler: Callable[[Any], object]) -> None:
        try:
            self._listen(handler)
        except Closed:
            if not self._closed:
                raise
        finally:
            self._ended.set()  # even if it was closed before it started: close() waits for this

    def _listen(self, handler: Callable[[Any], object]) -> None:
        subscription = self._store.watch_queue(self._woken.set)
        renewer = Renewer(self._store, self._clock)
        try:
            self._loop(handler, renewer)
        finally:
            subscription.close()
            renewer.close()

    def close(self) -> bool:
        """End it, and wait until it has ended. False in the thread where it runs: it ends after this message."""
        self._closed = True
        self._woken.set()
        if self._thread is threading.current_thread():
            return False
        self._ended.wait()
        return True

    def _loop(self, handler: Callable[[Any], object], renewer: Renewer) -> None:
        while not self._closed:
            self._woken.clear()
            now = self._clock()
            _, deadline = self._store.revive(now)
            messages, due = self._store.claim(now, 1)
            for message in messages:
                renewer.add(message)
                self._handle(message, handler)
                renewer.remove(message)
            if not messages:
                wait_for(self._woken, min(seconds_until(self._clock(), due, deadline), LONGEST_WAIT))

    def _handle(self, message: Message, handler: Callable[[Any], object]) -> None:
        success = False
        try:
            success = handled(message.payload, handler)
        finally:  # even if the program is interrupted: another process gets it soon
            self._store.finish(message.id, success, self._clock())
