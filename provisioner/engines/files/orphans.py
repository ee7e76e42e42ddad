"""What a power cut can leave: a database's directory that is on disk where its row in the registry is not.

The row of a new database is written first, but not synced alone: nothing was acknowledged yet. Such a directory holds
an empty database that no program was ever connected to, and so has no owner. Any other database that the registry does not
know (it may be an old copy that was put back) holds data, or is in use, and stays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection

from provisioner.engines.files.layout import FILE_NAME
from provisioner.kv.stores.sqlite.schema import empty_file

_ID = "01234567-89ab-cdef-0123-456789abcdef"


def sweep(location: str, known: Callable[[], Collection[str]]) -> list[str]:
    """Remove the unknown empty databases of an instance; the paths of the unknown others."""
    there = [
        (name, os.path.join(location, stage, name))
        for stage in ("new/0", "new/1", "live", "archive")
        for name in _listing(os.path.join(location, stage))
        if len(name) == len(_ID)
    ]
    ids = set(known())  # asked last: a row is written before its directory is made
    kept = []
    for name, path in there:
        if name in ids:
            continue
        if is_empty(path):
            shutil.rmtree(path)
        else:
            kept.append(path)
    return kept


def _listing(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def is_empty(directory: str) -> bool:
    """Whether it has nothing, or a part of a new database's content. Any write of an app would show."""
    names = _listing(directory)
    if names not in ([], [FILE_NAME]):
        return False
    if not names:
        return True
    template = empty_file()
    with open(os.path.join(directory, FILE_NAME), "rb") as file:
        return template.startswith(file.read(len(template) + 1))
