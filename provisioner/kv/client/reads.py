"""Between what a program asks to read and encoded ranges, and back. No input or output: both clients stand on this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provisioner.kv import limits
from provisioner.kv.codec import key as keys
from provisioner.kv.codec import value
from provisioner.kv.errors import CursorInvalid, LimitExceeded, Malformed, OptionInvalid
from provisioner.kv.model import KeyLike, KvEntry, KvKey, RawEntry, ReadRange, Versionstamp


def points(wanted: Sequence[KeyLike]) -> list[ReadRange]:
    """A range for each of the keys."""
    if len(wanted) > limits.READ_RANGES:
        raise LimitExceeded(f"get_many takes at most {limits.READ_RANGES} keys, not {len(wanted)}")
    return [keys.point(keys.encode(key)) for key in wanted]


def consistent(consistency: str) -> None:
    """Refuse an invalid one. Both kinds read the latest commit of a file: only a remote database has older copies."""
    if consistency not in ("strong", "eventual"):
        raise OptionInvalid(f'consistency is "strong" or "eventual", not {consistency!r}')


def found(key: KeyLike, entries: Sequence[RawEntry], ordered: bool = False) -> KvEntry[Any]:
    """The one entry of `key`, or that it is absent."""
    return entry(entries[0], ordered=ordered) if entries else KvEntry(tuple(key), None, None)  # type: ignore[arg-type]


def got(key: KeyLike, entries: Sequence[RawEntry], ordered: bool = False) -> KvEntry[Any]:
    """The same as `found`, without decoding a key that is known."""
    if entries and (known := keys.as_stored(key)) is not None:
        return entry(entries[0], len(entries[0].key), known, ordered)
    return found(key, entries, ordered)


def entry(raw: RawEntry, at: int = 0, known: KvKey = (), ordered: bool = False) -> KvEntry[Any]:
    """The entry decoded; see `key.decode` for `at` and `known`, `value.decode` for `ordered`.

    Raises Malformed, which names the key.
    """
    data, stored, encoding, versionstamp = raw
    key = known if at == len(data) else keys.decode(data, at, known)
    try:
        return KvEntry(key, value.decode(stored, encoding, ordered), Versionstamp(versionstamp.hex()))
    except Malformed as error:
        raise Malformed(f"the value of {key!r} cannot be read: {error}") from error


class Watching:
    """The keys of a watch, and what was last seen of them."""

    def __init__(self, wanted: Sequence[KeyLike], ordered: bool = False) -> None:
        if len(wanted) > limits.WATCHED_KEYS:
            raise LimitExceeded(f"watch takes at most {limits.WATCHED_KEYS} keys, not {len(wanted)}")
        self._wanted = tuple(wanted)
        self._ordered = ordered
        self.keys = tuple(keys.encode(key) for key in wanted)
        for key in self.keys:
            keys.check_read(key)
        self.ranges = [ReadRange(key, key + b"\0", 1) for key in self.keys]
        self._seen: list[bytes | None] | None = None

    def changed(self, found_now: Sequence[Sequence[RawEntry]]) -> list[KvEntry[Any]] | None:
        """The entries, if one of them is another than last time."""
        seen = [entries[0].versionstamp if entries else None for entries in found_now]
        if seen == self._seen:
            return None
        self._seen = seen
        return [found(key, entries, self._ordered) for key, entries in zip(self._wanted, found_now, strict=True)]


class ListProgress:
    """The position in a list: the next read, and the cursor after the entries handed out."""

    __slots__ = (
        "_batch",
        "_known",
        "_last",
        "_left",
        "_offset",
        "_ordered",
        "_over",
        "_ready",
        "_reverse",
        "_selector",
        "wants",
    )

    def __init__(
        self,
        prefix: KeyLike | None,
        start: KeyLike | None,
        end: KeyLike | None,
        limit: int | None,
        reverse: bool,
        cursor: str | None,
        batch_size: int | None,
        ordered: bool = False,
    ) -> None:
        if limit is not None:
            _positive(limit, "limit")
        if batch_size is None:
            self._batch = min(limit or limits.BATCH_DEFAULT, limits.BATCH_OF_A_LIMIT)
        else:
            self._batch = _positive(batch_size, "batch_size")
        if self._batch > limits.READ_ENTRIES:
            raise LimitExceeded(f"batch_size is at most {limits.READ_ENTRIES}, not {batch_size}")
        self._selector = keys.Selector.of(prefix, start, end)
        self._known: KvKey = () if prefix is None else keys.decode(self._selector.common)
        self._offset = 0 if prefix is None else len(self._selector.common)
        self._left = -1 if limit is None else limit
        self._reverse = reverse
        self._ordered = ordered
        self._last: bytes | str | None = cursor or None
        self._ready: list[RawEntry] = []
        self._over = False
        self.wants: ReadRange | None = self._selector.read(self._batch, reverse, cursor or None)
        """What to `read` before the next entry is handed out; None if that can be done at once."""

    def read(self, entries: list[RawEntry]) -> None:
        """What was wanted."""
        self._ready = entries[::-1]
        self.wants = None
        if len(entries) < self._batch:
            self._over = True

    def hand_out(self) -> KvEntry[Any] | None:
        """The next entry; None behind the last one."""
        if not self._left:
            return None
        ready = self._ready
        if not ready:
            self._last = b""
            return None
        raw = ready.pop()
        self._last = raw.key
        self._left -= 1
        if not ready and not self._over and self._left:
            self.wants = self._selector.read(self._batch, self._reverse, self._selector.cursor(raw.key))
        return entry(raw, self._offset, self._known, self._ordered)

    @property
    def cursor(self) -> str:
        """Continues behind the last entry; empty when the end was seen."""
        if self._last is None:
            raise CursorInvalid("there is no cursor before the first entry")
        if isinstance(self._last, str):
            return self._last
        return self._selector.cursor(self._last) if self._last else ""


def _positive(number: int, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
        raise OptionInvalid(f"{name} is a positive int, not {number!r}")
    return number
