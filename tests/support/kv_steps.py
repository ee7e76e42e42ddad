"""Steps of the tests of stores: keys, writes, reads and what they leave."""

from __future__ import annotations

import psycopg

from provisioner.kv.codec import key, value
from provisioner.kv.model import (
    AtomicWrite,
    Check,
    Committed,
    Enqueue,
    Mutation,
    MutationKind,
    ReadRange,
)
from provisioner.kv.store import Outcome, Store

NOW = 1_800_000_000_000

A, B, C, D, K, N, X, Z, DEAD, LETTERS = (key.encode((name,)) for name in (*"abcdknxz", "dead", "letters"))

EVERYTHING = ReadRange(b"\0", b"\xff", 1000)


def emptied(url: str) -> None:
    """Of all entries and messages."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("delete from deno_kv.kv")
        connection.execute("delete from deno_kv.queue")


def put(name: bytes, item: object = 1, expire_at: int = -1) -> Mutation:
    return Mutation(MutationKind.SET, name, *value.encode(item), expire_at)


def change(
    kind: MutationKind, name: bytes, operand: object, low: object = "", high: object = "", clamp: bool = False
) -> Mutation:
    least, most = (b"" if bound == "" else value.to_v8(bound) for bound in (low, high))
    return Mutation(kind, name, *value.encode(operand), -1, least, most, clamp)


def do(
    store: Store, *mutations: Mutation, checks: tuple[Check, ...] = (), enqueues: tuple[Enqueue, ...] = ()
) -> Outcome:
    (outcome,) = store.write([AtomicWrite(checks, mutations, enqueues)])
    return outcome


def done(store: Store, *mutations: Mutation, **rest: tuple[Enqueue, ...]) -> bytes:
    outcome = do(store, *mutations, enqueues=rest.get("enqueues", ()))
    assert isinstance(outcome, Committed), outcome
    return outcome.versionstamp


def names(store: Store, wanted: ReadRange = EVERYTHING) -> list[bytes]:
    return [entry.key for entry in store.read([wanted])[0]]


def stored(store: Store, name: bytes) -> object:
    ((entry,),) = store.read([key.point(name)])
    return value.decode(entry.value, entry.encoding)


def enqueued(store: Store, payload: bytes, at: int, backoff: tuple[int, ...] | None = (), *keys: bytes) -> None:
    done(store, enqueues=(Enqueue(payload, at, keys, backoff),))
