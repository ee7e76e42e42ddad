"""The options of `provisioner app set` for new revisions: the command that runs for them, and the data that is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from provisioner.cli.context import with_options
from provisioner.cli.options.duration import DURATION
from provisioner.core.errors import UsageError
from provisioner.core.model import Copies
from provisioner.core.sizes import size
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
        pre_deploy_copies: str | None,
        pre_deploy_inputs: tuple[str, ...],
        snapshot_revisions: int | None,
        run_as: str | None,
        no_run_as: bool,
        sandbox: bool | None,
        unix_sockets: bool | None,
        allow_read: tuple[str, ...],
        allow_write: tuple[str, ...],
        checkout_files: int | None,
        checkout_bytes: str | None,
        max_branches: int | None,
        **others: Any,
    ) -> Any:
        if run_as is not None and no_run_as:
            raise UsageError("--run-as and --no-run-as cannot be used together")
        deploying = Deploying(
            command=pre_deploy,
            from_file=pre_deploy_from,
            off=no_pre_deploy,
            timeout=pre_deploy_timeout,
            copies=None if pre_deploy_copies is None else Copies(pre_deploy_copies),
            inputs=pre_deploy_inputs or None,
            snapshots=snapshot_revisions,
            run_as="" if no_run_as else run_as,
            sandbox=sandbox,
            unix_sockets=unix_sockets,
            allow_read=allow_read or None,
            allow_write=allow_write or None,
            checkout_files=checkout_files,
            checkout_bytes=None if checkout_bytes is None else size(checkout_bytes),
            max_branches=max_branches,
        )
        return command(*args, deploying=deploying, **others)

    return with_options(with_deploying, _OPTIONS)  # type: ignore[return-value]


_OPTIONS: dict[str, dict[str, Any]] = {
    "--pre-deploy": {
        "metavar": "CMD",
        "help": "Shell command to run once per new revision of each timeline, before it is ready.",
    },
    "--pre-deploy-from": {
        "metavar": "PATH",
        "help": "Run this file of the revision instead. Anyone who can push then decides what runs.",
    },
    "--no-pre-deploy": {"is_flag": True, "help": "Remove the pre-deploy command."},
    "--pre-deploy-timeout": {"type": DURATION, "help": "Time limit. Default: 10min."},
    "--pre-deploy-copies": {
        "type": click.Choice([str(each) for each in Copies]),
        "help": "When to take a snapshot: when the command has changed (default), before each run, or never.",
    },
    "--pre-deploy-inputs": {
        "metavar": "PATH",
        "multiple": True,
        "help": "A file or directory of the revision that is part of the command. Repeat for more; '' for none.",
    },
    "--snapshot-revisions": {
        "type": click.IntRange(0, 1000),
        "metavar": "N",
        "help": "Keep each database's data at its last N revisions; 0 keeps none.",
    },
    "--sandbox/--no-sandbox": {
        "default": None,
        "help": "Confine commands to their checkout, temporary files, and database. Default if the kernel has Landlock.",
    },
    "--allow-read": {
        "metavar": "PATH",
        "multiple": True,
        "help": "Another path that commands may read and execute. Repeat for more; '' for none.",
    },
    "--allow-write": {
        "metavar": "PATH",
        "multiple": True,
        "help": "Another directory that commands may change. Repeat for more; '' for none.",
    },
    "--unix-sockets/--no-unix-sockets": {
        "default": None,
        "help": "Let commands use Unix sockets, such as Docker's. Programs that listen there can do anything for them.",
    },
    "--run-as": {"metavar": "USER", "help": "Run commands as this account. Requires that provisioner runs as root."},
    "--no-run-as": {"is_flag": True, "help": "Run commands as the user that runs provisioner."},
    "--max-branches": {
        "type": click.IntRange(0),
        "metavar": "N",
        "help": "The most branches that get databases, besides production. Default: 10000; 0: no limit.",
    },
    "--checkout-files": {
        "type": click.IntRange(0),
        "metavar": "N",
        "help": "The most files of a revision that a command runs in. Default: 100000; 0: no limit.",
    },
    "--checkout-bytes": {
        "metavar": "SIZE",
        "help": "The most that those files may hold together. Default: 4GB; 0: no limit.",
    },
}
