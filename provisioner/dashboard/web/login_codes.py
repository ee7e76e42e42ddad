"""One-time codes that log somebody in who may write into the home: whoever can do that has everything already.

A code is a file in the home, named by a keyed hash of it. Deleting a file succeeds once, so a code is worth something once,
whatever becomes of the processes; with a new key of the home it is worth nothing. It is 256 random bits.

A browser is given a code in a file that only this user can read: every local user can read the arguments of a process.
"""

from __future__ import annotations

import html
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.system import secret_key
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

PREFIX: Final = "ptl_"
LIFETIME_MS: Final = 600_000
HANDED_MS: Final = 60_000
"""Of a code that a browser is given at once."""
_PAGE_END: Final = ".html"
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={link}">
<title>provisioner</title>
<p><a href="{link}">Open the dashboard</a>. This link works once, within a minute.
"""


def make(home: Home, now: int, lasts_ms: int = LIFETIME_MS) -> str:
    """A new code. Raises StorageFailed."""
    code = PREFIX + secrets.token_urlsafe(32)
    try:
        os.makedirs(home.logins, mode=DIRECTORY_MODE, exist_ok=True)
        _sweep(home, now)
        _write(_path(home, code), str(now + lasts_ms))
    except OSError as error:
        raise _unwritable(home, error) from error
    return code


def handed(home: Home, base: str, now: int) -> str:
    """The path of a file that leads a browser to the dashboard, logged in. It goes with its code. Raises StorageFailed."""
    code = make(home, now, HANDED_MS)
    path = f"{_path(home, code)}{_PAGE_END}"
    try:
        _write(path, _PAGE.format(link=html.escape(link(base, code))))
    except OSError as error:
        raise _unwritable(home, error) from error
    return path


@contextmanager
def redeemed(home: Home, code: str, now: int) -> Iterator[bool]:
    """Is this a code that is good now? It is not any more for anybody else, and after the block for nobody; where that
    raises, it is as good as before. Raises StorageFailed."""
    if not code.startswith(PREFIX) or not code.isascii():
        yield False
        return
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
    with suppress(FileNotFoundError):
        os.unlink(f"{path}{_PAGE_END}")
    os.unlink(taken)


def link(base: str, code: str) -> str:
    """The address to open. The code is behind the #: browsers send that to nobody, so no log has it."""
    return f"{base.rstrip('/')}/login#{code}"


def _path(home: Home, code: str) -> str:
    return os.path.join(home.logins, secret_key.login_name(secret_key.secret(home), code))


def _write(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as file:
        file.write(text)


def _unwritable(home: Home, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"no login link can be made in {home.logins}: {error.strerror}", f"Let this user own {home.path}"
    )


def _sweep(home: Home, now: int) -> None:
    """Delete what is over: codes with their pages."""
    over = set()
    names = sorted(os.listdir(home.logins))  # a code comes before its page
    for name in names:
        code = name.removesuffix(_PAGE_END)
        path = os.path.join(home.logins, name)
        with suppress(FileNotFoundError):  # somebody has just used it
            if code in over or code not in names or _expiry(os.path.join(home.logins, code)) <= now:
                over.add(code)
                os.unlink(path)


def _expiry(path: str) -> int:
    """When (ms) the code of a file ends; one that was cut off is over."""
    with open(path) as file:
        text = file.read()
    return int(text) if text.isdigit() else 0
