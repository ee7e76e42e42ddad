"""The explorer of Deno KV on PostgreSQL: as of files, live, and with few journeys to the server."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import urllib3
from changing_world import World
from dashboard_world import HERE, visited
from kv_server import keys_on
from pg_server import PgServer, pg_running
from support import events, shop

from provisioner.core.connection import ServerLocation
from provisioner.core.ids import DatabaseId, InstanceId
from provisioner.core.model import Connected, Database, Instance
from provisioner.dashboard.pages import explorer
from provisioner.engines.postgres import names
from provisioner.kv import open_kv
from provisioner.kv.codec import json_notation
from provisioner.kv.codec.key import encode
from provisioner.kv.local_store import DirectStore, ReadTransaction, Row
from provisioner.kv.model import ReadRange
from provisioner.kv.stores.postgres.store import PostgresStore
from provisioner.kv.stores.sqlite.store import SqliteStore
from provisioner.registry.store import Registry
from provisioner.system.home import Home

Key = tuple[Any, ...]


def kept_on(pg: PgServer, home: Path, copy_of: World | None = None, version: int | None = None) -> tuple[str, str]:
    """A deno-kv database on a server, of the branch login, or production as a fork of that: its id, and the URL it is at."""
    with Registry.open(Home(str(home))) as registry:
        location = f"postgresql://127.0.0.1:{pg.port}"
        found = [each for each in registry.instances() if each.location == location]
        instance = (
            found[0]
            if found
            else Instance(
                InstanceId(str(uuid.uuid4())), f"far-{pg.port}", "deno-kv", ServerLocation(location), 0, pg.url()
            )
        )
        if not found:
            registry.add_instance(instance)
        (app,) = registry.apps()
        timeline = next(each for each in registry.timelines(app.id) if each.production == (copy_of is not None))
        identity = str(uuid.uuid4())
        database = Database(
            id=DatabaseId(identity),
            timeline_id=timeline.id,
            instance_id=instance.id,
            name=f"shop--{identity}",
            state=Connected(),
            created_at=0,
            connected_at=0,
            forked_from=DatabaseId(copy_of.path.rpartition("/")[2]) if copy_of else None,
            fork_version=version,
        )
        registry.save_databases([database])
    name = names.live(instance.id, DatabaseId(identity))
    keys_on(pg, Home(str(home)), identity, name)
    return identity, pg.url(name)


@pytest.fixture
def world(home: Path, tmp_path: Path, pg: PgServer) -> Iterator[World]:
    repo = shop(tmp_path / "shop", "login")
    with visited(home) as (server, visitor):
        yield World(server, visitor, repo, *kept_on(pg, home))


def test_keys_are_made_edited_deleted_and_taken_back_unless_somebody_was_faster(world: World, home: Path) -> None:
    key = ("users", 1)
    assert world.create('["users", 1]', '{"name": "Ada"}').status == 303
    edited = world.send(world.page("edit", key).text, {"value": '"Grace"'}, "edit", key)
    assert world.get(key).value == "Grace"
    world.undo(edited)
    assert world.get(key).value == {"name": "Ada"}
    page = world.page("entry", key).text
    world.set(key, "somebody else's", expire_in=3_600_000)
    refused = world.send(page, {}, "delete", key)
    assert (refused.status, "This key changed while you were editing" in refused.text) == (409, True)
    assert world.get(key).value == "somebody else's"
    deleted = world.send(world.page("entry", key).text, {}, "delete", key)
    assert world.get(key).versionstamp is None
    world.undo(deleted)
    assert world.get(key).value == "somebody else's"
    assert "in 59 min" in world.page("entry", key).text
    assert events(home, "key.undo") == ["login link"] * 2
    for path in ("keys", 'keys?prefix=["users"]', "keys?as=list", 'keys?as=list&start=["a"]&end=["z"]&reverse=yes'):
        assert "users" in world.visitor.get(f"{world.path}/{path}").text, path


def test_who_looks_hears_of_what_others_write(world: World) -> None:
    headers = {**HERE, "cookie": "; ".join(f"{name}={value}" for name, value in world.visitor.cookies.items())}
    with urllib3.PoolManager(retries=False, timeout=60) as pool:
        url = f"{world.visitor.site}{world.path}/events"
        stream = pool.request("GET", url, headers={**headers, "accept": "text/event-stream"}, preload_content=False)
        told = iter(stream.stream(64))
        assert b"retry" in next(told)
        world.set(("news",), 1)
        assert b"changed" in next(told)
        stream.close()


def test_what_differs_since_a_fork_is_shown(world: World, home: Path, pg: PgServer) -> None:
    world.set(("both",), 1)
    with closing(PostgresStore(str(world.file))) as store:
        version = store.version()
        with store.moment() as moment:
            entries = list(moment.rows())
    identity, url = kept_on(pg, home, world, version)
    with closing(PostgresStore(url)) as store:
        store.load(entries, keep=True, after=None, to_end=False)
    with open_kv(url) as kv:
        kv.set(("here",), 2)
    world.set(("there",), 3)
    text = world.visitor.get(f"/databases/{identity}/changes").text
    assert "1 added, 0 changed, 1 removed" in text
    assert [re.sub("<[^>]+>", "", row) for row in re.findall(r'<td data-label="Change">.*?</td>', text)] == [
        "added here",
        "removed in the source",
    ]


def test_a_server_that_is_away_is_told_of_with_the_next_step(home: Path, tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    with pg_running() as far, visited(home) as (server, visitor):
        world = World(server, visitor, repo, *kept_on(far, home))
        far.stop()
        answer = world.visitor.get(f"{world.path}/keys")
        assert (answer.status, "cannot be reached" in answer.text) == (503, True)
        assert f"provisioner instance test far-{far.port}" in answer.text
        assert far.password not in answer.text
        assert world.visitor.get("/").status == 200


# what is looked up


class Counted:
    """A store that counts how often it is asked within one state."""

    def __init__(self, store: DirectStore) -> None:
        self.store, self.asked = store, 0

    def pinned(self) -> Counted:
        self._pinned: ReadTransaction = self.store.pinned()
        return self

    def rows(self, ranges: Sequence[ReadRange]) -> list[list[Row]]:
        self.asked += 1
        return self._pinned.rows(ranges)

    def close(self) -> None:
        self._pinned.close()


@pytest.fixture
def stores(tmp_path: Path, pg: PgServer) -> Iterator[list[DirectStore]]:
    with pg.database() as name:
        made: list[DirectStore] = [SqliteStore(tmp_path / "kv.sqlite3"), PostgresStore(pg.url(name))]
        yield made
        for store in made:
            store.close()


def walked(store: DirectStore, prefix: Key) -> tuple[list[tuple[str, bool, bool]], int]:
    """All branches after a prefix, with whether they are an entry and have keys below; and how often was asked."""
    found, cursor, counted = [], "", Counted(store)
    while True:
        branches, cursor = explorer.tree(counted, prefix, cursor)  # type: ignore[arg-type]
        found += [(branch.part, branch.entry is not None, branch.below) for branch in branches]
        assert len(branches) == explorer.BRANCHES or not cursor
        if not cursor:
            return found, counted.asked


def expected(keys: set[Key], prefix: Key) -> list[tuple[str, bool, bool]]:
    depth = len(prefix)
    below = sorted((key for key in keys if key[:depth] == prefix and len(key) > depth), key=encode)
    stems = list(dict.fromkeys(key[: depth + 1] for key in below))
    return [
        (
            json_notation.text_of(json_notation.to_json(stem[-1])),
            stem in keys,
            any(key[: depth + 1] == stem != key for key in keys),
        )
        for stem in stems
    ]


def written(store: DirectStore, keys: set[Key]) -> None:
    rows = [(key, b"x", 2, None, -1) for key in sorted(map(encode, keys))]
    store.load(rows, keep=False, after=None, to_end=False)


def test_branches_are_found_whatever_lies_below_them(stores: list[DirectStore]) -> None:
    draw = random.Random(7)
    keys: set[Key] = {("deep", number, "x") for number in range(300)}
    keys |= {("flat", number) for number in range(250)}
    for stem in range(130):
        keys |= {("mixed", stem, "k", 0)}
        keys |= {("mixed", stem, number) for number in range(draw.choice((0, 1, 2, 7, 8, 9, 40, 70)))}
        keys |= {("mixed", stem)} if draw.random() < 0.5 else set()
    for store in stores:
        written(store, keys)
        for prefix in ((), ("deep",), ("flat",), ("mixed",), ("mixed", 3), ("none",)):
            assert walked(store, prefix)[0] == expected(keys, prefix), prefix


def test_a_page_asks_a_server_a_few_times_and_not_for_each_key(stores: list[DirectStore]) -> None:
    for store in stores:
        written(
            store,
            {("flat", number) for number in range(100)} | {("much", number // 500, number) for number in range(5000)},
        )
        assert walked(store, ("flat",))[1] <= 8
        assert walked(store, ("much",))[1] <= 2 * 10 + 2
        assert walked(store, ())[1] <= 8
