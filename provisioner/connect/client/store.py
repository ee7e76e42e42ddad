"""The store at the other end of KV Connect, for any server that speaks it.

Queues use an extension of the provisioner server; other servers answer that with Unsupported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from provisioner.connect.client import codec, queue_calls
from provisioner.connect.client.codec import Disabled
from provisioner.connect.client.metadata import WATCH_VERSION, ProtocolViolation
from provisioner.connect.client.retries import PATIENCE, AmbiguousWrite, Remote, RequestRefused
from provisioner.connect.client.stream_listener import StreamListener
from provisioner.kv.errors import AccessDenied, Closed, KvError, StoreFailed, Uncertain, Unsupported
from provisioner.kv.model import AtomicWrite, Committed, Consistency, Message, MutationKind, RawEntry, ReadRange
from provisioner.kv.store import Outcome

READS_TRIED: Final = 3  # where an endpoint says that it does not serve them


class RemoteStore:
    """`url` is a connect URL. Raises AccessDenied, StoreFailed where it cannot be opened."""

    prompt = False
    gathers = False  # the server does

    def __init__(self, url: str, access_token: str, *, patience: float = PATIENCE) -> None:
        self._remote = Remote(url, access_token, patience=patience)
        self._listening: set[StreamListener] = set()

    def read(self, ranges: Sequence[ReadRange], consistency: Consistency = "strong") -> list[list[RawEntry]]:
        body = codec.read_request(ranges)
        for _ in range(READS_TRIED):
            try:
                answer = self._remote.call("/snapshot_read", body, consistency=consistency)
                return codec.entries_of(answer, ranges, strong=consistency == "strong")
            except RequestRefused as error:
                raise codec.error_of(error) from error
            except ProtocolViolation as error:
                raise self._remote.strange(str(error)) from error
            except Disabled as error:
                disabled = error
                self._remote.renew()
        raise StoreFailed(f"no endpoint serves this: {disabled}")

    def write(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        """As the protocol says; but each write is a request, so where the storage fails that is the write's outcome.

        Uncertain means that it may have been written. Writes after one that failed so are not sent, and fail too.
        """
        outcomes: list[Outcome] = []
        for write in writes:
            outcome = self._write(write)
            outcomes.append(outcome)
            if isinstance(outcome, (StoreFailed, Uncertain, AccessDenied)):
                rest = len(writes) - len(outcomes)
                outcomes += [StoreFailed(f"not sent, for a write before it failed: {outcome}") for _ in range(rest)]
                break
        return outcomes

    def watch(self, keys: Sequence[bytes], wake: Callable[[], None]) -> StreamListener:
        if self._remote.version < WATCH_VERSION:
            raise Unsupported(f"the server speaks version {self._remote.version} of the protocol, which has no watch")
        wanted = tuple(keys)
        return self._listen("/watch", codec.watch_request(wanted), lambda frame: codec.watch_frame(frame, wanted), wake)

    def watch_queue(self, wake: Callable[[], None]) -> StreamListener:
        return self._listen(queue_calls.NEWS, b"", queue_calls.news, wake)

    def claim(self, now: int, most: int) -> tuple[list[Message], int | None]:
        return queue_calls.claim(self._remote, now, most)

    def renew(self, ids: Sequence[str], now: int) -> None:
        queue_calls.renew(self._remote, ids)

    def finish(self, id: str, success: bool, now: int) -> None:  # noqa: A002 the column's name
        queue_calls.finish(self._remote, id, success)

    def revive(self, now: int) -> tuple[int, int | None]:
        return queue_calls.revive(self._remote, now)

    def collect(self, now: int) -> tuple[int, int | None]:
        """Nothing: the server deletes what has expired, by its own clock."""
        if self._remote.closed.is_set():
            raise Closed("the database is closed")
        return 0, None

    def close(self) -> None:
        self._remote.close()
        while self._listening:
            listening = self._listening.pop()
            listening.close()
            listening.wake()

    def _write(self, write: AtomicWrite) -> Outcome:
        doubt = AmbiguousWrite(twice=not _changes(write) or _guarded(write))
        outcome: Outcome
        try:
            body = self._remote.call("/atomic_write", codec.write_request(write), doubt=doubt)
            outcome = codec.outcome_of(body, write)
        except ProtocolViolation as error:
            outcome = self._remote.strange(str(error), doubt)
        except RequestRefused as error:
            outcome = codec.error_of(error, writing=True)
        except Closed:
            if doubt.cause is None:
                raise
            outcome = doubt.error()
        except KvError as error:
            outcome = error
        if doubt.cause is not None and _changes(write) and not isinstance(outcome, Committed):
            return doubt.error()  # that its checks fail now may be because it was written
        return outcome

    def _listen(
        self, path: str, body: bytes, judge: Callable[[bytes], None], wake: Callable[[], None]
    ) -> StreamListener:
        if self._remote.closed.is_set():
            raise Closed("the database is closed")
        return StreamListener(self._remote, path, body, judge, wake, self._listening)


def _changes(write: AtomicWrite) -> bool:
    return bool(write.mutations or write.enqueues)


def _guarded(write: AtomicWrite) -> bool:
    """Whether it can only happen once: it checks a versionstamp that is gone when it has happened, and never returns.

    That an entry is absent, which may be checked too, can be so again.
    """
    changed = {mutation.key for mutation in write.mutations if mutation.kind is not MutationKind.SET_VERSIONSTAMPED}
    return any(check.versionstamp is not None and check.key in changed for check in write.checks)
