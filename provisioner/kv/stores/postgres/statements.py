"""The statements on entries and messages of a database on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import uuid4

from provisioner.kv.model import NEVER, Encoding, Enqueue, ReadRange
from provisioner.kv.rules import queue
from provisioner.kv.rules.batch import Needs, Put
from provisioner.kv.rules.mutations import Stored
from provisioner.kv.stores.postgres.connection import Row, Statement

_ENTRY: Final = "select k, v, v_encoding, version from deno_kv.kv"
_POINT: Final = f"{_ENTRY} where k = %b"
_RANGE: Final = f"{_ENTRY} where k >= %b and k < %b order by k limit %b"
_REVERSE: Final = f"{_ENTRY} where k >= %b and k < %b order by k desc limit %b"
_RANGES: Final = (
    "select wanted.number, found.* from unnest(%b::bytea[], %b::bytea[], %b::bigint[], %b::boolean[])"
    " with ordinality as wanted (first, behind, most, reverse, number), lateral ("
    f"({_ENTRY} where not reverse and k >= first and k < behind order by k limit most) union all"
    f" ({_ENTRY} where reverse and k >= first and k < behind order by k desc limit most)) found"
)
_VERSIONS: Final = "select k, version from deno_kv.kv where k = any(%b::bytea[])"
_VALUES: Final = "select k, v, v_encoding from deno_kv.kv where k = any(%b::bytea[])"
_SWEEP: Final = "from deno_kv.kv where k > %b and k < %b and k <> all(coalesce(%b::bytea[], '{}'))"
_BEHIND_ALL: Final = b"\xff" * 4  # keys start with less

ALL: Final = "select k, v, v_encoding, version, expiration_ms from deno_kv.kv"
WHOLE: Final = f"{ALL} where k = %b"
FIRST_EXPIRY: Final = "select expiration_ms from deno_kv.kv where expiration_ms >= 0 order by expiration_ms limit 1"
EXPIRED: Final = (
    "select k from deno_kv.kv where expiration_ms >= 0 and expiration_ms <= %b order by expiration_ms limit %b"
)
FIRST_DUE: Final = "select at_ms from deno_kv.queue where not running order by at_ms, number limit 1"
FIRST_HELD: Final = "select at_ms from deno_kv.queue where running order by at_ms limit 1"
DUE: Final = "select id, data from deno_kv.queue where not running and at_ms <= %b order by at_ms, number limit %b"
TAKE: Final = "update deno_kv.queue set running = true, at_ms = %b where id = any(%b::text[])"
RENEW: Final = "update deno_kv.queue set at_ms = %b where running and id = any(%b::text[])"
FORGET: Final = "delete from deno_kv.queue where running and id = any(%b::text[])"
_HELD: Final = "select id, data, backoff_schedule, keys_if_undelivered from deno_kv.queue where running"
ONE_HELD: Final = f"{_HELD} and id = %b"
LEFT_BEHIND: Final = f"{_HELD} and at_ms <= %b order by at_ms limit 1000"
_RETRY: Final = "update deno_kv.queue set running = false, at_ms = %b, backoff_schedule = %b where id = %b"


def reading(ranges: Sequence[ReadRange]) -> Statement:
    """One statement, so one snapshot."""
    if len(ranges) == 1:
        start, end, limit, reverse = ranges[0]
        if end == start + b"\0":
            return _POINT, (start,)
        return _REVERSE if reverse else _RANGE, (start, end, limit)
    starts, ends, limits, reverses = zip(*ranges, strict=True)
    return _RANGES, (list(starts), list(ends), list(limits), list(reverses))


def read(ranges: Sequence[ReadRange], rows: list[Row]) -> list[list[Row]]:
    """What was read, by range."""
    if len(ranges) == 1:
        return [rows]
    found: list[list[Row]] = [[] for _ in ranges]
    for number, *row in rows:
        found[number - 1].append(tuple(row))
    for wanted, entries in zip(ranges, found, strict=True):
        entries.sort(reverse=wanted.reverse)
    return found


def looking_up(wanted: Needs) -> list[Statement]:
    """What is stored of what decides what the writes do."""
    statements: list[Statement] = []
    if wanted.versions:
        statements.append((_VERSIONS, (wanted.versions,)))
    if wanted.values:
        statements.append((_VALUES, (wanted.values,)))
    return statements


def looked_up(wanted: Needs, answers: Sequence[list[Row]]) -> tuple[dict[bytes, int], dict[bytes, Stored]]:
    """Versions and values by key."""
    versions: dict[bytes, int] = dict(answers[0]) if wanted.versions else {}
    values = {key: (value, encoding) for key, value, encoding in answers[-1]} if wanted.values else {}
    return versions, values


def sweep(after: bytes, staying: Sequence[bytes], *, to_end: bool) -> tuple[Statement, Statement]:
    """How many there are between `after` and the last key of those that stay, which are in order, and to delete them;
    `to_end`: and all behind."""
    behind = _BEHIND_ALL if to_end else staying[-1] if staying else after
    which = (after, behind, list(staying) or None)
    return (f"select count(*) {_SWEEP}", which), (f"delete {_SWEEP}", which)


def messages(enqueues: Sequence[Enqueue]) -> Sequence[Sequence[object] | None]:
    """The columns of messages: ids, times, payloads, schedules, keys."""
    if not enqueues:
        return [None] * 5
    columns = [queue.columns(each) for each in enqueues]
    return (
        [str(uuid4()) for _ in enqueues],
        [each.deliver_at for each in enqueues],
        [each.payload for each in enqueues],
        [backoff for backoff, _ in columns],
        [keys for _, keys in columns],
    )


class Failed(NamedTuple):
    """What becomes of messages whose handlers failed: statements, the entries that they are put down as, and whether
    some come again."""

    statements: list[Statement]
    puts: dict[bytes, Put]
    again: bool


def failing(held: Sequence[Row], now: int, version: int) -> Failed:
    """`held` as ONE_HELD and LEFT_BEHIND give them; `version` is for the entries."""
    statements: list[Statement] = []
    puts: dict[bytes, Put] = {}
    given_up = []
    for id, data, backoff, keys in held:  # noqa: A001 the column's name
        fate = queue.failed(queue.schedule(backoff), queue.undelivered(keys), now)
        if isinstance(fate, queue.Retry):
            statements.append((_RETRY, (fate.at, queue.compact(list(fate.backoff)), id)))
        else:
            given_up.append(id)
            puts |= {key: Put(data, int(Encoding.V8), version, NEVER) for key in fate.keys}
    if given_up:
        statements.append((FORGET, (given_up,)))
    return Failed(statements, puts, len(given_up) < len(held))
