"""Registering a repository as an app, and what is said of one."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, replace

from provisioner import naming
from provisioner.clock import now_ms
from provisioner.errors import ProvisionerError, UsageError
from provisioner.git.command import must_be_trusted
from provisioner.git.refs import default_branch, read_branches
from provisioner.git.worktree import find_checkout
from provisioner.model import App
from provisioner.registry.store import Registry
from provisioner.times import lasting, limit, milliseconds

GRACE_MS = 10_000
RETENTION_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Deploying:
    """What is said of the command that is run for new revisions, and of the data that is kept. What is None stays as it is."""

    command: str | None
    from_file: str | None
    off: bool
    timeout: str | None
    snapshots: int | None

    def of(self, app: App) -> App:
        """The app with these settings. Raises UsageError."""
        if sum((self.command is not None, self.from_file is not None, self.off)) > 1:
            raise UsageError(
                "there is one pre-deploy command", "Give --pre-deploy, --pre-deploy-from or --no-pre-deploy"
            )
        if self.command is not None and not self.command.strip():
            raise UsageError("the pre-deploy command is empty", "To have none, say --no-pre-deploy")
        if self.command is not None or self.from_file is not None or self.off:
            app = replace(app, pre_deploy=self.command or "", pre_deploy_from=_inside(self.from_file))
        if self.timeout is not None:
            app = replace(app, pre_deploy_ms=limit(self.timeout))
        return app if self.snapshots is None else replace(app, snapshot_revisions=self.snapshots)


def _inside(path: str | None) -> str:
    if path is None:
        return ""
    normal = os.path.normpath(path)
    if not path or os.path.isabs(normal) or normal.startswith("..") or normal == ".":
        raise UsageError(
            f"{path!r} is no file of a revision", "Name it from the top of the repository: scripts/migrate.sh"
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
    """Register the repository at `path`, or change what is said of one that is registered."""
    checkout = find_checkout(os.fsencode(path))
    if checkout is None:
        raise ProvisionerError(f"{os.path.abspath(path)} is in no git repository", "Make one with 'git init'")
    must_be_trusted(checkout.top or checkout.common_dir)
    read_branches(checkout.common_dir)
    known = next((app for app in registry.apps() if app.git_dir == checkout.common_dir), None)
    slug = naming.parse_slug(name, "an app") if name else naming.slug_of_repository(checkout.common_dir)
    app = known or App(
        id=str(uuid.uuid4()),
        slug=slug if name else _free(registry, slug),
        git_dir=checkout.common_dir,
        production=default_branch(checkout.common_dir),
        grace_ms=GRACE_MS,
        retention_ms=RETENTION_MS,
        created_at=now_ms(),
    )
    return save(registry, app, name=slug if name else None, production=production, grace=grace, retention=retention)


def _free(registry: Registry, slug: str) -> str:
    taken = {app.slug for app in registry.apps()}
    number = 2
    candidate = slug
    while candidate in taken:
        candidate = f"{slug[:36]}-{number}"
        number += 1
    return candidate


def save(
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
) -> App:
    if name is not None and any(other.slug == name and other.id != app.id for other in registry.apps()):
        raise ProvisionerError(f"there is an app {name!r} already", "Choose another name: --name NAME")
    changed = replace(
        deploying.of(app) if deploying else app,
        slug=name or app.slug,
        git_dir=git_dir or app.git_dir,
        production=app.production if production is None else os.fsencode(production),
        grace_ms=app.grace_ms if grace is None else milliseconds(grace),
        retention_ms=app.retention_ms if retention is None else milliseconds(retention),
        expire_ms=app.expire_ms if expire_after is None else lasting(expire_after),
    )
    return registry.save_app(changed, now_ms())
