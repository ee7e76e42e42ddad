"""What this process keeps of its work on PostgreSQL servers: idle sessions of the administrator, and refusals."""

from __future__ import annotations

import os
from threading import Lock

from provisioner.core.errors import StorageFailed
from provisioner.kv.stores.postgres.connection import Bounded

_KEPT_OPEN = 4


class SessionPool:
    """Sessions by the URL that they were connected with; those of a parent process are not this one's. Also until when (by the
    monotonic clock) a server is not asked again, and its answer, by its URL. Its owner closes it."""

    def __init__(self) -> None:
        self._refusals: dict[str, tuple[float, StorageFailed]] = {}
        self._idle: dict[tuple[int, str], list[Bounded]] = {}
        self._guard = Lock()

    def take(self, url: str) -> Bounded | None:
        """An idle session, which is the caller's from now on."""
        with self._guard:
            kept = self._idle.get((os.getpid(), url))
            return kept.pop() if kept else None

    def give(self, url: str, session: Bounded) -> None:
        """Keep a session for the next; it is closed if there are enough."""
        with self._guard:
            kept = self._idle.setdefault((os.getpid(), url), [])
            if len(kept) < _KEPT_OPEN:
                kept.append(session)
                return
        session.close()

    def drop(self, url: str) -> None:
        """One of these has ended or hangs, so the others will."""
        with self._guard:
            gone = self._idle.pop((os.getpid(), url), [])
        for session in gone:
            session.close()

    def refusal(self, url: str, now: float, asking: float) -> StorageFailed | None:
        """What the server has said, if it is not to be asked now. Else the others are refused until the caller knows, but for
        `asking` seconds at most."""
        with self._guard:
            known = self._refusals.get(url)
            if known is None:
                return None
            if now < known[0]:
                return known[1]
            self._refusals[url] = (now + asking, known[1])
            return None

    def refused(self, url: str, until: float, answer: StorageFailed) -> None:
        """The server has said this, and is not asked again until then."""
        with self._guard:
            self._refusals[url] = (until, answer)

    def answered(self, url: str) -> None:
        with self._guard:
            self._refusals.pop(url, None)

    def forget_refusals(self) -> None:
        with self._guard:
            self._refusals.clear()

    def close(self) -> None:
        """End all sessions of this process, and forget what servers said. It can be used again."""
        self.forget_refusals()
        for pid, url in list(self._idle):
            if pid == os.getpid():
                self.drop(url)
