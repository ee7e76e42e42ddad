"""Secrets that open previews, as files: links, and what CI sends. The home keeps a keyed hash of each, as the file's name.

Deleting the file ends what the secret opens. A new key of the home ends all of them: no name fits any longer.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import TokenId
from provisioner.system import secret_key
from provisioner.system.atomic_file import replace_file
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

SECRET_BYTES = 32
_SECRET_LENGTH = 2 * SECRET_BYTES


@dataclass(frozen=True, slots=True)
class Opener:
    """What a secret opens: the previews of an app, or of a `host` alone, until `ends_at` (ms; None: until it is revoked).

    `principal` made it, by the token `token_id` if that is set: they end together. With `once` it can be used one time.
    """

    id: str
    app_id: str
    host: str | None
    principal: str
    token_id: TokenId | None
    label: str
    created_at: int
    ends_at: int | None
    once: bool = False

    def valid(self, now: int) -> bool:
        return self.ends_at is None or now < self.ends_at


class SecretFiles:
    """Those of one kind: ``links`` or ``bypass``."""

    def __init__(self, home: Home, kind: str) -> None:
        self._home, self._kind = home, kind
        self._directory = os.path.join(home.path, "router", kind)

    def add(self, opener: Opener) -> str:
        """Return its secret, which cannot be read again. Raises StorageFailed."""
        text = secrets.token_hex(SECRET_BYTES)
        key = secret_key.secret(self._home)
        values = {**asdict(opener), "proof": self._proof(key, opener.id)}
        try:
            os.makedirs(self._directory, mode=DIRECTORY_MODE, exist_ok=True)
            replace_file(self._path(key, text), json.dumps(values).encode(), FILE_MODE)
        except OSError as error:
            raise StorageFailed(
                f"nothing can be stored in {self._directory}: {error.strerror}",
                f"Make this user the owner of {self._home.path}",
            ) from error
        return text

    def find(self, text: str, now: int) -> Opener | None:
        """What a secret opens; None if that is nothing, or no longer. Raises StorageFailed."""
        path = self._secret_path(text)
        found = _read(path)[0] if path else None
        return found if found is not None and found.valid(now) else None

    def use(self, text: str, now: int) -> Opener | None:
        """The same; one that can be used once is used then."""
        found = self.find(text, now)
        if found is None or not found.once:
            return found
        try:
            os.unlink(self._secret_path(text))
        except FileNotFoundError:  # another one was faster
            return None
        return found

    def listing(self, now: int) -> list[Opener]:
        """Those that have not ended, the oldest first."""
        found = (opener for _, opener in self._all())
        return sorted((each for each in found if each.valid(now)), key=lambda each: (each.created_at, each.id))

    def revoke(self, whether: Callable[[Opener], bool]) -> list[Opener]:
        """End some: those that were ended."""
        ended = []
        for path, opener in self._all():
            if whether(opener):
                _unlink(path)
                ended.append(opener)
        return ended

    def sweep(self, now: int) -> None:
        """Delete what has ended, or is of an earlier key."""
        for path, opener in self._all(foreign=True):
            if opener.app_id == "" or not opener.valid(now):
                _unlink(path)

    def _all(self, *, foreign: bool = False) -> Iterator[tuple[str, Opener]]:
        key = secret_key.secret(self._home)
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        for name in names:
            path = os.path.join(self._directory, name)
            opener, proof = _read(path)
            if opener is not None and secrets.compare_digest(proof, self._proof(key, opener.id)):
                yield path, opener
            elif foreign and not name.endswith(".new"):
                yield path, Opener("", "", None, "", None, "", 0, 0)

    def _secret_path(self, text: str) -> str:
        if len(text) != _SECRET_LENGTH or not text.isascii() or not text.isalnum():
            return ""
        return self._path(secret_key.secret(self._home), text)

    def _path(self, key: bytes, text: str) -> str:
        return os.path.join(self._directory, secret_key.preview_name(key, self._kind, text))

    def _proof(self, key: bytes, opener_id: str) -> str:
        """That the file was written under this key: its name shows it only to programs with the secret."""
        return secret_key.preview_name(key, f"{self._kind} proof", opener_id)


def _read(path: str) -> tuple[Opener | None, str]:
    try:
        with open(path, encoding="utf-8") as file:
            values: dict[str, Any] = json.load(file)
        proof = str(values.pop("proof"))
        return Opener(**values), proof
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # it was ended, or is damaged
        return None, ""


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
