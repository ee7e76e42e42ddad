"""Sessions of previews. A file is a session: the router looks for the one that the cookie of a request names, in the directory of
the request's host. Deleting the file ends the session, at once and without a daemon.

The value of the cookie is a secret and the time (s) at which the session ends, ``<64 hex>.<time>``, and so is the file's name.
It is not hashed: Caddy has nothing to hash it with, and a request with a session must not need Python. The home, which
only its user can read, has the key that makes every other credential, so this gives nothing more to anyone who reads it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from provisioner.core.errors import StorageFailed
from provisioner.core.host_names import is_host_name
from provisioner.core.ids import TokenId
from provisioner.hosting.router.cookies import VALUE, cookie_name
from provisioner.hosting.router.names import SESSIONS
from provisioner.system import secret_key
from provisioner.system.atomic_file import replace_file
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

LASTS_MS = 7 * 24 * 3_600_000
MOST = 1000  # of a host at a time; the one that ends first goes first
SECRET_BYTES = 32
_VALUE = re.compile(VALUE)


@dataclass(frozen=True, slots=True)
class Session:
    """`principal` names who it is. It ends with the token or the link that opened it, if that is set, and at `ends_at` (ms)."""

    id: str
    host: str
    app_id: str
    principal: str
    token_id: TokenId | None
    link_id: str | None
    began_at: int
    ends_at: int


class Sessions:
    """Those of a home. For all threads and processes: nothing is kept but in the files."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._directory = os.path.join(home.path, "router", SESSIONS)

    def begin(
        self,
        host: str,
        app_id: str,
        principal: str,
        now: int,
        *,
        ends_at: int | None = None,
        token_id: TokenId | None = None,
        link_id: str | None = None,
    ) -> tuple[Session, str]:
        """A new session and the value of its cookie. It lasts seven days, or until `ends_at`. Raises StorageFailed."""
        if not is_host_name(host):
            raise ValueError(f"{host!r} is not a host name")
        ends = min(now + LASTS_MS, ends_at if ends_at is not None else now + LASTS_MS) // 1000
        session = Session(secrets.token_hex(8), host, app_id, principal, token_id, link_id, now, ends * 1000)
        value = f"{secrets.token_hex(SECRET_BYTES)}.{ends}"
        proof = self._proof(session)
        directory = os.path.join(self._directory, host)
        try:
            for each in (self._directory, directory):
                os.makedirs(each, mode=DIRECTORY_MODE, exist_ok=True)
            self._make_room(directory, now)
            path = os.path.join(directory, value)
            replace_file(path, json.dumps({**asdict(session), "proof": proof}).encode(), FILE_MODE)
        except OSError as error:
            raise StorageFailed(
                f"the session cannot be stored in {directory}: {error.strerror}",
                f"Make this user the owner of {self._home.path}",
            ) from error
        return session, value

    def find(self, host: str, cookie_header: str, now: int, *, encrypted: bool) -> str | None:
        """The value of a cookie in the header that is a session of this host now."""
        for value in _values(cookie_header, cookie_name(encrypted=encrypted)):
            if (
                int(value.partition(".")[2]) * 1000 > now
                and is_host_name(host)
                and os.path.isfile(self._path(host, value))
            ):
                return value
        return None

    def end(self, host: str, value: str) -> None:
        if is_host_name(host) and _VALUE.fullmatch(value):
            _unlink(self._path(host, value))

    def listing(self, now: int) -> list[Session]:
        """Those that have not ended, the oldest first."""
        found = (session for _, session in self._all() if session is not None and session.ends_at > now)
        return sorted(found, key=lambda each: (each.began_at, each.id))

    def revoke(self, whether: Callable[[Session], bool]) -> list[Session]:
        """End some: those that were ended. A file that is damaged or of an earlier key goes with them."""
        ended = []
        for path, session in self._all():
            if session is None:
                _unlink(path)
            elif whether(session):
                _unlink(path)
                ended.append(session)
        return ended

    def sweep(self, now: int) -> None:
        """Delete what has ended, or is of an earlier key, and directories of hosts without any."""
        self.revoke(lambda session: session.ends_at <= now)
        for host in _names(self._directory):
            with suppress(OSError):
                os.rmdir(os.path.join(self._directory, host))

    def _all(self) -> Iterator[tuple[str, Session | None]]:
        for host in _names(self._directory):
            for name in _names(os.path.join(self._directory, host)):
                if _VALUE.fullmatch(name):
                    path = self._path(host, name)
                    yield path, self._read(path, host)

    def _read(self, path: str, host: str) -> Session | None:
        try:
            with open(path, encoding="utf-8") as file:
                values: dict[str, Any] = json.load(file)
            proof = str(values.pop("proof"))
            session = Session(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        known = session.host == host and secrets.compare_digest(proof, self._proof(session))
        return session if known else None

    def _proof(self, session: Session) -> str:
        """That the file was written under this key."""
        return secret_key.preview_name(secret_key.secret(self._home), "session proof", f"{session.id} {session.host}")

    def _make_room(self, directory: str, now: int) -> None:
        """The names end with the times at which the sessions end."""
        by_end = sorted((int(name.partition(".")[2]), name) for name in _names(directory) if _VALUE.fullmatch(name))
        for place, (ends, name) in enumerate(by_end):
            if ends * 1000 <= now or place <= len(by_end) - MOST:
                _unlink(os.path.join(directory, name))

    def _path(self, host: str, value: str) -> str:
        return os.path.join(self._directory, host, value)


def _values(header: str, wanted: str) -> Iterator[str]:
    """What the header of a request has for our cookie."""
    for pair in header.split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == wanted and _VALUE.fullmatch(value.strip()):
            yield value.strip()


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
