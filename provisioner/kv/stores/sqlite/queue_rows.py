"""The statements on queue and expiry of an SQLite file. Each runs in a transaction that its caller holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import uuid4

import apsw

from provisioner.kv.model import NEVER, Encoding, Enqueue, Message
from provisioner.kv.rules import queue
from provisioner.kv.stores.sqlite.schema import PUT

_RENEWED: Final = " "
_ADD = "insert into queue (ts, id, data, backoff_schedule, keys_if_undelivered) values (?, ?, ?, ?, ?)"
_FIRST_DUE = "select ts from queue order by ts limit 1"
_DUE = "select ts, id, data, backoff_schedule, keys_if_undelivered from queue where ts <= ? order by ts limit ?"
_TAKE = "delete from queue where ts = ? and id = ?"
_RUN = "insert or replace into queue_running (deadline, id, data, backoff_schedule, keys_if_undelivered) values (?, ?, ?, ?, ?)"
_RENEW = "update queue_running set deadline = ? where id = ?"
_RUNNING = "select data, backoff_schedule, keys_if_undelivered from queue_running where id = ?"
_FORGET = "delete from queue_running where id = ?"
_HELD = "select deadline, id, backoff_schedule from queue_running order by deadline limit 1000"
_EXPIRED = (
    "delete from kv where k in (select k from kv where expiration_ms >= 0 and expiration_ms <= ? limit ?) returning k"
)
_FIRST_EXPIRY = "select expiration_ms from kv where expiration_ms >= 0 order by expiration_ms limit 1"


class MessageLease(NamedTuple):
    """A message that is being handled; `renewed`: by one of us, who would renew the deadline."""

    id: str
    deadline: int
    renewed: bool


def first_due(connection: apsw.Connection) -> int | None:
    return _first(connection, _FIRST_DUE)


def first_expiry(connection: apsw.Connection) -> int | None:
    return _first(connection, _FIRST_EXPIRY)


def _first(connection: apsw.Connection, statement: str) -> int | None:
    rows: list[Any] = connection.execute(statement).fetchall()
    return rows[0][0] if rows else None


def add(connection: apsw.Connection, enqueue: Enqueue) -> None:
    connection.execute(_ADD, (enqueue.deliver_at, str(uuid4()), enqueue.payload, *queue.columns(enqueue)))


def claim(connection: apsw.Connection, now: int, most: int) -> list[Message]:
    """Move what is due to the running ones.

    A space behind the schedule, which readers of JSON skip, says that the deadline is renewed while the handler runs.
    Deno counts its deadline from when the message was due and never renews it: that of a message which waited for long
    has passed before the handler starts.
    """
    messages = []
    rows: list[Any] = connection.execute(_DUE, (now, most)).fetchall()
    for ts, id, data, backoff, keys in rows:  # noqa: A001 the column's name
        connection.execute(_TAKE, (ts, id))
        schedule = queue.compact(queue.schedule(backoff)) + _RENEWED
        connection.execute(_RUN, (now + queue.DEADLINE, id, data, schedule, keys))
        messages.append(Message(id, _bytes(data)))
    return messages


def renew(connection: apsw.Connection, ids: Sequence[str], now: int) -> None:
    connection.executemany(_RENEW, [(now + queue.DEADLINE, id) for id in ids])  # noqa: A001


def forget(connection: apsw.Connection, id: str) -> None:  # noqa: A002
    connection.execute(_FORGET, (id,))


def held(connection: apsw.Connection) -> list[MessageLease]:
    """The running messages, those with the earliest deadlines first, a thousand at most."""
    rows: list[Any] = connection.execute(_HELD).fetchall()
    return [MessageLease(id, deadline, str(backoff).endswith(_RENEWED)) for deadline, id, backoff in rows]  # noqa: A001


def requeue(connection: apsw.Connection, id: str, now: int, version: int) -> queue.Retry | queue.GiveUp | None:  # noqa: A002
    """What became of a running message that failed; None if it does not run. `version` is for the keys it goes to."""
    rows: list[Any] = connection.execute(_RUNNING, (id,)).fetchall()
    if not rows:
        return None
    data, backoff, keys = rows[0]
    fate = queue.failed(queue.schedule(backoff), queue.undelivered(keys), now)
    if isinstance(fate, queue.Retry):
        connection.execute(_ADD, (fate.at, id, data, queue.compact(list(fate.backoff)), keys))
    else:
        for key in fate.keys:
            connection.execute(PUT, (key, data, int(Encoding.V8), version, NEVER))
    forget(connection, id)
    return fate


def collect(connection: apsw.Connection, now: int, most: int) -> list[bytes]:
    """Delete up to `most` expired entries; their keys."""
    rows: list[Any] = connection.execute(_EXPIRED, (now, most)).fetchall()
    return [row[0] for row in rows]


def _bytes(data: Any) -> bytes:
    """SQLite gives back text where another program wrote text."""
    return data.encode() if isinstance(data, str) else data
