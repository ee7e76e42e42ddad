"""One moment of a database, to be read from its first key to its last: what a dump and a diff look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from provisioner.kv import limits
from provisioner.kv.dump.json_lines import Dump
from provisioner.kv.local_store import DirectStore, StoreSnapshot
from provisioner.kv.model import NEVER, ReadRange, StoredRow
from provisioner.kv.store import Store

LAST: Final = b"\xff"


class Batches:
    """Any store by its reads, each of a different moment: KV Connect reports neither earlier states nor expiries."""

    whole = False
    expiry = False
    version: int | None = None

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self, start: bytes = b"", end: bytes | None = None) -> Iterator[StoredRow]:
        start = start or b"\0"
        while True:
            (entries,) = self._store.read([ReadRange(start, end or LAST, limits.READ_ENTRIES)])
            for entry in entries:
                version = int.from_bytes(entry.versionstamp[:8], "big", signed=True)
                yield entry.key, entry.value, entry.encoding, version, NEVER
            if len(entries) < limits.READ_ENTRIES:
                return
            start = entries[-1].key + b"\0"

    def count(self) -> int | None:
        return None


class Dumped:
    """What was dumped before."""

    whole = True

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self.expiry = dump.header is None or dump.header.expiry
        self.version: int | None = None

    def rows(self, start: bytes = b"", end: bytes | None = None) -> Iterator[StoredRow]:
        for _, row in self._dump.rows():
            if start <= row[0] and (end is None or row[0] < end):
                yield row

    def count(self) -> int | None:
        return None


@contextmanager
def of_store(store: Store, *, pages: bool = False) -> Iterator[StoreSnapshot]:
    """A snapshot for the block, with its `pages` where there are such; of a store that holds none, the nearest to it."""
    if isinstance(store, DirectStore):
        with store.moment(pages=pages) as found:
            yield found
    else:
        yield Batches(store)
