"""Who is logged in. Sessions live in memory: they end with the server, and no file holds what opens one."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from provisioner.kv.model import StoredRow

IDLE_MS: Final = 12 * 3_600_000
KEPT: Final = 20  # of up to 64 KiB each
NOTES: Final = 5
MOST: Final = 1000  # at a time; the one that has rested longest goes first


@dataclass(frozen=True, slots=True)
class Offer:
    """A button beside a note, which takes back what the note tells of: a form of these ``fields``, sent to ``path``."""

    text: str
    path: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Note:
    """What a change came to, for the next page; `following`: for the one that its sender is led to, and not for another that
    is open and fetches itself again."""

    text: str
    offer: Offer | None = None
    problem: bool = False
    following: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """What a change of an entry replaced: what was `before` (None: nothing), and the versionstamp that it has got (None: it
    was deleted)."""

    database_id: str
    key: bytes
    before: StoredRow | None
    after: bytes | None


@dataclass(slots=True)
class Session:
    """``principal`` names who it is, for the audit log. ``token_id`` is set where a token opened it: they end together.

    ``csrf`` is in every form, ``notes`` are shown once, on the next page. What its last changes replaced
    is ``kept``. ``seen_at`` in milliseconds since 1970.
    """

    principal: str
    token_id: str | None
    read_only: bool
    seen_at: int
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    notes: list[Note] = field(default_factory=list)

    kept: dict[str, Kept] = field(default_factory=dict)

    def keep(self, replaced: Kept) -> str:
        """Its name."""
        name = secrets.token_hex(8)
        self.kept[name] = replaced
        while len(self.kept) > KEPT:
            self.kept.pop(next(iter(self.kept)), None)
        return name

    def tell(self, note: Note) -> None:
        self.notes = [*self.notes[1 - NOTES :], note]

    @property
    def at_home(self) -> bool:
        """Is it somebody who may write into the home anyway? So does who has made a login link."""
        return self.token_id is None

    def take_notes(self, *, again: bool = False) -> list[Note]:
        """Those for a page, or for one that is fetched again."""
        notes = self.notes
        self.notes = [note for note in notes if again and note.following]
        return [note for note in notes if note not in self.notes]


class Sessions:
    """Found by the secret in the cookie, of which only the hash is kept. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, session: Session) -> str:
        """The secret for the cookie."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._sessions) >= MOST:
                del self._sessions[min(self._sessions, key=lambda digest: self._sessions[digest].seen_at)]
            self._sessions[_digest(secret)] = session
        return secret

    def find(self, secret: str, now: int, *, used: bool = True) -> Session | None:
        """With `used`, its twelve hours begin anew."""
        with self._lock:
            session = self._sessions.get(_digest(secret))
            if session is None:
                return None
            if now - session.seen_at > IDLE_MS:
                del self._sessions[_digest(secret)]
                return None
            if used:
                session.seen_at = now
            return session

    def end(self, secret: str) -> None:
        with self._lock:
            self._sessions.pop(_digest(secret), None)


def cookie(header: str, name: str) -> str:
    """The value of a cookie in the header of a request, as it stands there; empty where there is none.

    Python's own parser takes values out of their quotes, in a time that grows with the square: anybody could stop the server.
    """
    for pair in header.split(";"):
        found, _, value = pair.partition("=")
        if found.strip() == name:
            return value.strip()
    return ""


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
