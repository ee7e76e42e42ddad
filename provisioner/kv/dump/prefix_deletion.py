"""Deleting every key that starts with the parts of another, whether or not its value can be read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from provisioner.kv import limits
from provisioner.kv.codec.key import Selector
from provisioner.kv.dump.load import keys_between, write_all
from provisioner.kv.model import KeyLike, Mutation, MutationKind
from provisioner.kv.store import Store


def keys_under(store: Store, prefix: KeyLike) -> Iterator[bytes]:
    """The encoded keys."""
    selector = Selector.of(prefix, None, None)
    return keys_between(store, selector.start, selector.end)


def delete_under(store: Store, prefix: KeyLike) -> int:
    """Delete them, a thousand at a time in their order, and return how many were there. If it stops early, a second call
    does the rest. What a program writes behind the place that was reached is not waited for."""
    deleted, keys = 0, keys_under(store, prefix)
    while batch := list(islice(keys, limits.MUTATIONS)):
        write_all(store, [Mutation(MutationKind.DELETE, key) for key in batch])
        deleted += len(batch)
    return deleted
