"""Whether the running installation is permanent: hooks that lead into a deleted one stop working."""

from __future__ import annotations

import os
import re
import tempfile

_UVS = re.compile(r"(archive|builds|environments)-v\d+")
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - it is compared, and nothing is made there


def passing(path: str) -> str:
    """The kind of place, if its contents may be deleted at any time; empty for a permanent one."""
    real = os.path.realpath(path)
    parts = real.split("/")
    if any(_UVS.fullmatch(part) for part in parts) or _is_in(real, os.environ.get("UV_CACHE_DIR")):
        return "the cache of uv"
    if "pipx" in parts and ".cache" in parts:
        return "the cache of pipx"
    home = os.environ.get("HOME", "")
    for cache in (os.environ.get("XDG_CACHE_HOME"), home and f"{home}/.cache", home and f"{home}/Library/Caches"):
        if _is_in(real, cache):
            return "a cache"
    if any(_is_in(real, each) for each in (*_TEMPORARY, tempfile.gettempdir())):
        return "a directory for temporary files"
    return ""


def _is_in(real: str, directory: str | None) -> bool:
    return bool(directory) and real.startswith(os.path.realpath(str(directory)).rstrip("/") + "/")
