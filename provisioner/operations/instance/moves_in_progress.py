"""Moves of instances that have begun and not ended: how far they are, and how they go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from provisioner.core.model import Instance
from provisioner.reconcile.apply.locks import instance_if_free
from provisioner.registry import moves
from provisioner.registry.store import Registry


class MoveProgress(NamedTuple):
    """Of `total` databases `moved` are in the new place. `going_on`: somebody is at it."""

    instance: Instance
    moved: int
    total: int
    going_on: bool

    @property
    def text(self) -> str:
        slug = self.instance.slug
        how_far = f"is being moved to {self.instance.moving_location}: {self.moved} of {self.total} databases are there"
        if self.going_on:
            return how_far
        return f"{how_far}. Go on: provisioner instance move {slug}; or with --back to where it was"


def moves_under_way(registry: Registry) -> Iterator[MoveProgress]:
    for instance in registry.instances():
        if instance.moving:
            with instance_if_free(registry, instance) as free:
                yield MoveProgress(instance, *moves.counted(registry, instance), not free)
