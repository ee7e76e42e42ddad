"""The account that PostgreSQL runs as if this process is root's, and the places of its files then."""

from __future__ import annotations

import os
import pwd
import secrets
from typing import Any

from provisioner.core.errors import StorageFailed
from provisioner.engines.postgres.embedded import cleanup
from provisioner.engines.protocol.location import FOR_ROOT
from provisioner.system.home import DIRECTORY_MODE, inherited

ACCOUNT = "postgres"


def account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError as error:
        raise StorageFailed(
            "PostgreSQL does not run as root, and there is no account postgres that it can run as",
            "Create one (useradd --system postgres), run provisioner as another user, or link a server with --url",
        ) from error


def as_account() -> dict[str, Any]:
    """With which account, and where, a program of PostgreSQL's is to be started."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    found = account()
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": [], "cwd": "/"}


def reachable(directory: str) -> bool:
    """May the account that the server runs as execute what is in there? Root's own directories are often closed."""
    if os.geteuid() != 0:
        return True
    path = os.path.realpath(directory)
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


def environment() -> dict[str, str]:
    """What a program of PostgreSQL's gets of this process's variables."""
    return {name: value for name, value in inherited().items() if not name.startswith(("PG", "LC_", "LANG"))}


def new_place() -> str:
    """A directory for the files of one of root's servers, which is not there yet."""
    return os.path.join(FOR_ROOT, secrets.token_hex(8))


def make_place(elsewhere: str, directory: str) -> None:
    """Have a directory there for the files of root's server `directory`; one that is there keeps its owner."""
    owner = account()
    os.makedirs(elsewhere, mode=0o755, exist_ok=True)
    os.chown(elsewhere, owner.pw_uid, owner.pw_gid)
    os.chmod(elsewhere, DIRECTORY_MODE)
    if not os.path.exists(os.path.join(elsewhere, cleanup.OWNER_FILE)):
        cleanup.own(elsewhere, directory)
