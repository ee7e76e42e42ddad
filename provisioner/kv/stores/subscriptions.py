"""Subscriptions to keys: a store has one of these, and reports its changes to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence


class Wakeups:
    """Subscriptions to keys and to the queue. Wakes outside of its lock, so a waker may subscribe or close."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[bytes, set[WakeupSubscription]] = {}
        self._queue: set[WakeupSubscription] = set()

    def __bool__(self) -> bool:
        return bool(self._by_key or self._queue)

    def add(self, keys: Sequence[bytes], wake: Callable[[], None], *, queue: bool = False) -> WakeupSubscription:
        wanted = WakeupSubscription(self, tuple(keys), wake)
        with self._lock:
            for key in keys:
                self._by_key.setdefault(key, set()).add(wanted)
            if queue:
                self._queue.add(wanted)
        return wanted

    def remove(self, wanted: WakeupSubscription) -> None:
        with self._lock:
            self._queue.discard(wanted)
            for key in wanted.keys:
                if (others := self._by_key.get(key)) is not None:
                    others.discard(wanted)
                    if not others:
                        del self._by_key[key]

    def changed(self, keys: Iterable[bytes], *, queue: bool = False) -> None:
        """These entries changed; `queue`: and there are messages."""
        with self._lock:
            woken = {wanted for key in keys if key in self._by_key for wanted in self._by_key[key]}
            if queue:
                woken |= self._queue
        for wanted in woken:
            wanted.wake()

    def hashed(self, hashes: bytes, hash_of: Callable[[bytes], bytes], *, queue: bool = False) -> None:
        """Entries changed whose keys have these hashes, of four bytes each."""
        changed = {hashes[at : at + 4] for at in range(0, len(hashes), 4)}
        with self._lock:
            keys = list(self._by_key)
        self.changed([key for key in keys if hash_of(key) in changed], queue=queue)

    def everything(self) -> None:
        """Report that any key may have changed."""
        with self._lock:
            woken = self._queue.union(*self._by_key.values())
        for wanted in woken:
            wanted.wake()


class WakeupSubscription:
    """One subscription, until it is closed."""

    __slots__ = ("_home", "keys", "wake")

    def __init__(self, home: Wakeups, keys: tuple[bytes, ...], wake: Callable[[], None]) -> None:
        self._home = home
        self.keys = keys
        self.wake = wake

    def close(self) -> None:
        self._home.remove(self)
