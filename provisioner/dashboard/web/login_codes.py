"""One-time codes that log somebody in who may write into the home: whoever can do that has everything already.

A code is a file in the home, named by its hash. Deleting a file succeeds once, so a code is worth something once, whatever
becomes of the processes. It is 256 random bits, so its hash needs no salt.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Final

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

PREFIX: Final = "ptl_"
LIFETIME_MS: Final = 600_000


def make(home: Home, now: int) -> str:
    """A new code, good for ten minutes. Raises StorageFailed."""
    code = PREFIX + secrets.token_urlsafe(32)
    try:
        os.makedirs(home.logins, mode=DIRECTORY_MODE, exist_ok=True)
        _sweep(home, now)
        file = os.open(_path(home, code), os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with open(file, "w") as opened:
            opened.write(str(now + LIFETIME_MS))
    except OSError as error:
        raise StorageFailed(
            f"no login link can be made in {home.logins}: {error.strerror}", f"Let this user own {home.path}"
        ) from error
    return code


@contextmanager
def redeemed(home: Home, code: str, now: int) -> Iterator[bool]:
    """Is this a code that is good now? It is not any more for anybody else, and after the block for nobody; where that
    raises, it is as good as before."""
    path = _path(home, code)
    taken = f"{path}.taken"
    try:
        os.rename(path, taken)
    except OSError:
        yield False
        return
    try:
        yield now < _expiry(taken)
    except ProvisionerError:
        os.rename(taken, path)
        raise
    os.unlink(taken)


def link(base: str, code: str) -> str:
    """The address to open. The code is behind the #: browsers send that to nobody, so no log has it."""
    return f"{base.rstrip('/')}/login#{code}"


def _path(home: Home, code: str) -> str:
    return os.path.join(home.logins, sha256(code.encode("utf-8", "surrogateescape")).hexdigest())


def _sweep(home: Home, now: int) -> None:
    for name in os.listdir(home.logins):
        path = os.path.join(home.logins, name)
        try:
            if _expiry(path) <= now:
                os.unlink(path)
        except FileNotFoundError:  # somebody has just used it
            continue


def _expiry(path: str) -> int:
    """When (ms) the code of a file ends; one that was cut off is over."""
    with open(path) as file:
        text = file.read()
    return int(text) if text.isdigit() else 0
