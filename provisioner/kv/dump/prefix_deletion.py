"""Deleting every key that starts with the parts of another, whether or not its value can be read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from provisioner.kv import limits
from provisioner.kv.codec.key import Selector
from provisioner.kv.dump.load import keys_between, write_all
from provisioner.kv.errors import KvError
from provisioner.kv.model import KeyLike, Mutation, MutationKind
from provisioner.kv.store import Store


class DeletionStopped(KvError):  # noqa: N818 named for what happened
    """It ended early, for `reason`. At least `deleted` keys had been deleted: the answer to a last write may be missing."""

    def __init__(self, deleted: int, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.deleted = deleted
        self.reason = reason


def keys_under(store: Store, prefix: KeyLike) -> Iterator[bytes]:
    """The encoded keys."""
    selector = Selector.of(prefix, None, None)
    return keys_between(store, selector.start, selector.end)


def delete_under(store: Store, prefix: KeyLike) -> int:
    """Delete them, a thousand at a time in their order, and return how many were there. What a program writes behind the place
    that was reached is not waited for. Raises DeletionStopped, after which a second call does the rest."""
    deleted, keys = 0, keys_under(store, prefix)
    try:
        while batch := list(islice(keys, limits.MUTATIONS)):
            write_all(store, [Mutation(MutationKind.DELETE, key) for key in batch])
            deleted += len(batch)
    except (KvError, KeyboardInterrupt, OSError) as error:
        raise DeletionStopped(deleted, error) from error
    return deleted
