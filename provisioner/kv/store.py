"""What a store of encoded keys and values does. All stores pass one suite: tests/test_kv_store.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from provisioner.kv.errors import KvError
from provisioner.kv.model import AtomicWrite, ChecksFailed, Committed, Consistency, Message, RawEntry, ReadRange

Outcome: TypeAlias = Committed | ChecksFailed | KvError


class Subscription(Protocol):
    def close(self) -> None:
        """Stop waking. Closing again does nothing."""


class Store(Protocol):
    """One database. Every method may be called from any thread; times are milliseconds since 1970.

    `prompt` says that reads take microseconds, so an event loop can do them itself; `gathers`, that
    writes happen one transaction after the other, and reads cost a journey: those which wait are best handed over together.
    """

    prompt: bool
    gathers: bool

    def read(self, ranges: Sequence[ReadRange], consistency: Consistency = "strong") -> list[list[RawEntry]]:
        """The entries of each range, all from one snapshot: the latest, or if "eventual" maybe an older one."""

    def write(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        """Do these in order, each of them completely or not at all; a Committed one is durable.

        A write that its checks refuse or that meets a value of another type stands alone with that: its outcome is
        ChecksFailed or the error. Raises KvError where the storage fails, and then nothing was written.
        """

    def watch(self, keys: Sequence[bytes], wake: Callable[[], None]) -> Subscription:
        """Call `wake`, from any thread and maybe for nothing, when one of the entries may have changed."""

    def watch_queue(self, wake: Callable[[], None]) -> Subscription:
        """Call `wake`, from any thread and maybe for nothing, when a message may have come."""

    def claim(self, now: int, most: int) -> tuple[list[Message], int | None]:
        """Up to `most` messages that are due, for this caller alone, and when the next one is due."""

    def renew(self, ids: Sequence[str], now: int) -> None:
        """Renew these messages, so that they are not taken for abandoned."""

    def finish(self, id: str, success: bool, now: int) -> None:  # noqa: A002 the column's name
        """Done with it: forget it, or else try it again as its schedule says, or put it where its keys say."""

    def revive(self, now: int) -> tuple[int, int | None]:
        """Messages whose handler died count as failed: how many, and when to look again."""

    def collect(self, now: int) -> tuple[int, int | None]:
        """Delete what has expired: how many entries, and when the next one expires.

        With very many, only the first ones, which keeps the call short: then the next one has expired already. Call it again.
        """

    def close(self) -> None:
        """Let go of everything. Later calls raise Closed; closing again does nothing."""
