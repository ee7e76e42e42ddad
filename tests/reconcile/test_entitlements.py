"""Credentials end with access: whatever ends what a branch was entitled to, what its programs were given opens it no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from connect_wire import Path as DataPath
from connect_wire import Wire
from pg_server import PgServer, Row
from pg_world import pg_shop
from support import commit, daemon, git, ok, provisioner, until

from provisioner.connect.protocol import datapath_pb2 as pb

Variables = dict[str, str]


@pytest.fixture
def repo(request: pytest.FixtureRequest, tmp_path: Path, home: Path, pg: PgServer) -> Iterator[Path]:
    """An app with a database of each engine for each branch, and a server for those of Deno KV.

    Where a branch is recreated, there are no reflogs, as in a bare repository: so its name is all that it is known by.
    """
    if "recreated" in getattr(getattr(request.node, "callspec", None), "id", ""):
        git(tmp_path, "init", "-q", "shop")
        git(tmp_path / "shop", "config", "core.logAllRefUpdates", "false")
    repo = pg_shop(tmp_path / "shop", pg, "login", "cart")
    ok(repo, "instance", "add", "keys")
    ok(repo, "assign", "keys", "shop", "--connect", "url")
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):
        yield repo


def variables(repo: Path, *where: str) -> Variables:
    found: Variables = json.loads(ok(repo, "env", *where, "--format", "json"))
    return found


@dataclass(slots=True)
class Holder:
    """A program that has been given what opens the databases of a timeline, and uses it all along."""

    given: Variables
    wire: Wire
    session: psycopg.Connection[Row]
    path: DataPath = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.wire.opened(self.given["DENO_KV_DEFAULT_PATH"], self.given["DENO_KV_ACCESS_TOKEN"])

    def logs_in(self) -> bool:
        try:
            psycopg.connect(self.given["DATABASE_URL"]).close()
        except psycopg.OperationalError:
            return False
        return True

    def is_connected(self) -> bool:
        try:
            self.session.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def exchanges(self) -> bool:
        found = self.wire.metadata(self.given["DENO_KV_DEFAULT_PATH"], self.given["DENO_KV_ACCESS_TOKEN"])
        assert found.status in (200, 401, 410), found
        return found.status == 200

    def reads(self) -> bool:
        """With what it was given in exchange, which the server looks up again when the registry has changed."""
        ranges = [pb.ReadRange(start=b"\x02a\x00", end=b"\x02z\x00", limit=1)]
        body = pb.SnapshotRead(ranges=ranges).SerializeToString()
        found = self.wire.send(self.path.url("snapshot_read"), body, self.path.headers())
        return found.status == 200

    def opens(self) -> set[str]:
        """What of it still opens anything."""
        ways = (self.logs_in, self.is_connected, self.exchanges, self.reads)
        return {way.__name__ for way in ways if way()}


EVERYTHING = {"logs_in", "is_connected", "exchanges", "reads"}


@contextmanager
def holding(repo: Path, *where: str) -> Iterator[Holder]:
    given = variables(repo, *where)
    with Wire() as wire, closing(psycopg.connect(given["DATABASE_URL"], autocommit=True)) as session:
        holder = Holder(given, wire, session)
        assert holder.opens() == EVERYTHING
        yield holder


def nothing(_: Path) -> None:
    """There is nothing to do before."""


def shared(repo: Path) -> None:
    ok(repo, "database", "share", "production", "login", "--yes")


def gone(repo: Path, branch: str = "login") -> None:
    git(repo, "branch", "-q", "-D", branch)
    ok(repo, "reconcile")


def recreated(repo: Path) -> None:
    gone(repo)
    git(repo, "branch", "login")
    ok(repo, "reconcile")


def given_to_another(repo: Path) -> None:
    """The branch is another one of that name by now, with databases of its own, and a person gives it the earlier ones."""
    rows = json.loads(ok(repo, "database", "list", "--json"))
    names = {row["name"] for row in rows if row["timeline"] == "git-branch/login"}
    recreated(repo)
    rows = json.loads(ok(repo, "database", "list", "--json"))
    for row in rows:
        if row["timeline"] == "git-branch/login" and row["status"] == "connected" and row["name"] not in names:
            ok(repo, "database", "archive", row["name"], "--yes")
    for name in sorted(names):
        ok(repo, "database", "recover", name, "--to", "login")


def with_grace(repo: Path) -> None:
    ok(repo, "app", "set", "--grace", "1h")


def production_is(branch: str) -> Callable[[Path], None]:
    return lambda repo: void(ok(repo, "app", "set", "--production-branch", branch))


def void(_: object) -> None:
    return


def each(repo: Path, *words: str, yes: bool = True) -> None:
    """The same of both databases of the branch."""
    listed = json.loads(ok(repo, "database", "list", "--json"))
    names = {row["name"] for row in listed if row["timeline"] == "git-branch/login"}
    assert len(names) == 2
    for name in sorted(names):
        ok(repo, *words, name, *(["--yes"] if yes else []))


def archived_and_recovered(repo: Path) -> None:
    each(repo, "database", "archive")
    each(repo, "database", "recover", yes=False)


def assigned_again(repo: Path) -> None:
    for instance in ("main", "keys"):
        ok(repo, "unassign", instance, "--yes")
        ok(repo, "assign", instance)


def removed_and_added(repo: Path) -> None:
    ok(repo, "app", "remove", "--yes")
    ok(repo, "app", "add", "--name", "shop")
    for instance in ("main", "keys"):
        ok(repo, "assign", instance, "shop")


def deleted_and_recovered(repo: Path) -> None:
    for instance in ("main", "keys"):
        ok(repo, "instance", "delete", instance, "--yes", "--no-backup")
    for instance in ("main", "keys"):
        ok(repo, "instance", "recover", instance)


def expired(repo: Path) -> None:
    ok(repo, "timeline", "expire", "login", "--after", "1s")
    until(lambda: ok(repo, "reconcile") is None or provisioner(repo, "env", "--branch", "login").returncode == 3)


def expired_and_pushed(repo: Path) -> None:
    expired(repo)
    ok(repo, "timeline", "expire", "login", "--never")
    git(repo, "switch", "-q", "login")
    commit(repo, "pushed")
    git(repo, "switch", "-q", "main")
    ok(repo, "reconcile")


def with_preview(repo: Path) -> None:
    ok(repo, "preview", "create", "main")


def preview_again(repo: Path) -> None:
    ok(repo, "preview", "delete", "main", "--yes")
    ok(repo, "preview", "create", "main")


def revoked(repo: Path) -> None:
    each(repo, "token", "revoke", "--database", yes=False)


LOGIN, MAIN = ("--branch", "login"), ("--branch", "main")
PREVIEW = ("--timeline", "preview")

# What comes before; whose programs are looked at; the event; and who has the same databases afterwards, if any has.
EVENTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...], Callable[[Path], None], tuple[str, ...]]] = {
    "a share ends": (shared, LOGIN, lambda repo: void(ok(repo, "database", "unshare", "login")), MAIN),
    "the branch goes that shares": (shared, LOGIN, gone, MAIN),
    "the time of what shares is over": (shared, LOGIN, expired, MAIN),
    "another branch becomes production": (nothing, MAIN, production_is("login"), LOGIN),
    "a branch was production for a while": (production_is("login"), LOGIN, production_is("main"), MAIN),
    "a branch is recreated": (nothing, LOGIN, recreated, LOGIN),
    "given to another branch of its name": (nothing, LOGIN, given_to_another, LOGIN),
    "a branch is recreated within its grace": (with_grace, LOGIN, recreated, LOGIN),
    "a branch that shares is recreated within its grace": (
        lambda repo: void((shared(repo), with_grace(repo))),  # type: ignore[func-returns-value]
        LOGIN,
        recreated,
        LOGIN,
    ),
    "archived by hand, and recovered": (nothing, LOGIN, archived_and_recovered, LOGIN),
    "unassigned, and assigned again": (nothing, LOGIN, assigned_again, LOGIN),
    "the app is removed, and added": (nothing, LOGIN, removed_and_added, LOGIN),
    "instances are deleted, and recovered": (nothing, LOGIN, deleted_and_recovered, LOGIN),
    "expired, and pushed to": (nothing, LOGIN, expired_and_pushed, LOGIN),
    "a preview is deleted, and made again": (with_preview, PREVIEW, preview_again, PREVIEW),
    "revoked": (nothing, LOGIN, revoked, LOGIN),
    "the key is replaced": (nothing, LOGIN, lambda repo: void(ok(repo, "token", "rotate-key", "--yes")), LOGIN),
}


def selected(repo: Path, where: tuple[str, ...]) -> tuple[str, ...]:
    if where != PREVIEW:
        return where
    return ("--timeline", f"preview/{git(repo, 'rev-parse', 'main').stdout.strip()}")


@pytest.mark.parametrize("event", EVENTS)
def test_what_ends_an_entitlement_ends_what_was_given_for_it(repo: Path, event: str) -> None:
    before, whose, happens, heir = EVENTS[event]
    before(repo)
    keeps = MAIN if before is shared else ()
    with ExitStack() as stack:
        holder = stack.enter_context(holding(repo, *selected(repo, whose)))
        owner = stack.enter_context(holding(repo, *keeps)) if keeps else None
        happens(repo)
        assert holder.opens() - {"reads"} == set()
        until(lambda: not holder.reads())
        now = variables(repo, *selected(repo, heir))
        for name in ("PGDATABASE", "DENO_KV_DEFAULT_PATH"):  # it is the same database, which someone else has now
            assert now[name] == holder.given[name]
        heirs = stack.enter_context(holding(repo, *selected(repo, heir)))
        assert heirs.opens() == EVERYTHING
        if owner is not None:
            assert owner.opens() == EVERYTHING  # and was not disconnected
            assert owner.given == now


def test_a_share_has_credentials_of_its_own_each_time(repo: Path, pg: PgServer) -> None:
    seen = []
    for _ in range(2):
        shared(repo)
        main, login = variables(repo, *MAIN), variables(repo, *LOGIN)
        assert main["PGDATABASE"] == login["PGDATABASE"]
        assert main["DENO_KV_DEFAULT_PATH"] == login["DENO_KV_DEFAULT_PATH"]
        seen += [(each["PGPASSWORD"], each["DENO_KV_ACCESS_TOKEN"]) for each in (main, login)]
        with psycopg.connect(login["DATABASE_URL"], autocommit=True) as session:
            session.execute("create table if not exists made (by text default current_user)")
            session.execute("insert into made default values")
            session.execute("reset role")
            assert session.execute("select current_user").fetchone() == (main["PGUSER"],)
            session.execute("set role none; create table if not exists kept as select 1 as n")
        with psycopg.connect(main["DATABASE_URL"], autocommit=True) as session:
            assert set(session.execute("select by from made").fetchall()) == {(main["PGUSER"],)}
            session.execute("alter table made add column if not exists more int")
        ok(repo, "database", "unshare", "login")
        with psycopg.connect(main["DATABASE_URL"], autocommit=True) as session:
            session.execute("drop table kept")  # what the other role has made is its own now
    assert seen[0] == seen[2]
    assert len(set(seen)) == 3
    sharers = variables(repo, *MAIN)["PGDATABASE"].replace("pv_", "pvt_", 1)  # other tests leave some on this server
    assert pg.ask("select rolname from pg_roles where starts_with(rolname, %s)", sharers) == []


def test_whoever_shared_keeps_no_way_in(repo: Path) -> None:
    """It could change the owner's password, and make roles of its own members of the owner's."""
    shared(repo)
    other = variables(repo, "--branch", "cart")
    with holding(repo, *LOGIN) as holder, holding(repo, *MAIN) as owner:
        user, database = owner.given["PGUSER"], owner.given["PGDATABASE"]
        holder.session.execute(f"alter role \"{user}\" password 'known'")
        known = psycopg.connect(owner.given["DATABASE_URL"], password="known", autocommit=True)
        try:
            known.execute(f'grant "{user}" to "{other["PGUSER"]}"')
        except psycopg.errors.InsufficientPrivilege:
            assert known.info.server_version >= 150000
        ok(repo, "database", "unshare", "login")
        with pytest.raises(psycopg.OperationalError):
            known.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(owner.given["DATABASE_URL"], password="known")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(other["DATABASE_URL"], dbname=database)
        assert owner.logs_in()
        assert variables(repo, *MAIN) == owner.given


def test_what_ends_nothing_disconnects_nobody(repo: Path) -> None:
    with holding(repo, *LOGIN) as holder:
        git(repo, "branch", "-m", "login", "signin")
        ok(repo, "reconcile")
        ok(repo, "database", "snapshot", "create", "signin")
        ok(repo, "database", "share", "signin", "cart")
        ok(repo, "database", "unshare", "cart")
        ok(repo, "database", "fork", "production", "cart", "--yes")
        assert holder.opens() == EVERYTHING
        ok(repo, "database", "reset", "signin", "--yes")
        until(lambda: holder.opens() == EVERYTHING - {"is_connected"})  # other data; the same credentials


def test_a_server_that_cannot_be_told_is_told_later(repo: Path, tmp_path: Path, home: Path) -> None:
    shared(repo)
    with holding(repo, *LOGIN) as holder:
        pass
    assert holder.logs_in()
    keep = home / "keys/connect"
    aside = keep.rename(keep.with_name("aside"))
    keep.mkdir()  # the password cannot be derived
    done = provisioner(repo, "database", "unshare", "login")
    assert done.returncode == 1
    assert "programs may still be connected that should not be" in done.stderr
    keep.rmdir()
    aside.rename(keep)
    ok(repo, "reconcile")
    assert not holder.logs_in()
