"""One-time codes that log in a person who may write into the home, and so already has full access.

A code is a file in the home, named by a keyed hash of it. Deleting a file succeeds only once, so a code is valid once,
whatever happens to the processes. A new key of the home invalidates all codes. A code has 256 random bits.

A browser gets a code in a file that only this user can read, because every local user can read a process's arguments.
"""

from __future__ import annotations

import html
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import quote

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.system import secret_key
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

PREFIX: Final = "ptl_"
LIFETIME_MS: Final = 600_000
HANDED_MS: Final = 60_000
"""For a code that is handed to a browser at once."""
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


def handed(home: Home, base: str, now: int, page: str = "") -> str:
    """The path of a file that leads a browser to the dashboard, logged in. It ends with its code. Raises StorageFailed."""
    code = make(home, now, HANDED_MS)
    path = f"{_path(home, code)}{_PAGE_END}"
    try:
        _write(path, _PAGE.format(link=html.escape(link(base, code, page))))
    except OSError as error:
        raise _unwritable(home, error) from error
    return path


@contextmanager
def redeemed(home: Home, code: str, now: int) -> Iterator[bool]:
    """Whether the code is valid. Inside the block it is reserved, and after the block it is used; if the block raises, it is
    valid again. Raises StorageFailed."""
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


def link(base: str, code: str, page: str = "") -> str:
    """The address to open, which leads to the path `page`. Browsers do not send the part behind the #, so no log contains
    the code."""
    following = f"?next={quote(page)}" if page else ""
    return f"{base.rstrip('/')}/login{following}#{code}"


def _path(home: Home, code: str) -> str:
    return os.path.join(home.logins, secret_key.login_name(secret_key.secret(home), code))


def _write(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as file:
        file.write(text)


def _unwritable(home: Home, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"no login link can be created in {home.logins}: {error.strerror}", f"Make this user the owner of {home.path}"
    )


def _sweep(home: Home, now: int) -> None:
    """Delete expired codes and their pages."""
    over = set()
    names = sorted(os.listdir(home.logins))  # a code comes before its page
    for name in names:
        code = name.removesuffix(_PAGE_END)
        path = os.path.join(home.logins, name)
        with suppress(FileNotFoundError):  # another process has just used it
            if code in over or code not in names or _expiry(os.path.join(home.logins, code)) <= now:
                over.add(code)
                os.unlink(path)


def _expiry(path: str) -> int:
    """When (ms) the code of a file expires; an incomplete file has expired."""
    with open(path) as file:
        text = file.read()
    return int(text) if text.isdigit() else 0
