"""Refuses to work in a directory that is not the home that it claims to be. Light: `exec` imports it."""

from __future__ import annotations

import os

from provisioner.system.home import Home
from provisioner.system.identity import Identity, is_here, read

SINCE_VERSION = 14
"""The first version of a registry whose home has an identity."""
_VERSION_AT = 60  # of an SQLite file, its user_version: https://www.sqlite.org/fileformat.html#the_database_header


def must_be_home(home: Home) -> Identity | None:
    """The home's identity; None if none was ever written. Raises WrongHome if the directory is not that home."""
    found = read(home)
    if found is None and not _had_one(home):
        return None
    identity, inode = found or (None, "")
    if identity is None or not is_here(identity, home, inode):
        from provisioner.system.home_state import refusal

        raise refusal(home)
    return identity


def _had_one(home: Home) -> bool:
    """Whether the registry has a version that only homes with an identity have. Read without opening a database."""
    try:
        fd = os.open(home.registry, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return int.from_bytes(os.pread(fd, 4, _VERSION_AT), "big") >= SINCE_VERSION
    finally:
        os.close(fd)


def must_be_the_home_of(registry_id: str, home: Home, identity: Identity | None) -> None:
    """Raises WrongHome if a registry with this id is not that of the home; a home that follows has the other home's."""
    if identity is None or (identity.id != registry_id and not os.path.exists(home.follows)):
        from provisioner.system.home_state import refusal

        raise refusal(home, registry_id)
