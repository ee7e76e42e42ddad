"""Homes are copied at random points of their use: nothing that is done with a copy changes the original, or opens it.

Three histories by default, one of them with an embedded PostgreSQL server; many with KV_NIGHTLY in the environment.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from home_world import Photograph, at, copy, photograph
from pg_world import mark, marked
from support import branches, daemon, files, git, marked_shop, ok, provisioner, put, repository, statuses

from provisioner.engines.postgres.embedded import server as embedded
from provisioner.engines.protocol import location

NIGHTLY = "KV_NIGHTLY" in os.environ
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") if NIGHTLY else "short"
"""Other histories in each long run, and always the same ones in the short form."""
NAMES = ("login", "cart", "a/b")
CLOSED = (
    ("exec", "--branch", "main", "--", "echo", "ran"),
    ("env", "--branch", "main"),
    ("reconcile", "--all"),
    ("status",),
    ("watch",),
    ("serve", "--port", "0"),
    ("up", "--port", "0"),
    ("hooks", "install"),
    ("database", "reset", "main", "--yes"),
    ("database", "recover", "--all"),
    ("instance", "start", "default"),
    ("instance", "add", "more"),
    ("token", "rotate-key", "--yes"),
    ("prune", "--yes"),
    ("init",),
)


@dataclass
class World:
    """A home, a repository of its app, and what its branches' databases hold."""

    home: Path
    repo: Path
    chance: random.Random
    embedded: bool
    serial: int = 0
    told: list[str] = field(default_factory=list)

    def run(self, *words: str) -> None:
        """A command that may fail for what was done before, and does nothing unexpected."""
        with at(self.home):
            done = provisioner(self.repo, *words)
        self.told.append(f"{' '.join(words)}: {done.returncode}")
        assert done.returncode in (0, 1, 3), (self.told, done)
        assert "Traceback" not in done.stderr, (self.told, done)

    def some(self) -> str:
        return self.chance.choice(sorted(branches(self.repo)))

    def write(self, branch: str, text: str) -> None:
        if self.embedded:
            mark(self.repo, branch, text)
        else:
            put(files(self.repo)[branch], text, text.encode())

    def held(self) -> dict[str, str]:
        with at(self.home):
            if self.embedded:
                connected = {name for name, status in statuses(self.repo).items() if status == "connected"}
                names = {name: f"git-branch/{name}" for name in branches(self.repo)} | {"main": "production"}
                return {name: marked(self.repo, name) for name in sorted(names) if names[name] in connected}
            return {branch: _all(file) for branch, file in files(self.repo).items()}

    def everything(self) -> Photograph:
        """Every file of the home, of its server, and of the repository."""
        elsewhere = [Path(location.data_of(str(self.home / "instances/main"))).parent] if self.embedded else []
        return photograph(self.home, self.repo, *elsewhere)

    def ids(self) -> set[str]:
        """What no other home has."""
        with closing(sqlite3.connect(self.home / "registry.db")) as connection:
            found = {str(row[0]) for row in connection.execute("select id from organization")}
            if self.embedded:
                found |= {(self.home / "instances/main" / name).read_text() for name in ("port", "password")}
        return found | {(self.home / "identity").read_text()} | _key(self.home)


def _key(home: Path) -> set[str]:
    """The secret key; nothing if none was needed yet."""
    file = home / "keys/connect"
    return {file.read_bytes().hex()} if file.exists() else set()


