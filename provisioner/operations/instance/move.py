"""Moving an instance to another location, continuing and undoing a move, and deleting what it left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from provisioner.core.clock import now_ms
from provisioner.core.connection import FileLocation, ServerLocation
from provisioner.core.counts import counted
from provisioner.core.errors import ProvisionerError, StorageFailed, UsageError
from provisioner.core.ids import DatabaseId
from provisioner.core.model import ConnectMode, Database, Instance
from provisioner.engines.catalog import engine_for, engine_of
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.engines.protocol.move import end_of
from provisioner.engines.server_endpoint import served
from provisioner.operations.documents import size_text
from provisioner.operations.instance.names import must_be_alone, must_stay
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.reconcile.apply.locks import instance_locked
from provisioner.reconcile.changes import instance_move
from provisioner.registry import moves
from provisioner.registry.instances import databases_of
from provisioner.registry.store import Registry

MOVABLE = "deno-kv"
SAID_EVERY = 1.0  # seconds
LOCK_SECONDS = 1.0


def move(registry: Registry, instance: Instance, where: StorageTarget, *, back: bool, forget: bool) -> Proposal:
    """The proposal of `provisioner instance move`. Raises ProvisionerError if that cannot be done."""
    if instance.engine != MOVABLE:
        raise ProvisionerError(
            f"{instance.slug} is a {instance.engine} instance, whose databases cannot be moved",
            "Add and assign another instance, then copy each database: provisioner database dump, and load --replace",
        )
    if back + forget + (where != StorageTarget()) > 1:
        raise UsageError("only one action is possible", "Choose one: a new location, --back, or --forget")
    if forget:
        return _forget(registry, instance)
    if where != StorageTarget():
        must_stay(instance)
        return _begin(registry, instance, _target(registry, instance, where))
    if not instance.moving:
        raise UsageError(f"no new location for {instance.slug} was given", "Add --url URL or --directory PATH")
    return _go_back(registry, instance) if back else _go_on(registry, instance)


def _target(registry: Registry, instance: Instance, where: StorageTarget) -> Instance:
    """The instance after the move."""
    if (where.url is None) == (where.directory is None):
        raise UsageError("no new location was given", "Choose one: --url URL or --directory PATH")
    location, url = engine_for(instance.engine, where).locate(where, "")
    quorum = where.require_quorum
    if quorum is None:
        quorum = instance.require_quorum if isinstance(location, ServerLocation) else 0
    target = replace(instance, location=location, url=url, require_quorum=quorum)
    if instance.left is not None and instance.left.location != location:  # the data there would have no owner
        raise ProvisionerError(
            f"an earlier move of {instance.slug} left data in {instance.left.location}",
            f"Delete it first: provisioner instance move {instance.slug} --forget",
        )
    must_be_alone(registry, location, but=instance.id)
    if isinstance(location, ServerLocation):
        for app in registry.apps():
            if registry.connect_modes(app.id).get(instance.id) is ConnectMode.FILE:
                raise ProvisionerError(
                    f"app {app.slug!r} connects to {instance.slug} by file, which is not possible on a server",
                    f"First run: provisioner assign --connect auto {instance.slug} {app.slug}",
                )
    return target


def _begin(registry: Registry, instance: Instance, target: Instance) -> Proposal:
    held = _with_data(registry, instance)
    size = sum(_size(instance, each) for each in held)
    lines = [
        f"{instance.slug}: {counted(len(held), 'database')}, {size_text(size)}, from {instance.location} to {target.location}"
    ]
    if isinstance(instance.location, FileLocation):
        lines.append(
            "Programs that have a file open get errors after the move and must be restarted. Programs on the provisioner"
            " server only wait briefly"
        )
    if isinstance(target.location, ServerLocation) and served(registry.home) is None:
        lines.append("Apps will need the provisioner server to reach it: provisioner up")
    if instance.require_quorum and not target.require_quorum:
        lines.append(f"Writes will no longer be stored on {instance.require_quorum} nodes")
    lines += [f"{each.name} failed, and stays until you resolve this: {each.error}" for each in held if each.error]

    def do(reporter: ProgressReporter) -> Iterator[str]:
        with instance_locked(registry, instance, LOCK_SECONDS):
            current = registry.instance_of(instance.id)
            must_stay(current)
            _must_be_usable(target)
            alike = type(current.location) is type(target.location)
            if alike and (why := end_of(target).alone(target, current)):
                raise ProvisionerError(f"{instance.slug} cannot be moved there: {why}", "Choose another location")
            instance_move.begin(registry, instance, target, now_ms())
            yield from _carry_on(registry, instance, reporter)

    return Proposal(
        do, f"Move {instance.slug} to {target.location}?", tuple(lines), about=f"move {instance.id} {lines[0]}"
    )


def _must_be_usable(target: Instance) -> None:
    engine = engine_of(target)
    engine.prepare(target)
    failed = [check for check in engine.test(target) if not check.well]
    if failed:
        raise ProvisionerError(f"{target.location} cannot store databases: {failed[0].what}: {failed[0].text}")


def _go_on(registry: Registry, instance: Instance) -> Proposal:
    def do(reporter: ProgressReporter) -> Iterator[str]:
        with instance_locked(registry, instance, LOCK_SECONDS):
            yield from _carry_on(registry, instance, reporter)

    return Proposal(do)


def _go_back(registry: Registry, instance: Instance) -> Proposal:
    moved, total = moves.counted(registry, instance)

    def do(reporter: ProgressReporter) -> Iterator[str]:
        with instance_locked(registry, instance, LOCK_SECONDS):
            instance_move.turn_back(registry, _under_way(registry, instance), now_ms())
            yield from _carry_on(registry, instance, reporter)

    question = f"Move {moved} of {counted(total, 'database')} of {instance.slug} back to {instance.location}?"
    return Proposal(do, question, about=f"move back {instance.id}")


def _under_way(registry: Registry, instance: Instance) -> Instance:
    """The instance as it is now: another process may have ended the move while the question was open."""
    current = registry.instance_of(instance.id)
    if not current.moving:
        raise ProvisionerError(
            f"{instance.slug} is no longer being moved", f"See: provisioner instance show {instance.slug}"
        )
    return current


def _carry_on(registry: Registry, instance: Instance, reporter: ProgressReporter) -> Iterator[str]:
    """Move the remaining databases. Raises ProvisionerError at the end if one could not be moved."""
    instance = _under_way(registry, instance)
    target = instance.storage(moved=True)
    engine_of(target).prepare(target)
    failed: dict[str, ProvisionerError] = {}
    meter = _Meter(registry, instance, reporter)
    entries = late = 0
    longest = 0.0
    while todo := [each for each in moves.waiting(registry, instance) if each not in failed]:
        for app, database_id in instance_move.owners(registry, todo):
            meter.begin(database_id)
            try:
                done = instance_move.move(registry, app, database_id, now_ms, meter.heard)
            except instance_move.NotMoved as error:
                failed[database_id] = error
                continue
            meter.ended(database_id)
            if done is not None:
                entries, late, longest = entries + done.entries, late + done.late, max(longest, done.paused)
    if failed:
        first = next(iter(failed.values()))
        raise ProvisionerError(
            f"{counted(len(failed), 'database')} of {instance.slug} could not be moved; {first.message}",
            f"Resolve this, then run: provisioner instance move {instance.slug}",
        )
    if not instance_move.end(registry, instance, now_ms()):
        raise ProvisionerError(
            f"not everything of {instance.slug} is moved yet",
            f"To continue, run: provisioner instance move {instance.slug}",
        )
    yield f"Moved {instance.slug} to {target.location}: {counted(entries, 'entry')}, {late} of them written during the move"
    yield f"Programs waited at most {longest * 1000:.0f} ms"
    yield from _what_is_left(registry, instance)


def _what_is_left(registry: Registry, old: Instance) -> Iterator[str]:
    try:
        end_of(old).tidy(old)
        count, where = end_of(old).left(old)
    except StorageFailed as error:  # it is no longer an instance's location: nothing is left to do
        yield f"The data left in {old.location} cannot be read: {error}"
        return
    if count:
        yield f"The old data is kept: {counted(count, 'database')} in {where}"
        yield f"To delete it permanently: provisioner instance move {old.slug} --forget"
    else:
        moves.forget_left(registry, registry.instance_of(old.id), now_ms())


def _forget(registry: Registry, instance: Instance) -> Proposal:
    must_stay(instance)
    ends = [instance]
    if instance.left is not None:
        ends.append(replace(instance, location=instance.left.location, url=instance.left.url, require_quorum=0))
    found = [(end, *end_of(end).left(end)) for end in ends]
    lines = tuple(f"{counted(count, 'database')} in {where}" for _, count, where in found if count)
    if not lines and instance.left is None:
        raise ProvisionerError(f"moves of {instance.slug} have left nothing behind")

    def do(_: ProgressReporter) -> Iterator[str]:
        with instance_locked(registry, instance, LOCK_SECONDS):
            must_stay(registry.instance_of(instance.id))
            for end, count, _where in found:
                if count:
                    end_of(end).forget(end)
            for end in ends[1:]:
                end_of(end).tidy(end)
            moves.forget_left(registry, instance, now_ms())
        yield f"{instance.slug}: the old data is deleted; {instance.location} has the only copy"

    question = f"Permanently delete the data that moves of {instance.slug} left behind?" if lines else ""
    return Proposal(do, question, lines, typed=instance.slug, about=f"forget {instance.id} {lines}" if lines else "")


def _with_data(registry: Registry, instance: Instance) -> list[Database]:
    return [each for each in databases_of(registry, instance.id) if each.connected_at is not None]


def _size(instance: Instance, database: Database) -> int:
    return engine_of(instance).inspect(instance, database).size or 0


class _Meter:
    """Reports progress: databases, entries, bytes, and the remaining time, estimated by the bytes."""

    def __init__(self, registry: Registry, instance: Instance, reporter: ProgressReporter) -> None:
        self._reporter = reporter
        self._slug = instance.slug
        held = [each for each in _with_data(registry, instance) if not each.moved]
        self._sizes = {each.id: _size(instance, each) for each in held}
        self._names = {each.id: each.name for each in held}
        self._begun = self._said = time.monotonic()
        self._done = self._number = self._entries = self._bytes = 0
        self._of = ""

    def begin(self, database_id: DatabaseId) -> None:
        self._number += 1
        self._of = self._names.get(database_id, "a new database")

    def ended(self, database_id: DatabaseId) -> None:
        self._done += self._sizes.pop(database_id, 0)

    def heard(self, entries: int, size: int) -> None:
        self._entries += entries
        self._bytes += size
        now = time.monotonic()
        if now - self._said < SAID_EVERY:
            return
        self._said = now
        left = ""
        if self._done:
            seconds = (now - self._begun) / self._done * sum(self._sizes.values())
            left = f", about {seconds:.0f} s left"
        self._reporter.say(
            f"{self._slug}: {self._number} of {max(self._number, len(self._names))}, {self._of}:"
            f" {counted(self._entries, 'entry')}, {size_text(self._bytes)}{left}"
        )
