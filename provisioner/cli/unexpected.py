"""Unexpected errors: from the system, from a damaged registry, or from a bug."""

from __future__ import annotations

import os
import sqlite3
import traceback
from contextlib import closing

from provisioner.core.errors import ProvisionerError, StorageFailed, shortage
from provisioner.registry.errors import corrupt, is_damage, refusal
from provisioner.system.home import Home

_DEBUG = "PROVISIONER_DEBUG"


def explained(error: Exception, home: Home, environ: os._Environ[str] | dict[str, str]) -> ProvisionerError:
    """The error in provisioner's words. With PROVISIONER_DEBUG its traceback is printed."""
    if environ.get(_DEBUG):
        traceback.print_exception(error)
    if (short := shortage(error)) is not None:
        return short
    if isinstance(error, sqlite3.Error):
        return refusal(home, error)
    if problem := _damage(home):
        return corrupt(home, problem)
    if isinstance(error, OSError):
        where = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else ""
        return StorageFailed(f"{error.strerror or error}{where}", "Give the user that runs provisioner access to it")
    return ProvisionerError(
        f"this is a bug in provisioner: {type(error).__name__}: {error} ({_place(error)})",
        f"Please report it, with what {_DEBUG}=1 prints",
    )


def _damage(home: Home) -> str:
    """The problem with the registry; empty if it is intact or missing. It is only read."""
    if not os.path.isfile(home.registry):
        return ""
    try:
        with closing(sqlite3.connect(f"file:{home.registry}?mode=ro", uri=True, timeout=1.0)) as registry:
            registry.text_factory = bytes
            answers = [str(row[0]) for row in registry.execute("pragma integrity_check(1)")]
            broken = registry.execute("pragma foreign_key_check").fetchone()
    except sqlite3.Error as error:
        return str(error) if is_damage(error) else ""
    if answers != ["b'ok'"]:
        return answers[0]
    return "rows refer to missing rows" if broken else ""


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "unknown"
