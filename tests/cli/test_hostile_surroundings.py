"""Every command in surroundings where it cannot work: one line that says why, and an exit code that scripts can use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile import ENDLESS, WORDS, Pristine, fault, flip, leaves
from support import git, numbers, ok, provisioner, repository

pytestmark = pytest.mark.slow

NIGHTLY = "KV_NIGHTLY" in os.environ


@dataclass(frozen=True, slots=True)
class World:
    home: Path
    repo: Path
    pristine: Pristine

    @property
    def registry(self) -> Path:
        return self.home / "registry.db"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> World:
    top = tmp_path_factory.mktemp("hostile")
    repo = repository(top / "shop", "login")
    ok(repo, "init", "--name", "shop", "--grace", "1h")
    ok(repo, "kv", "set", '["a"]', "1")
    ok(repo, "var", "set", "NAME=value")
    ok(repo, "database", "snapshot", "create", "login")
    with closing(sqlite3.connect(shared_home / "registry.db")) as registry:
        registry.execute("pragma wal_checkpoint(truncate)")
    return World(shared_home, repo, Pristine(top / "pristine", shared_home, repo))


@pytest.fixture(autouse=True)
def in_world(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PROVISIONER_HOME", str(world.home))
    world.pristine.put_back()
    yield
    world.pristine.put_back()


def _dealt(seed: str, hands: int, hand: int) -> list[str]:
    """`exec`, `env` and a part of the others, so that each of them is in one of the hands; all of them at night."""
    others = [name for name in WORDS if name not in ("exec", "env")]
    numbers(seed).shuffle(others)
    return ["exec", "env", *(others if NIGHTLY else others[hand::hands])]


def test_every_command_has_words() -> None:
    assert set(leaves()) == WORDS.keys() | set(ENDLESS)


def _faults(world: World, hurt: Callable[[], object], names: list[str]) -> list[str]:
    """What is wrong with how the commands end, each where `hurt` has been called first."""
    found = []
    for name in names:
        world.pristine.put_back()
        hurt()
        done = provisioner(world.repo, *name.split(" "), *WORDS[name])
        found.append(fault(name, done.returncode, done.stdout, done.stderr))
    return [each for each in found if each]


def _emptied(world: World) -> None:
    world.registry.write_bytes(b"")


def _a_directory(world: World) -> None:
    world.registry.unlink()
    world.registry.mkdir()


def _no_database(world: World) -> None:
    world.registry.write_bytes(b"no database " * 1000)


def _cut(world: World) -> None:
    os.truncate(world.registry, world.registry.stat().st_size // 2)


def _without_tables(world: World) -> None:
    with closing(sqlite3.connect(world.registry)) as registry, registry:
        version = registry.execute("pragma user_version").fetchone()[0]
        for name in ("database", "timeline", "app", "assignment", "instance"):
            registry.execute(f"alter table {name} rename to was_{name}")
        registry.execute(f"pragma user_version = {version}")


def _home_is_a_file(world: World) -> None:
    shutil.rmtree(world.home)
    world.home.write_text("a file")


def _home_is_gone(world: World) -> None:
    shutil.rmtree(world.home)


def _locks_are_a_file(world: World) -> None:
    shutil.rmtree(world.home / "locks")
    (world.home / "locks").write_text("a file")


def _databases_are_gone(world: World) -> None:
    shutil.rmtree(world.home / "instances")


def _repository_is_gone(world: World) -> None:
    shutil.rmtree(world.repo / ".git")


def _refs_are_garbage(world: World) -> None:
    (world.repo / ".git" / "packed-refs").write_bytes(b"\xff\x00garbage\n")
    (world.repo / ".git" / "HEAD").write_bytes(b"\xff\xfe\x00")


def _words_that_mean_nothing(world: World) -> None:
    """Values that no version of ours has written, each in its column."""
    with closing(sqlite3.connect(world.registry)) as registry, registry:
        registry.execute("update database set status = 'connecued', name = cast(x'ff00' || id as text)")
        registry.execute("update timeline set branch = x'', revision = 'no revision'")


SURROUNDINGS = (
    *(_emptied, _a_directory, _no_database, _cut, _without_tables, _words_that_mean_nothing),
    *(_home_is_a_file, _home_is_gone, _locks_are_a_file, _databases_are_gone),
    *(_repository_is_gone, _refs_are_garbage),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("hurt", SURROUNDINGS, ids=lambda hurt: hurt.__name__.strip("_"))
def test_a_command_that_cannot_work_says_why(world: World, hurt: Callable[[World], None]) -> None:
    names = _dealt("surroundings", len(SURROUNDINGS), SURROUNDINGS.index(hurt))
    assert _faults(world, lambda: hurt(world), names) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["registry", "a database"])
def test_flipped_bits_are_no_reason_for_a_traceback(world: World, what: str) -> None:
    chance = numbers(f"bits of {what}")

    def hurt() -> None:
        files = [world.registry] if what == "registry" else sorted(world.home.glob("instances/*/live/*/kv.sqlite3"))
        for file in files:
            flip(file, chance, chance.choice((1, 1, 8, 200)))

    assert _faults(world, hurt, [*WORDS] * (20 if NIGHTLY else 1)) == []


# what can be changed for a process of its own only


def _run(world: World, script: str, name: str) -> str:
    """Run a command by a line of shell, in which "$@" is the command; what is wrong with how it ends."""
    words = ["sh", "-c", script, "sh", "provisioner", *name.split(" "), *WORDS[name]]
    done = subprocess.run(
        words, cwd=world.repo, capture_output=True, timeout=120, stdin=subprocess.DEVNULL, check=False
    )
    return fault(name, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


SHELL = {
    "a directory that was deleted": 'mkdir ../gone && cd ../gone && rmdir ../gone && "$@"',
    "a registry that may not be read": 'chmod 000 "$PROVISIONER_HOME/registry.db"; {weak} "$@"',
    "a home that may not be entered": 'chmod 000 "$PROVISIONER_HOME"; {weak} "$@"',
    "a home that may not be written": 'chmod -R a-w "$PROVISIONER_HOME"; {weak} "$@"',
    "no home directory": 'env -u PROVISIONER_HOME -u XDG_DATA_HOME HOME=/proc/none/x "$@"',
    "standard input, output and error closed": '"$@" <&- >&- 2>&-',
    "no git": 'PATH=$(dirname "$(command -v provisioner)") "$(command -v provisioner)" "$@"',
}
WEAK = "setpriv --bounding-set -dac_override,-dac_read_search,-fowner"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("surroundings", SHELL)
def test_a_process_that_cannot_work_says_why(world: World, surroundings: str) -> None:
    script = SHELL[surroundings].replace("{weak}", WEAK)
    if surroundings == "no git":
        tools = world.home.parent / "tools"
        tools.mkdir(exist_ok=True)
        for tool in ("true", "provisioner"):
            if not (tools / tool).exists():
                (tools / tool).symlink_to(str(shutil.which(tool)))
        script = f'PATH={tools}; exec "$@"'
    faults = []
    for name in _dealt("processes", len(SHELL), [*SHELL].index(surroundings)):
        found = _run(world, script, name)
        closed = surroundings.endswith("closed") and ("says nothing" in found or found.startswith("env: exit code 1:"))
        if found and not closed:  # where it could be said is closed, too
            faults.append(found)
        subprocess.run(["chmod", "-R", "u+rwX", str(world.home)], check=True)
        world.pristine.put_back()
    assert faults == []


@pytest.mark.parametrize("name", ["status", "env", "database dump", "doctor", "app show"])
def test_output_that_cannot_be_written_is_an_error(world: World, name: str) -> None:
    for target in ("/dev/full", "&-"):
        done = subprocess.run(
            ["sh", "-c", f'"$@" >{target}', "sh", "provisioner", *name.split(" "), *WORDS[name]],
            cwd=world.repo,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 1, (target, done)
        assert done.stderr.splitlines()[-1].startswith("provisioner: standard output cannot be written"), (target, done)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_a_reader_that_goes_away_ends_a_command_silently(world: World) -> None:
    for name in ("status", "database dump", "env"):
        words = " ".join(("provisioner", name, *WORDS[name]))
        done = subprocess.run(
            ["bash", "-c", f"{words} | true; echo ${{PIPESTATUS[0]}}"], cwd=world.repo, capture_output=True, text=True
        )
        assert done.stdout in ("0\n", "141\n")
        assert "Traceback" not in done.stderr


ODD = [
    "\udcff\udcfe",
    "a\nb",
    "\x1b[31m",
    "x" * 5000,
    "",
    "-",
    "--",
    "@",
    ":",
    "a:b",
    "\u202e",
    "@{1}",
    "~",
    "\udcff:\udcff",
]


@pytest.mark.timeout(600)
def test_words_of_any_bytes_are_no_reason_for_a_traceback(world: World) -> None:
    chance = numbers("words")
    faults = []
    for name in [name for _ in range(10 if NIGHTLY else 1) for name in WORDS]:
        world.pristine.put_back()
        words = [chance.choice(ODD) if chance.random() < 0.7 else word for word in WORDS[name]] or [chance.choice(ODD)]
        if chance.random() < 0.3:
            words = [*words, chance.choice(("--app", "--branch", "--instance", "--timeline")), chance.choice(ODD)]
        done = provisioner(world.repo, *name.split(" "), *(os.fsencode(word) for word in words))
        found = fault(name, done.returncode, done.stdout, done.stderr)
        if name in ("exec", "dev") and done.returncode in (2, 126, 127):
            continue  # the words are another command
        faults.append(f"{found} {words}" if found and not (name == "env" and done.returncode == 2) else "")
    assert [each for each in faults if each] == []


def test_git_is_asked_for_a_repository_only(world: World) -> None:
    assert git(world.repo, "status", "--porcelain").returncode == 0
