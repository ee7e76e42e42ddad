"""Nobody is told of the past, however many ask at once."""

from __future__ import annotations

import random
import threading
from contextlib import closing

import pytest
from kv_server import Served

from provisioner.connect.client.store import RemoteStore
from provisioner.kv.codec.key import encode, point
from provisioner.kv.codec.value import decode
from provisioner.kv.codec.value import encode as value
from provisioner.kv.model import AtomicWrite, Committed, Mutation, MutationKind
from provisioner.kv.store import Store
from provisioner.kv.stores.sqlite.reads import SqliteReadTransaction
from provisioner.kv.stores.sqlite.store import SqliteStore

CLIENTS = 16
TURNS = 60
ON_THE_FILE = 0  # the number of the client that writes to the file itself


def test_what_was_acknowledged_to_anybody_is_read_by_everybody(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    made = server.database()
    acknowledged = [0] * CLIENTS
    strange: list[object] = []
    shared: list[int] = []

    def pinned(store: SqliteStore) -> SqliteReadTransaction:
        shared.append(1)
        return SqliteReadTransaction(store._file)

    monkeypatch.setattr(SqliteStore, "pinned", pinned)

    def client(number: int, store: Store) -> None:
        for turn in range(1, TURNS):
            put = Mutation(MutationKind.SET, encode((number,)), *value(turn))
            if not isinstance(store.write([AtomicWrite((), (put,), ())])[0], Committed):
                strange.append("a write was not acknowledged")
            acknowledged[number] = turn
            for _ in range(3):
                other = random.randrange(CLIENTS)
                known = acknowledged[other]
                entries = store.read([point(encode((other,)))])[0]
                found = decode(entries[0].value, entries[0].encoding) if entries else 0
                if found < known:
                    strange.append(f"{found} was read of client {other}, which had {known} acknowledged")

    stores: list[Store] = [
        SqliteStore(made.path) if number == ON_THE_FILE else RemoteStore(made.url, made.token)
        for number in range(CLIENTS)
    ]
    threads = [threading.Thread(target=client, args=(number, store)) for number, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        with closing(store):
            assert [decode(e.value, e.encoding) for e in store.read([point(encode((1,)))])[0]] == [TURNS - 1]
    assert strange == []
    assert shared, "there was no crowd"
