"""A repository whose branches get databases, with its settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.ids import AppId

PRE_DEPLOY_MS = 600_000
MAX_BRANCHES = 10_000
CHECKOUT_FILES, CHECKOUT_BYTES = 100_000, 4_000_000_000
_DETACHED = b"detached:"


class ConnectMode(StrEnum):
    """How an app connects: by file, by the server's URL, or by the URL while a server runs."""

    AUTO = "auto"
    FILE = "file"
    URL = "url"


class Context(StrEnum):
    """The set of an app's variables that a process gets."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    LOCAL = "local"


class Copies(StrEnum):
    """Before which runs of a pre-deploy command the data is copied: when the command or its inputs have changed, always,
    or never."""

    CHANGED = "changed"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Scrub:
    """A command that must succeed on a copy before a program can connect to it, within ``limit_ms``."""

    command: str
    limit_ms: int


@dataclass(frozen=True, slots=True)
class App:
    """A git repository. ``git_dir`` is its common directory, ``production`` its production branch, both raw bytes.

    ``expire_ms``: how long development timelines are kept after their last push, unless they have their own setting;
    None is indefinitely. ``pre_deploy`` is a shell command for each new revision, ``pre_deploy_from`` a file of the revision
    that holds it, ``pre_deploy_ms`` its time limit. ``snapshot_revisions``: the number of revisions whose data is kept.

    Commands may reach what `provisioner.runs.sandbox` allows, if ``sandbox``, and also ``allow_read`` and ``allow_write``;
    with ``unix_sockets`` also services that listen on those. They run as the account ``run_as``, if it is not empty.
    ``pre_deploy_copies``: before which runs the data is copied; ``pre_deploy_inputs`` are files and directories of a revision
    that count as part of the command. At most ``max_branches`` branches have databases, and a checkout has at most
    ``checkout_files`` files with ``checkout_bytes`` bytes; 0 means no limit.
    """

    id: AppId
    slug: str
    git_dir: bytes
    production: bytes
    grace_ms: int
    retention_ms: int
    created_at: int
    expire_ms: int | None = None
    pre_deploy: str = ""
    pre_deploy_from: str = ""
    pre_deploy_ms: int = PRE_DEPLOY_MS
    snapshot_revisions: int = 0
    run_as: str = ""
    sandbox: bool = True
    unix_sockets: bool = False
    allow_read: tuple[str, ...] = ()
    allow_write: tuple[str, ...] = ()
    pre_deploy_copies: Copies = Copies.CHANGED
    pre_deploy_inputs: tuple[str, ...] = ()
    max_branches: int = MAX_BRANCHES
    checkout_files: int = CHECKOUT_FILES
    checkout_bytes: int = CHECKOUT_BYTES

    @property
    def detached_from(self) -> bytes | None:
        """The repository of the original home's app, if this app belongs to a copied home and has none yet."""
        return self.git_dir.removeprefix(_DETACHED) if self.git_dir.startswith(_DETACHED) else None

    @property
    def deploys(self) -> bool:
        """Is a command run for each new revision?"""
        return bool(self.pre_deploy or self.pre_deploy_from)


def detached(git_dir: bytes) -> bytes:
    """What an app of a copied home has for its repository: that of the original, which it must not follow."""
    return git_dir if git_dir.startswith(_DETACHED) else _DETACHED + git_dir
