"""Replacing a database's data with a dump, for engines that load dumps as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Database
from provisioner.engines.catalog import engine_of
from provisioner.operations.deploys import after_change
from provisioner.operations.documents import size_text
from provisioner.operations.fork_reset import at_stake, was_kept
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.reconcile.changes.replace import ReplacementData, put_in_place
from provisioner.reconcile.changes.snapshots import delete_snapshot
from provisioner.registry import snapshots
from provisioner.registry.store import Registry


def load(
    registry: Registry, app: App, database: Database, path: str, *, replace: bool, keep: bool, deploy: bool = True
) -> Proposal:
    """Replace a database's data with a dump. Unless it is empty, this needs `replace`, and the old data becomes a snapshot,
    which stays if `keep`. `deploy`: run the pre-deploy command on it afterwards."""
    instance = registry.storage_of(database)
    dumps = engine_of(instance).dumps
    if dumps is None:
        raise ProvisionerError(f"a {instance.engine} database is not loaded as a whole")
    empty = dumps.is_empty(instance, database)
    if not (empty or replace):
        raise ProvisionerError(f"{database.name} is not empty", "Use --replace to replace its data with the dump")

    def do(reporter: ProgressReporter) -> Iterator[str]:
        change = ReplacementData(database, None, path, build=lambda: dumps.load(instance, database, path))
        (done,) = put_in_place(registry, app, [change], now_ms(), action="load", deploy=deploy)
        yield f"Loaded {path} into {database.name} ({size_text(done.made.size)})"
        if keep and not empty:
            yield was_kept(registry, done)
        else:
            for snapshot in snapshots.snapshots(registry, database.id):
                if snapshot.id == done.kept_as:
                    delete_snapshot(registry, database, snapshot, now_ms(), cause="superseded")
        yield from after_change(registry, app, registry.timeline(database.timeline_id), reporter, wanted=deploy)

    if empty:
        return Proposal(do)
    users, typed = at_stake(registry, app, database)
    return Proposal(do, f"Replace all data in {database.name} with the dump?{users}", typed=typed)
