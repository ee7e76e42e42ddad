"""Logged-in sessions.

A session is opened by two secrets together: one in its cookie, and one in its addresses (`/~SECRET/…`, its root). Browsers send
cookies to every port of a host, so any program that serves a page may receive this cookie. They send addresses only to
this server. The cookie is for its root alone, so a browser does not even send it to another program.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from provisioner.core.ids import DatabaseId, TokenId
from provisioner.dashboard.web import session_files
from provisioner.dashboard.web.session_files import MOST, StoredSession
from provisioner.kv.model import StoredRow
from provisioner.system.home import Home

KEPT: Final = 20  # of up to 64 KiB each
NOTES: Final = 5
ROOT_BYTES: Final = 16
SECRET_BYTES: Final = 32
_ROOT: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Offer:
    """A button beside a note, which undoes the change in the note: a form of these ``fields``, sent to ``path``."""

    text: str
    path: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Notice:
    """The outcome of a change, for the next page; `following`: for the page that its sender is redirected to, not for another
    open page that fetches itself again."""

    text: str
    offer: Offer | None = None
    problem: bool = False
    following: bool = False


@dataclass(frozen=True, slots=True)
class ReplacedEntry:
    """The entry before a change (`before`, None: there was none), and its new versionstamp (None: it was
    deleted)."""

    database_id: DatabaseId
    key: bytes
    before: StoredRow | None
    after: bytes | None


@dataclass(slots=True)
class LoginSession:
    """A logged-in session. `stored` is its record in the home, `root` the part of each address that it lives under.

    ``csrf`` is in every form, ``notes`` are shown once, on the next page. The entries before its last changes are ``kept``.
    These two are lost with the server.
    """

    stored: StoredSession
    root: str
    secret: str = field(repr=False)
    notes: list[Notice] = field(default_factory=list)
    kept: dict[str, ReplacedEntry] = field(default_factory=dict)

    @property
    def opener(self) -> str:
        return f"{self.root} {self.secret}"

    @property
    def principal(self) -> str:
        return self.stored.principal

    @property
    def token_id(self) -> TokenId | None:
        return self.stored.token_id

    @property
    def read_only(self) -> bool:
        return self.stored.read_only

    @property
    def csrf(self) -> str:
        """The same token after a restart, so that an open form stays valid."""
        return hmac.new(self.secret.encode(), b"csrf", sha256).hexdigest()

    def keep(self, replaced: ReplacedEntry) -> str:
        """Its name."""
        name = secrets.token_hex(8)
        self.kept[name] = replaced
        while len(self.kept) > KEPT:
            self.kept.pop(next(iter(self.kept)), None)
        return name

    def tell(self, note: Notice) -> None:
        self.notes = [*self.notes[1 - NOTES :], note]

    @property
    def at_home(self) -> bool:
        """Whether the visitor may write into the home anyway, as anyone who has created a login link may."""
        return self.token_id is None

    def take_notes(self, *, again: bool = False) -> list[Notice]:
        """The notes for a page, or for one that is fetched again."""
        notes = self.notes
        self.notes = [note for note in notes if again and note.following]
        return [note for note in notes if note not in self.notes]


class LoginSessions:
    """The sessions of a home. For all threads; each call reads the home, so a session that was ended there has ended here."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._sessions: dict[
            str, LoginSession
        ] = {}  # by their secrets: their notes, and the entries before their changes

    def begin(self, principal: str, token_id: TokenId | None, read_only: bool, now: int) -> LoginSession:
        """Raises StorageFailed."""
        stored = StoredSession(secrets.token_hex(8), principal, token_id, read_only, now, now)
        session = LoginSession(stored, secrets.token_urlsafe(ROOT_BYTES), secrets.token_urlsafe(SECRET_BYTES))
        session_files.add(self._home, session.opener, stored, now)
        self._remember(session)
        return session

    def find(self, root: str, secret: str, now: int, *, used: bool = True) -> LoginSession | None:
        """The session under this root whose cookie has this secret. With `used`, its twelve hours restart."""
        if not (_ROOT.fullmatch(root) and _SECRET.fullmatch(secret)):
            return None
        opener = f"{root} {secret}"
        stored = session_files.find(self._home, opener, now, used=used)
        if stored is None:
            with self._lock:
                self._sessions.pop(opener, None)
            return None
        with self._lock:
            session = self._sessions.get(opener)
        if session is None:
            session = self._remember(LoginSession(stored, root, secret))
        return session

    def end(self, session: LoginSession) -> None:
        session_files.end(self._home, session.opener)
        with self._lock:
            self._sessions.pop(session.opener, None)

    def _remember(self, session: LoginSession) -> LoginSession:
        with self._lock:
            while len(self._sessions) >= MOST:
                del self._sessions[next(iter(self._sessions))]
            return self._sessions.setdefault(session.opener, session)


def cookie(header: str, name: str) -> str:
    """The value of a cookie in the header of a request, as it is written there; empty if there is none.

    Python's own parser unquotes values in quadratic time, so any client could stop the server with it.
    """
    for pair in header.split(";"):
        found, _, value = pair.partition("=")
        if found.strip() == name:
            return value.strip()
    return ""
