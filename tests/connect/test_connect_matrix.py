"""Every kind of token, every kind of database, every endpoint: who gets in, who does not, and who learns nothing.

A request is answered by what its token opens. Where that is not this database, the answer is the same as for a database that
does not exist.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import connect_wire as wire
import pytest
from connect_world import Server, access, serving, token
from support import database_of, git, ok, shop, until

from provisioner.connect.protocol import queue_pb2
from provisioner.connect.server.tokens import Access, Opened
from provisioner.core.clock import now_ms
from provisioner.core.ids import DatabaseId
from provisioner.system.home import Home

NOWHERE = "01234567-89ab-4def-8123-456789abcdef"
KEY = b"\x02mark\0"
BODIES = {
    "snapshot_read": wire.get(KEY),
    "atomic_write": wire.put(KEY, b"x"),
    "watch": wire.watch(KEY),
    "queue/claim": queue_pb2.Claim(most=1).SerializeToString(),
    "queue/renew": queue_pb2.Renew(ids=["x"]).SerializeToString(),
    "queue/finish": queue_pb2.Finish(id="x", success=True).SerializeToString(),
    "queue/revive": b"",
    "queue/news": b"",
}
WRITING = {"atomic_write", *wire.QUEUE}
sources = (f"127.{a}.{b}.{c}" for a in range(1, 250) for b in range(1, 250) for c in range(1, 250))


@dataclass(frozen=True, slots=True)
class World:
    """Databases and tokens by what they are. `opens` says, for each token, the databases."""

    server: Server
    home: Home
    shop: Path
    databases: dict[str, str]
    tokens: dict[str, str]
    opens: dict[str, set[str]]

    def url(self, database: str) -> str:
        return f"{self.server.base}/v2/databases/{self.databases.get(database, database)}/connect"

    def run(self, *command: str) -> str:
        return ok(self.shop, *command, add={"PROVISIONER_HOME": self.home.path})

    def base(self, database: str) -> str:
        return self.url(database).removesuffix("/connect")


LIVE = {"login", "cart", "production", "blog login", "blog production"}
GONE = {"archived", "purged"}
OTHERS = {"nowhere", "odd", "upper case"}


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[World]:
    """Two apps, each with a production and development databases; one archived, one purged."""
    home, tmp_path = shared_home, shared_home.parent
    one = shop(tmp_path / "shop", "login", "cart", "archived", "purged")
    other = tmp_path / "blog"
    git(tmp_path, "clone", "-q", one, other)
    git(other, "branch", "login")
    git(other, "remote", "remove", "origin")
    ok(other, "init", "--no-hooks", "--name", "blog", "--grace", "0s")
    databases = {name: database_of(one, f"git-branch/{name}")["id"] for name in ("login", "cart", "archived", "purged")}
    names = {name: database_of(one, f"git-branch/{name}")["name"] for name in databases}
    databases |= {
        "production": database_of(one, "production")["id"],
        "blog login": database_of(other, "git-branch/login")["id"],
        "blog production": database_of(other, "production")["id"],
        "nowhere": NOWHERE,
        "odd": "x" * 36,
    }
    databases["upper case"] = databases["login"].upper()
    of_shop = {"login", "cart", "archived", "purged"}
    everything = LIVE | GONE
    with serving(home) as server:
        tokens = {
            "database": token(one, "--database", names["login"]),
            "database, read only": token(one, "--database", names["login"], "--read-only"),
            "archived database": token(one, "--database", names["archived"]),
            "app": token(one, "--app", "shop"),
            "other app": token(one, "--app", "blog"),
            "admin": token(one, "--admin"),
            "admin, read only": token(one, "--admin", "--read-only"),
            "injected": access(one, "login").token,
            "injected elsewhere": access(other, "login").token,
            "revoked": token(one, "--database", names["login"]),
            "expired": token(one, "--database", names["login"], "--expires-in", "1s"),
        }
        opens = {
            "database": {"login"},
            "database, read only": {"login"},
            "archived database": {"archived"},
            "app": of_shop,
            "other app": {"blog login"},
            "admin": everything,
            "admin, read only": everything,
            "injected": {"login"},
            "injected elsewhere": {"blog login"},
            "revoked": set(),
            "expired": set(),
        }
        ok(one, "token", "revoke", tokens["revoked"].split("_")[1])
        git(one, "branch", "-q", "-D", "archived", "purged")
        ok(one, "reconcile")
        with closing(sqlite3.connect(home / "registry.db")) as registry, registry:
            registry.execute("update database set status = 'purged' where id = ?", (databases["purged"],))
        world = World(server, Home(str(home)), one, databases, tokens, opens)
        with wire.Wire(source=next(sources)) as client:
            until(lambda: client.metadata(world.url("login"), tokens["expired"]).status == 401)
        yield world


def refused_alike(answers: dict[str, wire.Answer]) -> None:
    """Nothing in these answers tells one database from another."""
    assert {answer.shown for answer in answers.values()} == {next(iter(answers.values())).shown}, answers


def test_each_token_opens_what_it_is_for_at_the_metadata_exchange(world: World) -> None:
    asked = 0
    strangers: dict[str, wire.Answer] = {}
    for name, bearer in world.tokens.items():
        closed = {}
        for database in (*LIVE, *GONE, *OTHERS):
            with wire.Wire(source=next(sources)) as client:
                answer = client.metadata(world.url(database), bearer)
            asked += 1
            if database not in world.opens[name]:
                closed[database] = answer
            elif database in GONE:
                assert answer.status == 410, (name, database, answer)
            else:
                assert answer.status == 200, (name, database, answer)
                assert json.loads(answer.body)["databaseId"] == world.databases[database]
        assert all(answer.status == 401 for answer in closed.values()), (name, closed)
        refused_alike(closed)
        strangers[name] = closed["nowhere"]
    refused_alike(strangers)
    print(f"{asked} metadata exchanges: {len(world.tokens)} tokens × {len(LIVE | GONE | OTHERS)} databases")


def signed(world: World, name: str, database: str, *, read_only: bool = False) -> str:
    """A data-path token as the metadata exchange would have given it before the database was archived."""
    with closing(Access(world.home)) as access_:
        opened = access_.exchange(world.tokens[name], DatabaseId(world.databases[database]), now_ms())
        assert opened is not None, (name, database)
        return access_.sign(opened, now_ms())[0]


def ask(url: str, operation: str, headers: dict[str, str]) -> wire.Answer:
    with wire.Wire(source=next(sources)) as client:
        if operation in wire.STREAMS:
            return client.first_frame(f"{url}/{operation}", BODIES[operation], headers)
        return client.send(f"{url}/{operation}", BODIES[operation], headers)


def test_a_data_path_token_opens_one_database_on_every_endpoint(world: World) -> None:
    """The right one with the right header; in the path of another, or with another in the header, it opens nothing."""
    asked = 0
    for name, opens in world.opens.items():
        for database in sorted(opens):
            made_for = world.databases[database]
            bearer = signed(world, name, database)
            for operation, place in itertools.product(BODIES, (*LIVE, *GONE, *OTHERS)):
                more = ("cart" if database != "cart" else "login", "nowhere") if operation in wire.OPERATIONS else ()
                for header in (database, *more):
                    path = wire.Path(world.base(place), world.databases[header], bearer)
                    answer = ask(path.base, operation, path.headers())
                    asked += 1
                    case = (name, database, operation, place, header, answer)
                    if place != database:
                        assert answer.status == 401, case
                    elif header != database:
                        assert answer.status == 400, case
                    elif operation in WRITING and "read only" in name:
                        assert answer.status == 403, case
                    else:
                        assert answer.status == (410 if database in GONE else 200), case
                    if answer.status in (401, 400):
                        others = set(world.databases.values()) - {made_for}
                        assert not any(each in answer.text for each in others), case
    print(f"{asked} requests on the data path")


def test_what_is_not_yours_looks_as_what_does_not_exist_on_every_endpoint(world: World) -> None:
    bearers = {"none": "", "garbage": "x", "of another": signed(world, "database", "login")}
    bearers |= {name: text for name, text in world.tokens.items() if name != "database"}  # an access token is none here
    asked = 0
    for operation in BODIES:
        answers = {}
        for name, place in itertools.product(bearers, sorted((LIVE | GONE | OTHERS) - {"login"})):
            path = wire.Path(world.base(place), world.databases[place], bearers[name])
            answers[f"{name}: {place}"] = ask(path.base, operation, path.headers())
        assert all(answer.status == 401 for answer in answers.values()), answers
        refused_alike(answers)
        asked += len(answers)
    print(f"{asked} requests, answered alike")


def altered(text: str) -> Iterator[str]:
    """Every way to change one character to another of its kind, and to cut, lengthen and fold the whole."""
    for at, letter in enumerate(text):
        other = "b" if letter == "a" else "a"
        yield text[:at] + other + text[at + 1 :]
    yield from (text[:end] for end in range(len(text)))
    yield from (
        text + "a",
        text * 2,
        text.upper(),
        " " + text[1:],
        text[1:],
        text.replace("_", "-"),
        text[::-1],
        "é" * 9,
    )


def test_an_altered_or_cut_token_opens_nothing(world: World) -> None:
    asked = 0
    path = wire.Path(world.base("login"), world.databases["login"], signed(world, "database", "login"))
    assert ask(path.base, "snapshot_read", path.headers()).status == 200
    answers = {}
    for kind in ("database", "injected"):
        for text in altered(world.tokens[kind]):
            with wire.Wire(source=next(sources)) as client:
                answers[text] = client.send(
                    world.url("login"), wire.VERSIONS, {"authorization": f"Bearer {text}".encode()}
                )
    for text in altered(path.token):
        headers: dict[str, str | bytes] = {**path.headers(), "authorization": f"Bearer {text}".encode()}
        with wire.Wire(source=next(sources)) as client:
            answers[text] = client.send(path.url("snapshot_read"), BODIES["snapshot_read"], headers)
    refused = {text: answer for text, answer in answers.items() if answer.status != 401}
    assert not refused
    refused_alike(answers)
    asked += len(answers)
    print(f"{asked} altered tokens")


def test_signed_tokens_end_with_their_time_and_cannot_be_put_together(world: World) -> None:
    now = now_ms()
    login, cart = world.databases["login"], world.databases["cart"]
    with closing(Access(world.home)) as access_:
        opened = access_.exchange(world.tokens["database"], DatabaseId(login), now)
        assert opened is not None
        late = access_.sign(opened, now - 24 * 3_600_000)[0]
        more = access_.exchange(world.tokens["database, read only"], DatabaseId(login), now)
        assert more is not None
        lifted = access_.sign(Opened(DatabaseId(login), False, more.expires_at, more.principal), now)[0]
        moved = access_.sign(Opened(DatabaseId(cart), False, opened.expires_at, opened.principal), now)[0]
        good = access_.sign(opened, now)[0]
    *front, mac = good.split("_")
    swapped = [
        "_".join([*front, late.split("_")[-1]]),
        "_".join([*late.split("_")[:-1], mac]),
        good.replace(login, cart),
        good.replace("pts_", "ptd_"),
        world.tokens["injected"],
    ]
    for text, database, operation, status in [
        (late, "login", "snapshot_read", 401),
        (lifted, "login", "atomic_write", 403),  # signed for writing, of a token that may only read
        (moved, "cart", "snapshot_read", 401),  # signed for a database that its token does not open
        *((each, database, "snapshot_read", 401) for each in swapped for database in ("login", "cart")),
        (good, "login", "snapshot_read", 200),
    ]:
        path = wire.Path(world.base(database), world.databases[database], text)
        assert ask(path.base, operation, path.headers()).status == status, (text, database)
    with wire.Wire(source=next(sources)) as client:
        assert client.metadata(world.url("login"), good).status == 401


def test_a_revocation_is_heard_within_a_minute_by_streams_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISIONER_HOME", world.home.path)
    bearer = token(world.shop, "--database", world.databases["login"])
    with wire.Wire(source=next(sources)) as client:
        path = client.opened(world.url("login"), bearer)
        with client.watching(path, KEY) as messages:
            next(messages)
            world.run("token", "revoke", bearer.split("_")[1])
            assert list(messages) == []  # the stream ends
        until(lambda: client.send(path.url("snapshot_read"), BODIES["snapshot_read"], path.headers()).status == 401, 60)
        assert client.metadata(world.url("login"), bearer).status == 401
        injected = wire.Path(path.base, path.database, signed(world, "injected", "login"))
        assert client.send(injected.url("snapshot_read"), BODIES["snapshot_read"], injected.headers()).status == 200
        world.run("token", "revoke", "--database", world.databases["login"])
        until(
            lambda: (
                client.send(injected.url("snapshot_read"), BODIES["snapshot_read"], injected.headers()).status == 401
            ),
            60,
        )
    again = access(world.shop, "login").token
    assert again != world.tokens["injected"]
    with wire.Wire(source=next(sources)) as client:
        assert client.metadata(world.url("login"), again).status == 200


def test_guessing_is_slowed_down_and_logged_without_the_token(world: World) -> None:
    """Whoever has a valid token is not kept out by a neighbour that guesses."""
    source = next(sources)
    with wire.Wire(source=source) as client:
        statuses = [client.metadata(world.url("login"), f"ptk_guess_{number}").status for number in range(40)]
        assert statuses[:10] == [401] * 10
        assert statuses.count(429) > 20
        assert client.metadata(world.url("login"), world.tokens["database"]).status == 200
    with wire.Wire(source=next(sources)) as client:
        assert client.metadata(world.url("login"), "ptk_guess_1").status == 401
    log = world.server.log.read_text()
    assert source in log
    for text in (*world.tokens.values(), "ptk_guess", "pts_"):
        assert text.split("_", 2)[-1] not in log or len(text) < 12
        assert text not in log
