"""Sessions of the dashboard in the home: they outlive a restart of the server, are listed, and end when they are revoked.

A session is a file. Its name is a keyed hash of its secrets, its contents are its owner, and its modification time is its
last use. Deleting the file ends the session. A new key of the home ends all sessions, because no name matches any longer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from hmac import compare_digest
from typing import Final

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import TokenId
from provisioner.system import secret_key
from provisioner.system.atomic_file import replace_file
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

IDLE_MS: Final = 12 * 3_600_000
LONGEST_MS: Final = 7 * 24 * 3_600_000
MOST: Final = 1000  # sessions at the same time; the least recently used one is deleted first
_USED_EVERY_MS: Final = 60_000  # a file is touched at most once a minute


@dataclass(frozen=True, slots=True)
class StoredSession:
    """`principal` is the visitor's name in the audit log. `token_id` is set if a token opened it: they end together. Times in
    milliseconds since 1970."""

    id: str
    principal: str
    token_id: TokenId | None
    read_only: bool
    began_at: int
    seen_at: int

    @property
    def ends_at(self) -> int:
        """When it ends unless it is used before, and its latest end."""
        return min(self.seen_at + IDLE_MS, self.began_at + LONGEST_MS)


def add(home: Home, opener: str, stored: StoredSession, now: int) -> None:
    """Raises StorageFailed."""
    key = secret_key.secret(home)
    path = _path(home, key, opener)
    try:
        os.makedirs(home.sessions, mode=DIRECTORY_MODE, exist_ok=True)
        _make_room(home, key, now)
        replace_file(path, json.dumps({**asdict(stored), "proof": _proof(key, stored.id)}).encode(), FILE_MODE)
        os.utime(path, ns=(now * 1_000_000, now * 1_000_000))
    except OSError as error:
        raise StorageFailed(
            f"the session cannot be stored in {home.sessions}: {error.strerror}",
            f"Make this user the owner of {home.path}",
        ) from error


def find(home: Home, opener: str, now: int, *, used: bool) -> StoredSession | None:
    """The session that has these secrets and has not ended. With `used`, its twelve hours restart. Raises StorageFailed."""
    key = secret_key.secret(home)
    path = _path(home, key, opener)
    found = _read(path, key)
    if found is None:
        return None
    if found.ends_at <= now:
        _delete(path)
        return None
    if used and now - found.seen_at >= _USED_EVERY_MS:
        with suppress(OSError):  # it was ended at this moment
            os.utime(path, ns=(now * 1_000_000, now * 1_000_000))
    return found


def listing(home: Home, now: int) -> list[StoredSession]:
    """Those that have not ended, the oldest first. Raises StorageFailed."""
    found = [stored for _, stored in _all(home, secret_key.secret(home)) if stored is not None]
    return sorted((each for each in found if each.ends_at > now), key=lambda each: (each.began_at, each.id))


def end(home: Home, opener: str) -> None:
    _delete(_path(home, secret_key.secret(home), opener))


def revoke(home: Home, whether: Callable[[StoredSession], bool]) -> list[StoredSession]:
    """End some sessions. Returns those that were ended. Raises StorageFailed."""
    ended = []
    for path, stored in _all(home, secret_key.secret(home)):
        if stored is not None and whether(stored):
            _delete(path)
            ended.append(stored)
    return ended


def _make_room(home: Home, key: bytes, now: int) -> None:
    """Delete sessions that have ended or belong to an earlier key, and the least recently used of too many."""
    living = []
    for path, stored in _all(home, key):
        if stored is None or stored.ends_at <= now:
            _delete(path)
        else:
            living.append((stored.seen_at, path))
    for _, path in sorted(living)[: max(0, len(living) + 1 - MOST)]:
        _delete(path)


def _all(home: Home, key: bytes) -> Iterator[tuple[str, StoredSession | None]]:
    """Every file; None for one that does not match this key."""
    try:
        names = os.listdir(home.sessions)
    except OSError:
        return
    for name in names:
        path = os.path.join(home.sessions, name)
        yield path, _read(path, key)


def _read(path: str, key: bytes) -> StoredSession | None:
    try:
        with open(path, encoding="utf-8") as file:
            values = json.loads(file.read())
            seen = os.fstat(file.fileno()).st_mtime_ns // 1_000_000
        proof = values.pop("proof")
        stored = StoredSession(**{**values, "seen_at": seen})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # it was ended, or is damaged
        return None
    return stored if compare_digest(str(proof), _proof(key, stored.id)) else None


def _proof(key: bytes, session_id: str) -> str:
    """Proves that the file was written under this key: its name reveals nothing without the session's secrets."""
    return secret_key.session_name(key, f"id {session_id}")


def _path(home: Home, key: bytes, opener: str) -> str:
    return os.path.join(home.sessions, secret_key.session_name(key, f"opener {opener}"))


def _delete(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
