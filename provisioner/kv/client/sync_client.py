"""The synchronous client: Deno's `Kv` in Python's form."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from provisioner.kv.client import reads
from provisioner.kv.client.atomic import Atomic, Duration, lone_set, result_of
from provisioner.kv.client.expiry import Collector
from provisioner.kv.codec.key import encode, point
from provisioner.kv.errors import Closed, OptionInvalid, Unsupported
from provisioner.kv.model import (
    COMMIT_VERSIONSTAMP,
    CommitFailed,
    CommitResult,
    CommitVersionstamp,
    Consistency,
    KeyLike,
    KeyToSet,
    KvEntry,
)
from provisioner.kv.rules.queue import Dispatcher
from provisioner.kv.store import Store
from provisioner.system.signals import wait_for

_REMOTE_ROOM, _REMOTE_STORE = (
    "provisioner.connect.client.store",
    "RemoteStore",
)  # this room knows no other but by its name


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Kv:
    """A key-value database. May be used from several threads; a context manager that closes it at the end.

    With `ordered`, sets are read as ones of v8serialize, which keep JavaScript's order.
    """

    def __init__(self, store: Store, *, clock: Callable[[], int] = now, ordered: bool = False) -> None:
        self._store = store
        self._clock = clock
        self._ordered = ordered
        self._collector = Collector(store, clock)
        self._dispatchers: list[Dispatcher] = []
        self._closing = False

    def get(self, key: KeyLike, *, consistency: Consistency = "strong") -> KvEntry[Any]:
        """The entry of a key; its value and versionstamp are None if it is absent."""
        reads.consistent(consistency)
        return reads.got(key, self._store.read((point(encode(key)),), consistency)[0], self._ordered)

    def get_many(self, keys: Sequence[KeyLike], *, consistency: Consistency = "strong") -> list[KvEntry[Any]]:
        """The entries of up to 10 keys at one instant, in the order of the keys."""
        reads.consistent(consistency)
        answers = self._store.read(reads.points(keys), consistency)
        return [reads.found(key, entries, self._ordered) for key, entries in zip(keys, answers, strict=True)]

    def set(self, key: KeyToSet, value: object, *, expire_in: Duration | None = None) -> CommitResult:
        """Store a value, to be deleted some time after `expire_in` (a timedelta, or milliseconds)."""
        write = lone_set(key, value, expire_in, self._clock)
        return done(result_of(write, self._store.write((write,))[0], self._collector.expect))

    def delete(self, key: KeyLike) -> None:
        """Delete a key, if it is there."""
        self.atomic().delete(key).commit()

    def list(
        self,
        prefix: KeyLike | None = None,
        *,
        start: KeyLike | None = None,
        end: KeyLike | None = None,
        limit: int | None = None,
        reverse: bool = False,
        cursor: str | None = None,
        batch_size: int | None = None,
        consistency: Consistency = "strong",
    ) -> KvList:
        """The entries whose keys start with the parts of `prefix`, or are from `start` to before `end`, in order.

        `batch_size` entries are read at once, each batch from its own snapshot. `cursor` is that of an earlier list,
        and continues behind where it stood.
        """
        reads.consistent(consistency)
        listing = reads.ListProgress(prefix, start, end, limit, reverse, cursor, batch_size, self._ordered)
        return KvList(self._store, listing, consistency)

    def atomic(self) -> AtomicOperation:
        """Collect checks and changes that are committed together, or not at all."""
        return AtomicOperation(self._store, self._clock, self._collector.expect)

    def commit_versionstamp(self) -> CommitVersionstamp:
        """A placeholder at the end of a key to set, for the versionstamp of the commit."""
        return COMMIT_VERSIONSTAMP

    def watch(self, keys: Sequence[KeyLike]) -> KvWatch:
        """The entries of up to 10 keys: as they are now, and again whenever one of them changes, until closed.

        Changes by other processes arrive too. States in between may be skipped; the latest never is.
        """
        return KvWatch(self._store, keys, self._ordered)

    def enqueue(
        self,
        payload: object,
        *,
        delay: Duration = 0,
        backoff_schedule: Iterable[Duration] | None = None,
        keys_if_undelivered: Iterable[KeyLike] = (),
    ) -> CommitResult:
        """Send a message to one of those who listen, in this process or another, after `delay`.

        When its handler fails, it is tried again after each interval of `backoff_schedule` (five from 100 ms to one
        minute, unless told), and at last stored under each of `keys_if_undelivered`.
        """
        atomic = self.atomic()
        atomic.enqueue(payload, delay=delay, backoff_schedule=backoff_schedule, keys_if_undelivered=keys_if_undelivered)
        return done(atomic.commit())

    def listen_queue(self, handler: Callable[[Any], object]) -> None:
        """Call `handler` with each message, one after the other, until the database is closed.

        A message whose handler raises is tried again, as is one whose process dies: it may arrive more than once.
        Several threads and processes may listen.
        """
        dispatcher = Dispatcher(self._store, self._clock)
        self._dispatchers.append(dispatcher)
        try:
            dispatcher.run(handler)
        finally:
            self._dispatchers.remove(dispatcher)
            if self._closing and not self._dispatchers:
                self._store.close()

    def close(self) -> None:
        """Let go of the database: watches and listeners end, operations after this raise Closed.

        Waits for a handler of the queue that runs in another thread. From within a handler, the database is closed
        as soon as the handler is done.
        """
        self._closing = True
        self._collector.close()
        ended = [dispatcher.close() for dispatcher in tuple(self._dispatchers)]
        if all(ended):
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AtomicOperation(Atomic):
    def __init__(self, store: Store, clock: Callable[[], int], expect: Callable[[int], None]) -> None:
        super().__init__(clock, expect)
        self._store = store

    def commit(self) -> CommitResult | CommitFailed:
        """Do it. The answer is true if the checks held, and else says which did not.

        Raises TypeMismatch or OutOfRange where a sum, min or max cannot be done; then nothing was written.
        """
        write = self._write()
        return result_of(write, self._store.write((write,))[0], self._expect)


def done(result: CommitResult | CommitFailed) -> CommitResult:
    """The result of a commit without checks."""
    assert isinstance(result, CommitResult), "without a check no commit fails"  # noqa: S101
    return result


class KvList:
    """The entries of a list, read as they are asked for. An entry that cannot be read raises; the next ones follow."""

    def __init__(self, store: Store, listing: reads.ListProgress, consistency: Consistency) -> None:
        self._store = store
        self._listing = listing
        self._consistency = consistency

    @property
    def cursor(self) -> str:
        """What continues this list behind the last entry; empty when its end was seen."""
        return self._listing.cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> KvEntry[Any]:
        listing = self._listing
        if listing.wants is not None:
            listing.read(self._store.read([listing.wants], self._consistency)[0])
        entry = listing.hand_out()
        if entry is None:
            raise StopIteration
        return entry


class KvWatch:
    """What `Kv.watch` gives: each time the entries in the order of the keys."""

    def __init__(self, store: Store, keys: Sequence[KeyLike], ordered: bool = False) -> None:
        self._store = store
        self._watching = reads.Watching(keys, ordered)
        self._woken = threading.Event()
        self._woken.set()
        self._closed = False
        self._subscription = store.watch(self._watching.keys, self._woken.set)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[KvEntry[Any]]:
        while not self._closed and self._watching.keys:
            wait_for(self._woken)
            self._woken.clear()
            if self._closed:
                break
            try:
                entries = self._watching.changed(self._store.read(self._watching.ranges))
            except Closed:
                break
            if entries is not None:
                return entries
        self.close()
        raise StopIteration

    def close(self) -> None:
        """End it; a thread that waits for the next change stops waiting."""
        self._closed = True
        self._subscription.close()
        self._woken.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_kv(
    path_or_url: str | os.PathLike[str] | None = None, *, synchronous: str = "full", access_token: str | None = None
) -> Kv:
    """Open a database: a file by its path or `sqlite://` URL, which is made if it is not there, or ":memory:".

    Or one that a server has, by its KV Connect URL, `http://` or `https://`, and `access_token`; without that, the
    token in DENO_KV_ACCESS_TOKEN. Or one on PostgreSQL, by its `postgresql://` URL.

    Without an argument, what PROVISIONER_KV_URL or DENO_KV_DEFAULT_PATH name; without those in memory, with a warning.
    `synchronous` "full": a commit that was acknowledged is on the disk. "normal": the last ones may be lost when the
    machine dies, not when the process does.
    """
    return Kv(open_store(path_or_url, synchronous=synchronous, access_token=access_token))


def _path_of(url: str) -> str:
    """The path in `sqlite:///…`, in which anything may be percent-encoded."""
    from urllib.parse import unquote_to_bytes

    rest = url.removeprefix("sqlite:")
    if not rest.startswith("///"):
        raise OptionInvalid(f"{url!r} names no file. Write sqlite:// and the absolute path")
    return os.fsdecode(unquote_to_bytes(rest.removeprefix("//")))


def open_store(
    path_or_url: str | os.PathLike[str] | None, *, synchronous: str = "full", access_token: str | None = None
) -> Store:
    """The store that `open_kv` would use."""
    if synchronous not in ("full", "normal"):
        raise OptionInvalid(f'synchronous is "full" or "normal", not {synchronous!r}')
    if path_or_url is None:
        path_or_url = os.environ.get("PROVISIONER_KV_URL") or os.environ.get("DENO_KV_DEFAULT_PATH")
        if not path_or_url:
            warnings.warn(
                "No database is named, so this one is in memory and gone at the end. Pass open_kv a path, or run with"
                " DENO_KV_DEFAULT_PATH set, as `provisioner exec` does.",
                stacklevel=3,
            )
            path_or_url = ":memory:"
    name = os.fspath(path_or_url)
    if name.startswith(("http://", "https://")):
        remote: Store = getattr(import_module(_REMOTE_ROOM), _REMOTE_STORE)(
            name, access_token if access_token is not None else os.environ.get("DENO_KV_ACCESS_TOKEN", "")
        )
        return remote
    if name.startswith(("postgresql://", "postgres://")):
        return _on_postgres(name)
    if name.startswith("sqlite:"):
        name = _path_of(name)
    if name == ":memory:":
        from provisioner.kv.stores.memory import MemoryStore

        return MemoryStore()
    from provisioner.kv.stores.sqlite.store import SqliteStore

    return SqliteStore(name, synchronous="full" if synchronous == "full" else "normal")


def _on_postgres(url: str) -> Store:
    try:
        from provisioner.kv.stores.postgres.store import open_store as opened
    except ImportError as error:
        raise Unsupported(
            'PostgreSQL needs psycopg, which is not there. Install it: pip install "timeline-provisioner[postgres]"'
        ) from error
    return opened(url)
