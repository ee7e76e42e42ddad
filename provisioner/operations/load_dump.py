"""What is in a dump in the place of a database's data, where an engine loads dumps as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Database
from provisioner.engines.catalog import engine_of
from provisioner.operations.deploys import after_change
from provisioner.operations.fork_reset import shared_by, was_kept
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.reconcile.changes.replace import ReplacementData, put_in_place
from provisioner.reconcile.changes.snapshots import delete_snapshot
from provisioner.registry import snapshots
from provisioner.registry.store import Registry


def load(
    registry: Registry, app: App, database: Database, path: str, *, replace: bool, keep: bool, deploy: bool = True
) -> Proposal:
    """Make a database what a dump says. Unless it is empty, `replace` has to be said, and what it held becomes a snapshot,
    which stays where `keep`. `deploy`: the pre-deploy command is run on it afterwards."""
    instance = registry.storage_of(database)
    dumps = engine_of(instance).dumps
    if dumps is None:
        raise ProvisionerError(f"a {instance.engine} database is not loaded as a whole")
    empty = dumps.is_empty(instance, database)
    if not (empty or replace):
        raise ProvisionerError(f"{database.name} is not empty", "Say --replace to have what the dump says instead")

    def do(reporter: ProgressReporter) -> Iterator[str]:
        change = ReplacementData(database, None, path, build=lambda: dumps.load(instance, database, path))
        (done,) = put_in_place(registry, app, [change], now_ms(), action="load", deploy=deploy)
        yield f"loaded {path} into {database.name}, {done.made.size} bytes"
        if keep and not empty:
            yield was_kept(registry, done)
        else:
            for snapshot in snapshots.snapshots(registry, database.id):
                if snapshot.id == done.kept_as:
                    delete_snapshot(registry, app, database, snapshot, now_ms(), cause="superseded")
        yield from after_change(registry, app, registry.timeline(database.timeline_id), reporter, wanted=deploy)

    if empty:
        return Proposal(do)
    users = shared_by(registry, [database])
    return Proposal(do, f"Replace all that {database.name} holds?{users}")
