"""Registering a repository as an app, and changing its settings."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from provisioner.core import naming
from provisioner.core.clock import now_ms
from provisioner.core.durations import lasting, limit, milliseconds
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.ids import AppId
from provisioner.core.model import App, Copies
from provisioner.git import production_branch
from provisioner.git.command import must_be_trusted
from provisioner.git.refs import read_branches
from provisioner.git.worktree import find_checkout
from provisioner.jobs.pre_deploy import forget_failures
from provisioner.operations import repositories
from provisioner.operations.home.found_databases import app_id_of
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.reconcile_now import must_be_deployed, must_be_renewed, run_whole
from provisioner.reconcile.changes.command_access import secret_paths
from provisioner.registry.events import set_hooks
from provisioner.registry.queries import undeployed
from provisioner.registry.store import Registry
from provisioner.system import inbox

GRACE_MS = 10_000
RETENTION_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Deploying:
    """The settings of the command that runs for new revisions, of what it can reach, and of the data that is kept.

    None keeps a setting. A list replaces the previous one, and an empty word in it empties it.
    """

    command: str | None = None
    from_file: str | None = None
    off: bool = False
    timeout: str | None = None
    snapshots: int | None = None
    copies: Copies | None = None
    inputs: tuple[str, ...] | None = None
    run_as: str | None = None
    sandbox: bool | None = None
    unix_sockets: bool | None = None
    allow_read: tuple[str, ...] | None = None
    allow_write: tuple[str, ...] | None = None
    checkout_files: int | None = None
    checkout_bytes: int | None = None
    max_branches: int | None = None

    def of(self, app: App, private: Sequence[str]) -> App:
        """The app with these settings; no command may be given access to what is `private`. Raises UsageError."""
        if sum((self.command is not None, self.from_file is not None, self.off)) > 1:
            raise UsageError(
                "an app has one pre-deploy command", "Choose one: --pre-deploy, --pre-deploy-from, or --no-pre-deploy"
            )
        if self.command is not None and not self.command.strip():
            raise UsageError("the pre-deploy command is empty", "To remove it, use --no-pre-deploy")
        if self.command is not None or self.from_file is not None or self.off:
            app = replace(app, pre_deploy=self.command or "", pre_deploy_from=_inside(self.from_file))
        if self.timeout is not None:
            app = replace(app, pre_deploy_ms=limit(self.timeout))
        changes = {
            "snapshot_revisions": self.snapshots,
            "pre_deploy_copies": self.copies,
            "pre_deploy_inputs": self.inputs and tuple(_inside(path) for path in self.inputs if path),
            "run_as": None if self.run_as is None else _account(self.run_as),
            "sandbox": self.sandbox,
            "unix_sockets": self.unix_sockets,
            "allow_read": self.allow_read and _allowed(self.allow_read, private),
            "allow_write": self.allow_write and _allowed(self.allow_write, private),
            "checkout_files": self.checkout_files,
            "checkout_bytes": self.checkout_bytes,
            "max_branches": self.max_branches,
        }
        return replace(app, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


def _account(user: str) -> str:
    """An account that commands can run as. Raises UsageError."""
    if not user:
        return ""
    import pwd

    try:
        account = pwd.getpwnam(user)
    except KeyError as error:
        raise UsageError(f"no account {user!r} on this machine", "Create it: useradd --system NAME") from error
    if os.geteuid() != 0 or account.pw_uid == 0:
        raise UsageError(
            f"commands cannot run as {user!r}",
            "Only root can run them as another account, which must not be root: run provisioner as root",
        )
    return user


def _allowed(paths: Sequence[str], private: Sequence[str]) -> tuple[str, ...]:
    """Absolute paths, none of which contains or is in something private. Raises UsageError."""
    found = tuple(os.path.realpath(os.path.expanduser(path)) for path in paths if path)
    for path in found:
        for other in map(os.path.realpath, private):
            if os.path.commonpath([path, other]) in (path, other):
                raise UsageError(f"{path} contains {other} or is in it, which no command may reach", "Use another path")
    return found


def _inside(path: str | None) -> str:
    if path is None:
        return ""
    normal = os.path.normpath(path)
    if not path or os.path.isabs(normal) or normal.startswith("..") or normal == ".":
        raise UsageError(
            f"{path!r} is not a file of a revision", "Give its path from the top of the repository: scripts/migrate.sh"
        )
    return normal


def register(
    registry: Registry,
    path: str,
    name: str | None,
    production: str | None,
    grace: str | None,
    retention: str | None,
) -> App:
    """Register the repository at `path`, or change the settings of one that is registered.

    Raises `UnclearProductionBranch` if a person must choose the production branch.
    """
    checkout = find_checkout(os.fsencode(path))
    if checkout is None:
        raise ProvisionerError(f"{os.path.abspath(path)} is not in a git repository", "Create one with 'git init'")
    must_be_trusted(checkout.top or checkout.common_dir)
    read_branches(checkout.common_dir)
    known = repositories.known(registry, checkout.common_dir)
    if known is None:
        repositories.make_way(registry, checkout.common_dir)
    elif known.detached_from is not None:
        known = replace(known, git_dir=checkout.common_dir)
    slug = naming.parse_slug(name, "an app") if name else naming.slug_of_repository(checkout.common_dir)
    app = known or App(
        id=app_id_of(registry, checkout.common_dir) or AppId(str(uuid.uuid4())),
        slug=slug if name else _free(registry, slug),
        git_dir=checkout.common_dir,
        production=production_branch.found(checkout.common_dir) if production is None else os.fsencode(production),
        grace_ms=GRACE_MS,
        retention_ms=RETENTION_MS,
        created_at=now_ms(),
    )
    slug = slug if name else app.slug
    if production is not None and (known is None or os.fsencode(production) != known.production):
        production_branch.must_exist(app.git_dir, os.fsencode(production))
    saved = _save(registry, _changed(app, slug, production, grace, retention, None, None))
    repositories.take(registry, saved, checkout.common_dir)
    return saved


def _free(registry: Registry, slug: str) -> str:
    number = 2
    candidate = slug
    while registry.app_called(candidate) is not None:
        candidate = f"{slug[:36]}-{number}"
        number += 1
    return candidate


def change(
    registry: Registry,
    app: App,
    *,
    name: str | None = None,
    production: str | None = None,
    grace: str | None = None,
    retention: str | None = None,
    expire_after: str | None = None,
    git_dir: bytes | None = None,
    deploying: Deploying | None = None,
    hooks: Mapping[str, str] | None = None,
) -> Proposal:
    """Change an app's settings, and apply the consequences. None keeps a setting. `hooks` are commands by the operator's hook;
    an empty one removes it.

    Raises UsageError for a value that cannot be understood, before anything is changed.
    """
    changed = _changed(app, name, production, grace, retention, expire_after, git_dir)
    if changed.production != app.production:
        production_branch.must_exist(changed.git_dir, changed.production)
    if deploying is not None:
        changed = deploying.of(changed, secret_paths(registry))

    other = None if git_dir in (None, app.git_dir) else repositories.exchanged(registry, app, changed.git_dir)
    problem = None if git_dir is None else repositories.unlike(registry, app, changed.git_dir)

    def do(reporter: ProgressReporter) -> Iterator[str]:
        if git_dir is not None:
            repositories.make_way(registry, changed.git_dir, app)
        saved = _save(registry, changed) if other is None else registry.exchange_places(changed, other, now_ms())
        if git_dir is not None:
            repositories.take(registry, saved, saved.git_dir)
            if other is None and app.git_dir != saved.git_dir and os.path.isdir(app.git_dir):
                with suppress(OSError):
                    repositories.leave(app, app.git_dir)
        if hooks:
            set_hooks(registry, saved.id, hooks)
        if other is not None:
            yield f"App {other.slug} now has its repository in {os.fsdecode(app.git_dir)}"
            inbox.leave(registry.home.inbox, other.id)
        if _deploys(saved) != _deploys(app):  # the failure was not that of the new command
            forget_failures(registry, saved, undeployed(registry, saved.id), registry.who)
        inbox.leave(registry.home.inbox, saved.id)  # so that a running daemon watches the new location
        run_whole(registry, saved, "app set", reporter)
        must_be_renewed(registry, saved)
        must_be_deployed(saved, undeployed(registry, saved.id))

    if problem is None:
        return Proposal(do)
    return Proposal(
        do, f"{problem.message}. Its branches will get the data of the app's branches of the same names. Use it?"
    )


def _deploys(app: App) -> tuple[object, ...]:
    what = (app.pre_deploy, app.pre_deploy_from, app.pre_deploy_ms, app.run_as, app.sandbox, app.unix_sockets)
    return *what, app.allow_read, app.allow_write, app.checkout_files, app.checkout_bytes


def _changed(
    app: App,
    name: str | None,
    production: str | None,
    grace: str | None,
    retention: str | None,
    expire_after: str | None,
    git_dir: bytes | None,
) -> App:
    return replace(
        app,
        slug=name or app.slug,
        git_dir=git_dir or app.git_dir,
        production=app.production if production is None else os.fsencode(production),
        grace_ms=app.grace_ms if grace is None else milliseconds(grace),
        retention_ms=app.retention_ms if retention is None else milliseconds(retention),
        expire_ms=app.expire_ms if expire_after is None else lasting(expire_after),
    )


def _save(registry: Registry, changed: App) -> App:
    other = registry.app_called(changed.slug)
    if other is not None and other.id != changed.id:
        raise ProvisionerError(f"app {changed.slug!r} already exists", "Choose another name: --name NAME")
    return registry.save_app(changed, now_ms())
