"""What many atomic writes come to, done one after the other on the entries that they ask for. Pure.

For a store over a network: it looks up what all of them need at once, and writes the results at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from provisioner.kv.errors import KvError
from provisioner.kv.model import NEVER, AtomicWrite, ChecksFailed, Committed, Enqueue, Mutation, MutationKind
from provisioner.kv.rules.mutations import Stored, effects
from provisioner.kv.store import Outcome

MOST_BYTES: Final = 16 * 1024 * 1024
ORDER_IN_BATCH: Final = b"\0\0"
"""The end of each versionstamp: this store gives each write its own version."""
_SET: Final = MutationKind.SET
_SUFFIXED: Final = MutationKind.SET_VERSIONSTAMPED
_COMPUTED: Final = (MutationKind.SUM, MutationKind.MIN, MutationKind.MAX)


class Put(NamedTuple):
    """What an entry has become; absent if `value` is None. `expire_at` in milliseconds since 1970, or -1."""

    value: bytes | None
    encoding: int
    version: int
    expire_at: int


GONE: Final = Put(None, 0, 0, NEVER)


class Needs(NamedTuple):
    """The keys whose versions, and those whose values decide what the writes do; whether the last version does, too."""

    versions: list[bytes]
    values: list[bytes]
    version: bool

    def __bool__(self) -> bool:
        return bool(self.versions or self.values or self.version)


def portions(writes: Sequence[AtomicWrite]) -> Iterator[Sequence[AtomicWrite]]:
    """The same in order, no more bytes at once than are well sent at once."""
    start = total = 0
    for at, write in enumerate(writes):
        size = sum(len(mutation.key) + len(mutation.value) for mutation in write.mutations)
        size += sum(len(enqueue.payload) for enqueue in write.enqueues)
        if at > start and total + size > MOST_BYTES:
            yield writes[start:at]
            start, total = at, 0
        total += size
    if start < len(writes):
        yield writes[start:]


def versionstamp(version: int) -> bytes:
    return version.to_bytes(8, "big", signed=True) + ORDER_IN_BATCH


def needs(writes: Sequence[AtomicWrite]) -> Needs:
    versions = {check.key for write in writes for check in write.checks}
    values = {mutation.key for write in writes for mutation in write.mutations if mutation.kind in _COMPUTED}
    version = any(mutation.kind is _SUFFIXED for write in writes for mutation in write.mutations)
    return Needs(list(versions), list(values), version)


class Batch:
    """`versions` and `values` are what is stored of the keys that were needed; `version` is that of the last commit, and
    `step` says how much further each new one is."""

    def __init__(
        self, versions: Mapping[bytes, int], values: Mapping[bytes, Stored], version: int, step: Callable[[], int]
    ) -> None:
        self.version = version
        self.puts: dict[bytes, Put] = {}
        self.enqueues: list[Enqueue] = []
        self._versions = versions
        self._values = values
        self._step = step

    def add(self, write: AtomicWrite) -> Outcome:
        failed = tuple(
            index for index, check in enumerate(write.checks) if self._versionstamp(check.key) != check.versionstamp
        )
        if failed:
            return ChecksFailed(failed)
        version = self.version + self._step()
        if all(mutation.kind is _SET for mutation in write.mutations):
            for mutation in write.mutations:
                self._set(mutation, version)
        else:
            try:
                done = effects(write.mutations, self._stored, versionstamp(version))
            except KvError as error:
                return error
            for effect in done:
                self.puts[effect.key] = Put(effect.value, int(effect.encoding), version, effect.expire_at)
        self.enqueues += write.enqueues
        self.version = version
        return Committed(versionstamp(version))

    def _set(self, mutation: Mutation, version: int) -> None:
        self.puts[mutation.key] = Put(mutation.value, int(mutation.encoding), version, mutation.expire_at)

    def _versionstamp(self, key: bytes) -> bytes | None:
        put = self.puts.get(key)
        version = self._versions.get(key) if put is None else None if put.value is None else put.version
        return None if version is None else versionstamp(version)

    def _stored(self, key: bytes) -> Stored | None:
        put = self.puts.get(key)
        if put is None:
            return self._values.get(key)
        return None if put.value is None else (put.value, put.encoding)
