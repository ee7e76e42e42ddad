"""Where a deno-kv database lies in its instance's directory. Light: `exec` imports it."""

from __future__ import annotations

import os

FILE_NAME = "kv.sqlite3"


def database_path(location: str, database_id: str) -> str:
    """Where apps find a database that is connected."""
    return os.path.join(location, "live", database_id, FILE_NAME)
