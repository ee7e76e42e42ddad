"""Empty databases created and synced ahead: connecting a branch is then a rename.

The daemon stocks them while it is idle; a reconcile takes them. A spare has no owner and has never been
handed out, so one that is lost, or left over, costs nothing but its 40 kB.
"""

from __future__ import annotations

import os
import shutil
import uuid

from provisioner.engines.files.layout import FILE_NAME
from provisioner.engines.files.staging import build
from provisioner.system.atomic_file import SYNC_ALL_FROM, sync_file_system, sync_path
from provisioner.system.home import DIRECTORY_MODE

BATCH = 64
LEAST_FREE_BYTES = 500_000_000  # on a disk with less, space is the users', not ours to set aside
LEAST_FREE_INODES = 50_000
_BEGUN = "spare-"


def listing(location: str) -> list[str]:
    """The names of the spares there are."""
    try:
        return os.listdir(os.path.join(location, "spare"))
    except FileNotFoundError:
        return []


def take(location: str, spares: list[str], target: str) -> bool:
    """Move one of the listed `spares` to `target`. False where none is left: others may have taken them too."""
    while spares:
        try:
            os.rename(os.path.join(location, "spare", spares.pop()), target)
        except FileNotFoundError:
            continue
        return True
    return False


def stock(location: str, wanted: int) -> bool:
    """Make some of the `wanted` spares that are missing. True where more are missing still. One process at a time."""
    missing = min(wanted - len(listing(location)), BATCH)
    if missing <= 0 or not _roomy(location):
        return False
    os.makedirs(os.path.join(location, "spare"), mode=DIRECTORY_MODE, exist_ok=True)
    beside = os.path.join(location, "new", "0")
    for name in os.listdir(beside):
        if name.startswith(_BEGUN):  # left by a daemon that was killed
            shutil.rmtree(os.path.join(beside, name))
    begun = [os.path.join(beside, f"{_BEGUN}{uuid.uuid4()}") for _ in range(missing)]
    for directory in begun:
        build(directory)
    sync(location, begun)
    for directory in begun:
        os.rename(directory, os.path.join(location, "spare", os.path.basename(directory).removeprefix(_BEGUN)))
    sync_path(os.path.join(location, "spare"))
    return True


def sync(location: str, directories: list[str]) -> None:
    """Have the databases in these directories on disk, the cheaper way."""
    if len(directories) >= SYNC_ALL_FROM and sync_file_system(location):
        return
    for directory in directories:
        sync_path(os.path.join(directory, FILE_NAME))
        sync_path(directory)


def _roomy(location: str) -> bool:
    space = os.statvfs(location)
    inodes = space.f_files == 0 or space.f_favail >= LEAST_FREE_INODES
    return inodes and space.f_bavail * space.f_frsize >= LEAST_FREE_BYTES
