"""Can databases be stored here? Found out by storing one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress

from provisioner.engines.files.layout import FILE_NAME
from provisioner.engines.files.staging import reason
from provisioner.engines.protocol.engine import HealthCheck
from provisioner.kv.errors import KvError
from provisioner.kv.stores.sqlite.schema import empty_file
from provisioner.system.atomic_file import sync_path, write_file
from provisioner.system.home import DIRECTORY_MODE

LEAST_BYTES = 10 << 20
LEAST_INODES = 100
LOW_SPACE = 100 * 1024 * 1024


def probe(location: str, stages: tuple[str, ...]) -> Iterator[HealthCheck]:
    """One look after another; after one that fails there may be no more."""
    if not os.path.isdir(location):
        yield HealthCheck(
            "directory", False, f"{location} is missing: mount its disk, or add its new location: --directory"
        )
        return
    yield HealthCheck("directory", True, location)
    yield _space(location)
    yield _one_file_system(location, stages)
    directory = os.path.join(location, "new", f"probe-{os.getpid()}")
    try:
        yield _database(directory)
        yield _sharing(directory)
    finally:
        with suppress(OSError):
            shutil.rmtree(directory)


def look(path: str) -> HealthCheck:
    """Can this user write there, and is there room?"""
    if not os.path.isdir(path):
        text = f"the directory {path} is missing. Mount its disk, or put it back: databases live there"
        return HealthCheck("directory", False, text)
    if not os.access(path, os.W_OK | os.X_OK):
        text = f"this user may not write to {path}. Change its owner, or mount its disk for writing"
        return HealthCheck("directory", False, text)
    space = os.statvfs(path)
    free = space.f_bavail * space.f_frsize
    text = f"{path}, {free // 1_000_000} MB and {space.f_favail} inodes free"
    if free >= LOW_SPACE and (space.f_files == 0 or space.f_favail > LEAST_INODES):
        return HealthCheck("space", True, text)
    return HealthCheck("space", False, f"{text}. Free some, then run 'provisioner database fix --all'")


def _space(location: str) -> HealthCheck:
    found = os.statvfs(location)
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    full = free < LEAST_BYTES or (0 <= inodes < LEAST_INODES and found.f_files > 0)
    text = f"{free >> 20} MB and {inodes if found.f_files else 'any number of'} inodes free"
    return HealthCheck("space", not full, f"{text}{': free some' if full else ''}")


def _one_file_system(location: str, stages: tuple[str, ...]) -> HealthCheck:
    """Databases are moved between these by renaming them."""
    there = [path for stage in stages if os.path.isdir(path := os.path.join(location, stage))]
    away = [path for path in there if os.stat(path).st_dev != os.stat(location).st_dev]
    if away:
        text = f"{away[0]} is on another disk than {location}: let all of it be on one"
        return HealthCheck("one file system", False, text)
    return HealthCheck("one file system", True, "databases can be moved within it")


def _database(directory: str) -> HealthCheck:
    from provisioner.kv.client.sync_client import open_kv

    try:
        os.makedirs(os.path.dirname(directory), mode=DIRECTORY_MODE, exist_ok=True)
        os.mkdir(directory, DIRECTORY_MODE)
        path = os.path.join(directory, FILE_NAME)
        write_file(path, empty_file())
        sync_path(path)
        sync_path(directory)
        with open_kv(path) as kv:
            kv.set(("probe",), directory)
            if kv.get(("probe",)).value != directory:
                return HealthCheck("database", False, f"{path} does not hold what was written to it: check the disk")
    except KvError as error:  # some of which are OSErrors too, without a number
        text = f"SQLite refuses to work here: {error}. It needs a disk with room, locks and shared memory, not a network share"
        return HealthCheck("database", False, text)
    except OSError as error:
        return HealthCheck(
            "database", False, f"cannot be created: {reason(error)}. Give this user write access to {directory}"
        )
    return HealthCheck("database", True, "created, written, read, and deleted one")


def _sharing(directory: str) -> HealthCheck:
    from provisioner.kv import reflink

    source = os.path.join(directory, "source")
    try:
        write_file(source, empty_file())
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            shared = reflink.copy(fd, os.path.join(directory, "copy"))
        finally:
            os.close(fd)
    except OSError as error:
        return HealthCheck("copies", False, f"cannot be created: {reason(error)}")
    how = (
        "share their blocks until they change: they cost next to nothing"
        if shared
        else "take the time and space of a copy"
    )
    return HealthCheck("copies", True, f"forks and snapshots {how}")
