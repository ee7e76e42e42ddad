"""Unfinished moves of instances: their progress, and how to continue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from provisioner.core.counts import counted
from provisioner.core.model import Instance
from provisioner.reconcile.apply.locks import instance_if_free
from provisioner.registry import moves
from provisioner.registry.moves import move_of
from provisioner.registry.store import Registry


class MoveProgress(NamedTuple):
    """`moved` of `total` databases are in the new location. `going_on`: a process is moving them."""

    instance: Instance
    moved: int
    total: int
    going_on: bool

    @property
    def text(self) -> str:
        slug = self.instance.slug
        how_far = (
            f"is being moved to {move_of(self.instance).location}, and has"
            f" {self.moved} of {counted(self.total, 'database')} there"
        )
        if self.going_on:
            return how_far
        return f"{how_far}. To continue, run: provisioner instance move {slug}; to undo it, add --back"


def moves_under_way(registry: Registry) -> Iterator[MoveProgress]:
    for instance in registry.instances():
        if instance.moving:
            with instance_if_free(registry, instance) as free:
                yield MoveProgress(instance, *moves.counted(registry, instance), not free)
