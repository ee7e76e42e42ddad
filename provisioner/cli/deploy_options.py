"""What `provisioner app set` says of new revisions: the command that is run for them, and the data that is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from provisioner.cli.context import with_options
from provisioner.operations.apps import Deploying

_Command = TypeVar("_Command", bound=Callable[..., Any])


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