def _all(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return " ".join(row[0].decode() for row in connection.execute("select v from kv order by k"))


def _branch(world: World) -> None:
    git(world.repo, "branch", world.chance.choice(NAMES), check=False)
    world.run("reconcile")


def _delete(world: World) -> None:
    git(world.repo, "branch", "-D", world.chance.choice(NAMES), check=False)
    world.run("reconcile")


def _rename(world: World) -> None:
    git(world.repo, "branch", "-m", world.chance.choice(NAMES), world.chance.choice(NAMES), check=False)
    world.run("reconcile")


def _write(world: World) -> None:
    with at(world.home):
        found = [name for name, text in world.held().items() if text or not world.embedded]
        if found:
            world.serial += 1
            world.write(world.chance.choice(found), f"{world.home.name} {world.serial}")


def _daemon(world: World) -> None:
    with at(world.home), daemon(world.home) as running:
        if world.chance.random() < 0.5:
            assert running.stop() == 0


def _command(*words: str) -> Callable[[World], None]:
    return lambda world: world.run(*(word.format(world.some()) for word in words))


USE: tuple[Callable[[World], None], ...] = (
    *(_branch, _delete, _rename, _write, _write, _daemon),
    _command("database", "fork", "main", "{}", "--yes"),
    _command("database", "reset", "{}", "--yes"),
    _command("database", "archive", "{}", "--yes"),
    _command("database", "purge", "{}", "--yes"),
    _command("database", "recover", "{}"),
    _command("database", "recover", "--all"),
    _command("database", "snapshot", "create", "{}"),
    _command("env", "--write", ".env.local"),
    _command("token", "create", "--admin"),
    _command("token", "rotate-key", "--yes"),
    _command("instance", "add", "more"),
    _command("prune", "--yes"),
    _command("doctor"),
)
THEIRS = (*USE, _command("hooks", "install"), _command("hooks", "uninstall"))
"""With hooks, which start workers that go on for a while."""


def _world(tmp_path: Path, home: Path, chance: random.Random, with_server: bool) -> World:
    if not with_server:
        repo = marked_shop(tmp_path / "shop", "login", "cart")
    else:
        repo = repository(tmp_path / "shop", "login")
        ok(repo, "instance", "add", "main", "--engine", "postgres")
        ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
        ok(repo, "assign", "main", "shop")
    (repo / ".git/info/exclude").write_text(".env.local\n")
    return World(home, repo, chance, with_server)


def _killed_while_it_is_adopted(world: World) -> None:
    """At a random instant, some of them when it has ended."""
    command = ["provisioner", "home", "adopt", "--copied"]
    started = subprocess.Popen(command, cwd=world.repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        started.wait(world.chance.uniform(0.1, 1.5))
    except subprocess.TimeoutExpired:
        os.kill(started.pid, signal.SIGKILL)
        started.wait()


def _adopted(world: World) -> None:
    with at(world.home):
        if world.chance.random() < 0.5:
            _killed_while_it_is_adopted(world)
        done = provisioner(world.repo, "home", "adopt", "--copied")
        assert done.returncode == 0 or (done.returncode == 2 and "where it was created" in done.stderr), done


@pytest.fixture
def removed() -> Iterator[list[Path]]:
    """Homes whose servers are removed at the end."""
    homes: list[Path] = []
    yield homes
    for each in homes:
        embedded.remove(str(each / "instances/main"))


HISTORIES = [(number, False) for number in range(40 if NIGHTLY else 2)] + [
    (number, True) for number in range(12 if NIGHTLY else 1)
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "with_server"), HISTORIES)
def test_nothing_that_is_done_with_a_copy_changes_the_original(
    number: int, with_server: bool, tmp_path: Path, home: Path, removed: list[Path]
) -> None:
    chance = random.Random(f"{RUN} {number} {with_server}")
    world = _world(tmp_path, home, chance, with_server)
    for _ in range(chance.randint(2, 4 if with_server and not NIGHTLY else 8)):
        chance.choice(USE)(world)
    if chance.random() < 0.5:
        ok(world.repo, "hooks", "install")
    if with_server:
        ok(world.repo, "instance", "stop", "main")
    with ExitStack() as stack:
        if chance.random() < 0.5:  # which goes on until the copy is made, and leaves what one leaves that is killed
            running = stack.enter_context(daemon(home))
            copied = copy(home, tmp_path / "copy")
            running.stop(chance.choice([signal.SIGKILL, signal.SIGTERM]))
        else:
            copied = copy(home, tmp_path / "copy")
    if with_server:
        ok(world.repo, "instance", "stop", "main")
        removed.append(copied)
    ids, before = world.ids(), world.everything()

    theirs = World(copied, world.repo, chance, with_server, told=["copied"])
    as_copied = photograph(copied)
    with at(copied):
        for words in chance.sample(CLOSED, 4):
            refused = provisioner(world.repo, *words)
            assert (refused.returncode, refused.stdout) == (3, ""), (words, refused)
        assert photograph(copied) == as_copied
        assert provisioner(world.repo, "home", "adopt", "--moved").returncode == 1
    assert world.everything() == before
    _adopted(theirs)
    assert world.everything() == before
    theirs.repo = tmp_path / "clone"
    git(tmp_path, "clone", "-q", world.repo, theirs.repo)
    with at(copied):
        ok(theirs.repo, "app", "set", "shop", "--repository", theirs.repo)
    for _ in range(chance.randint(4, 6 if with_server and not NIGHTLY else 12)):
        chance.choice(THEIRS)(theirs)
        assert world.everything() == before, theirs.told
    with at(copied):
        for name, text in theirs.held().items():
            given = json.loads(provisioner(theirs.repo, "env", "--branch", name, "--format", "json").stdout or "{}")
            assert str(home) + "/" not in json.dumps(given), text
    assert ids.isdisjoint(theirs.ids())
    if with_server:
        with at(copied):
            ok(theirs.repo, "instance", "stop", "main")
    assert world.everything() == before
    ours = world.held()
    assert not [text for text in ours.values() if copied.name in text]
    shutil.rmtree(copied, ignore_errors=True)
    assert world.held() == ours


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(30 if NIGHTLY else 1))
def test_a_home_that_is_restored_elsewhere_is_the_same_after_it_is_adopted(
    number: int, tmp_path: Path, home: Path
) -> None:
    chance = random.Random(f"{RUN} restored {number}")
    world = _world(tmp_path, home, chance, with_server=False)
    for _ in range(chance.randint(2, 8)):
        chance.choice(USE)(world)
    held, key = world.held(), _key(home)
    restored = copy(home, tmp_path / chance.choice(["restored", "a long/way off"]).replace("/", " "))
    shutil.rmtree(home)
    theirs = World(restored, world.repo, chance, embedded=False)
    as_restored = photograph(restored, world.repo)
    with at(restored):
        for words in chance.sample(CLOSED, 4):
            refused = provisioner(world.repo, *words)
            assert (refused.returncode, refused.stdout) == (3, ""), (words, refused)
        assert photograph(restored, world.repo) == as_restored
        ok(world.repo, "home", "adopt", "--moved")
        assert theirs.held() == held
        assert not home.exists()
        assert _key(restored) == key
        for _ in range(chance.randint(2, 5)):
            chance.choice(USE)(theirs)
    assert not home.exists()
