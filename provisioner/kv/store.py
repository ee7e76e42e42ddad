"""What a store of encoded keys and values does. All stores pass one suite: tests/test_kv_store.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from provisioner.kv.errors import KvError
from provisioner.kv.model import AtomicWrite, ChecksFailed, Committed, RawEntry, ReadRange

Outcome: TypeAlias = Committed | ChecksFailed | KvError


class Store(Protocol):
    """One database. Every method may be called from any thread; times are milliseconds since 1970."""

    def read(self, ranges: Sequence[ReadRange]) -> list[list[RawEntry]]:
        """The entries of each range, all from one snapshot."""

    def write(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        """Do these in order, each by itself all or nothing; what is Committed is durable.

        A write that its checks refuse or that meets a value of another type stands alone with that: its outcome is
        ChecksFailed or the error. Raises KvError where the storage fails, and then nothing was written.
        """

    def close(self) -> None:
        """Let go of everything. Later calls raise Closed; closing again does nothing."""
