"""What `provisioner app set` says of new revisions: the command that is run for them, and the data that is kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

import click

from provisioner.cli.shared import with_options
from provisioner.errors import UsageError
from provisioner.model import App
from provisioner.times import limit

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Deploying:
    """What is None stays as it is."""

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


def deploying_options(command: _Command) -> _Command:
    """The options, handed on as `deploying`."""

    @wraps(command)
    def with_deploying(
        *args: Any,
        pre_deploy: str | None,
        pre_deploy_from: str | None,
        no_pre_deploy: bool,
        pre_deploy_timeout: str | None,
        snapshot_revisions: int | None,
        **others: Any,
    ) -> Any:
        settings = (pre_deploy, pre_deploy_from, no_pre_deploy, pre_deploy_timeout, snapshot_revisions)
        return command(*args, deploying=Deploying(*settings), **others)

    return with_options(with_deploying, _OPTIONS)  # type: ignore[return-value]


_OPTIONS: dict[str, dict[str, Any]] = {
    "--pre-deploy": {
        "metavar": "CMD",
        "help": "A shell command that is run once for each new revision of each timeline, before it is connected.",
    },
    "--pre-deploy-from": {
        "metavar": "PATH",
        "help": "Run this file of the revision instead: whoever may push then says what is run.",
    },
    "--no-pre-deploy": {"is_flag": True, "help": "Run nothing any more."},
    "--pre-deploy-timeout": {"metavar": "TIME", "help": "How long that may take (10min)."},
    "--snapshot-revisions": {
        "type": click.IntRange(0, 1000),
        "metavar": "N",
        "help": "Keep each database as it was at the last N revisions; 0 keeps none.",
    },
}
