"""Dumps in pg_dump's formats, made and loaded by PostgreSQL's own programs."""

from __future__ import annotations

import os
import tarfile

from provisioner.core.errors import ProvisionerError, StorageFailed, UsageError
from provisioner.core.model import Database, Instance
from provisioner.engines.postgres import databases, names, roles
from provisioner.engines.postgres.access import visitors
from provisioner.engines.postgres.administration import administering
from provisioner.engines.postgres.dump import extensions, pg_dump, restore, script
from provisioner.engines.protocol.engine import CopyResult

_WHAT_IS_OURS = ("--no-owner", "--no-privileges")  # roles mean nothing on another server
_MAGIC = b"PGDMP"
_LOOKED_AT = 4096
_USE = "Use what 'database dump' or pg_dump writes"
_UNPACK = "Unpack it first"
_FOREIGN = (
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"\xfd7zXZ\0", "compressed by xz", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"SQLite format 3\0", "an SQLite database", _USE),
    (b'{"format":', "a dump of a Deno KV database", "Load it into a deno-kv instance: --instance INSTANCE"),
)


class PgDumps:
    """See `provisioner.engines.protocol.engine.Dumps`."""

    formats: tuple[str, ...] = ("custom", "plain", "tar", "directory")

    def dump(self, instance: Instance, database: Database, form: str, output: int | str) -> None:
        name = names.live(instance.id, database.id)
        if form == "directory" and not isinstance(output, str):
            raise UsageError("a dump in the format directory is a directory", "Add --output DIRECTORY")
        with administering(instance) as session:
            if not databases.there(session, [name]):
                raise StorageFailed(f"the database {name} is missing on {instance.location}")
            arguments = [f"--format={form}", *_WHAT_IS_OURS]
            if isinstance(output, str):
                arguments.append(f"--file={output}")
            descriptor = None if isinstance(output, str) else output
            pg_dump.run(instance, session, name, arguments, f"dumping {database.name}", output=descriptor)

    def is_empty(self, instance: Instance, database: Database) -> bool:
        return databases.is_empty(instance, names.live(instance.id, database.id))

    def load(self, instance: Instance, database: Database, path: str) -> CopyResult:
        beside, owner = (names.name(kind, instance.id, database.id) for kind in (names.BESIDE, names.LIVE))
        with administering(instance) as session:
            databases.drop(session, beside)
            roles.make(session, owner)
            databases.make_empty(instance, session, beside, owner)
            if _is_archive(path):
                restore.restore(instance, session, path, beside, owner=owner, foreign=True)
            else:
                _run_script(instance, path, beside, owner)
            databases.wait_until_left(session, beside)
            return CopyResult(None, databases.size(session, beside), 0.0)


def _is_archive(path: str) -> bool:
    """Is it for pg_restore, and no text of SQL? Raises ProvisionerError where it is neither."""
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, "toc.dat")):
            return True
        raise ProvisionerError(f"{path} is not a dump in the format directory: it has no toc.dat")
    try:
        with open(path, "rb") as file:
            start = file.read(_LOOKED_AT)
        if start.startswith(_MAGIC):
            return True
        if tarfile.is_tarfile(path):
            return _is_pg_dumps(path)
    except OSError as error:
        raise ProvisionerError(f"{path} cannot be read: {error.strerror}") from error
    for magic, what, instead in _FOREIGN:
        if start.startswith(magic):
            raise ProvisionerError(f"{path} is {what}, not a dump of PostgreSQL", instead)
    if b"\0" in start:
        raise ProvisionerError(f"{path} is neither an archive of pg_dump nor SQL", _USE)
    return False


def _is_pg_dumps(path: str) -> bool:
    try:
        with tarfile.open(path) as archive:
            names = archive.getnames()
    except tarfile.TarError as error:
        raise ProvisionerError(f"{path} is a damaged tar archive: {error}", _USE) from error
    if "toc.dat" in names:
        return True
    raise ProvisionerError(f"{path} is a tar archive, but not one of pg_dump: it has no toc.dat", _USE)


def _run_script(instance: Instance, path: str, target: str, owner: str) -> None:
    with (
        administering(instance) as session,
        visitors.visiting(instance, session, target, owner) as visitor,
        open(path, "rb") as file,
    ):
        script.load(visitor, file, f"loading {path}", extensions.installer(instance, target, owner))
