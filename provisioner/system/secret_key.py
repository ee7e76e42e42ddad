"""The home's secret key, and the credentials derived from it. Light: `exec` imports it in url mode.

The key is never in the registry, so a copy of only the registry contains no credential. Each purpose has its own keyed
hash, so a credential for one is invalid for another.
"""

from __future__ import annotations

import os

from provisioner.core.errors import StorageFailed
from provisioner.system import failpoints
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

try:
    from _blake2 import blake2b  # `hashlib` would bring OpenSSL along
except ImportError:
    from hashlib import blake2b

KEY_BYTES = 32
INJECTED_PREFIX = "ptd_"

_INJECTED = b"injected"
_DATA_PATH = b"data path"
_ROLE = b"role"
_LOGIN = b"login code"
_SESSION = b"session"
_PREVIEW = b"preview"


def secret(home: Home) -> bytes:
    """The key; it is created if there is none. Raises `StorageFailed`."""
    try:
        with open(home.key, "rb") as file:
            found = file.read(KEY_BYTES + 1)
    except FileNotFoundError:
        return _make(home)
    except OSError as error:
        raise _refused(home, error) from error
    if len(found) != KEY_BYTES:
        raise StorageFailed(
            f"the key {home.key} is damaged: it must be {KEY_BYTES} bytes",
            "Restore it from a backup, or create a new one: provisioner token rotate-key",
        )
    return found


def mark(home: Home) -> tuple[int, int] | None:
    """A value that changes whenever the key is replaced; None without a key."""
    try:
        found = os.stat(home.key)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def rotate(home: Home) -> None:
    """Replace the key: everything that was derived from the old one, or signed with it, becomes invalid.

    The old key's fingerprint is stored until `rotation_done`: if this process is killed, the next reconcile completes it.
    """
    _make(home, anew=True)
    failpoints.point("rotate.replaced")


def unfinished_rotation(home: Home) -> str | None:
    """The fingerprint of the key before a rotation whose renewals are due; None if there is none. One that was cut off
    before the key was replaced is forgotten. Raises `StorageFailed`."""
    if not os.path.exists(_before(home)):
        return None
    try:
        with _key_locked(home):
            before = _read_before(home)
            if before is not None and before == fingerprint(home):
                os.unlink(_before(home))
                return None
    except OSError as error:
        raise _refused(home, error) from error
    return before


def rotation_done(home: Home, before: str) -> None:
    """The renewals after this rotation are recorded. If the key was replaced again in the meantime, others are due."""
    try:
        with _key_locked(home):
            if _read_before(home) == before:
                os.unlink(_before(home))
    except OSError as error:
        raise _refused(home, error) from error


def _read_before(home: Home) -> str | None:
    try:
        with open(_before(home)) as file:
            return file.read()
    except FileNotFoundError:
        return None


def fingerprint(home: Home) -> str:
    """Tells one key from another; empty without a key. Raises OSError."""
    try:
        with open(home.key, "rb") as file:
            return blake2b(file.read(), digest_size=32).hexdigest()
    except FileNotFoundError:
        return ""


def _before(home: Home) -> str:
    return f"{home.key}.before"


def injected(key: bytes, database_id: str, generation: int, share: str = "") -> str:
    """The token that opens one database, until its generation is raised, the key is replaced, or the `share` with this id,
    which lets another timeline use it, ends. It is the same each time."""
    return f"{INJECTED_PREFIX}{database_id}_{_keyed(key, _INJECTED, _issue(database_id, generation, share))}"


def role_password(key: bytes, database_id: str, generation: int, share: str = "") -> str:
    """The password of a database's role on its server, or of the role of a share, valid equally long."""
    return _keyed(key, _ROLE, _issue(database_id, generation, share))


def _issue(database_id: str, generation: int, share: str) -> str:
    return f"{database_id} {generation} {share}".rstrip()


def signature(key: bytes, text: str) -> str:
    """The signature of a data-path token's text."""
    return _keyed(key, _DATA_PATH, text)


def login_name(key: bytes, code: str) -> str:
    """The identifier of a code that logs in to the dashboard; it does not reveal the code."""
    return _keyed(key, _LOGIN, code)


def session_name(key: bytes, opener: str) -> str:
    """The identifier of a session of the dashboard; it does not reveal the session's secrets."""
    return _keyed(key, _SESSION, opener)


def preview_name(key: bytes, kind: str, secret_text: str) -> str:
    """What a secret that opens previews is known by; it says nothing of the secret."""
    return _keyed(key, _PREVIEW, f"{kind} {secret_text}")


def _keyed(key: bytes, purpose: bytes, text: str) -> str:
    return blake2b(text.encode(), key=key, person=purpose, digest_size=32).hexdigest()


def _make(home: Home, *, anew: bool = False) -> bytes:
    from provisioner.system.atomic_file import replace_file, sync_path

    directory = os.path.dirname(home.key)
    try:
        with _key_locked(home):
            if os.path.exists(home.key) and not anew:
                return secret(home)
            os.makedirs(directory, mode=DIRECTORY_MODE, exist_ok=True)
            os.chmod(directory, DIRECTORY_MODE)
            if anew:
                replace_file(_before(home), fingerprint(home).encode(), FILE_MODE)
                failpoints.point("rotate.intended")
            key = os.urandom(KEY_BYTES)
            replace_file(home.key, key, FILE_MODE)
            sync_path(home.path)
    except OSError as error:
        raise _refused(home, error) from error
    return key


def _key_locked(home: Home) -> AbstractContextManager[None]:
    from provisioner.system.file_lock import locked

    return locked(os.path.join(home.locks, "keys.lock"), "the home's key")


def _refused(home: Home, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"the key {home.key} cannot be read or created: {error.strerror}",
        f"Make the user that runs provisioner the owner of {home.path}",
    )
