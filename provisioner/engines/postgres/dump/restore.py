"""Loading an archive that pg_dump made, by pg_restore."""

from __future__ import annotations

import os
from contextlib import suppress

from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines.postgres import databases
from provisioner.engines.postgres import programs as tools
from provisioner.engines.postgres.access import visitors
from provisioner.engines.postgres.dump import extensions, script
from provisioner.engines.postgres.dump.script import Extension
from provisioner.engines.postgres.session import Session
from provisioner.system import temp_dirs
from provisioner.system.home import Home


def restore(
    instance: Instance,
    session: Session,
    dump: str,
    target: str,
    *,
    owner: str,
    jobs: str = "1",
    foreign: bool = False,
) -> None:
    """Load a dump into an empty database that no program can connect to; all of it becomes `owner`'s.

    A role without other rights than the owner's does it. In a `foreign` dump, grants to roles of its server are omitted.
    Raises StorageFailed.
    """
    server = session.info.server_version // 10000
    with temp_dirs.directory(Home(instance.home)) as directory:
        listing = os.path.join(directory, "list")
        programs = _listed(server, dump, listing)
        wanted = _extensions(listing, databases.schemas(instance, target))
        extensions.make(instance, target, owner, [Extension(name, "public") for name in wanted], foreign=foreign)
        databases.wait_until_left(session, target)
        with visitors.visited(instance, session, target, owner) as variables:
            program, what = os.path.join(programs, "pg_restore"), f"restoring into {target}"
            arguments = ["--no-owner", f"--role={owner}", f"--use-list={listing}", dump]
            if foreign:
                arguments.insert(0, "--no-privileges")
            if tools.too_new(programs, server):
                with (
                    tools.output_of(program, ["--file=-", *arguments], what) as lines,
                    visitors.connected_as(instance, variables) as visitor,
                ):
                    script.load(visitor, lines, what, extensions.installer(instance, target, owner))
                return
            straight = [tools.LIVELY, "--exit-on-error", "--no-password"]
            if os.path.isdir(dump) or not foreign:
                straight.append(f"--jobs={jobs}")
            tools.run(program, [*straight, *arguments], variables, what)


def _listed(server: int, dump: str, listing: str) -> str:
    """Write the list of what a dump holds. The directory of the programs that can read it: those of a version that is newer
    than the server may have made it."""
    *older, newest = tools.fitting(server)
    for programs in older:
        with suppress(StorageFailed):
            _list(programs, dump, listing)
            return programs
    _list(newest, dump, listing)
    return newest


def _list(programs: str, dump: str, listing: str) -> None:
    tools.run(os.path.join(programs, "pg_restore"), ["--list", f"--file={listing}", dump], {}, "reading a dump")


def _extensions(listing: str, there: set[str]) -> list[str]:
    """The extensions in a list, which are not for the dump to make: take them out, and the schemas that are `there`."""
    with open(listing, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.readlines()
    with open(listing, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(line for line in lines if not _administered(line, there))
    entries = [_entry(line) for line in lines]
    return [entry[len(_EXTENSION) :].split(" ")[0] for entry in entries if entry.startswith(_EXTENSION)]


_EXTENSION = "EXTENSION - "


def _entry(line: str) -> str:
    """A line of a list is ``id; oid oid KIND schema name owner``: all from the kind on."""
    return " ".join(line.rstrip("\n").split(" ")[3:])


def _administered(line: str, there: set[str]) -> bool:
    what = _entry(line)
    if what.startswith((_EXTENSION, "COMMENT - EXTENSION ", "COMMENT - SCHEMA public")):
        return True
    return what.startswith("SCHEMA - ") and what.removeprefix("SCHEMA - ").rpartition(" ")[0] in there
