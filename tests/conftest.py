"""Every test has a home, a git configuration and an environment of its own."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from paths import NPM
from support import SETUPS, Setup

if TYPE_CHECKING:
    from kv_server import Served
    from pg_server import PgServer

# The same examples in every run, so that a change fails only by what it changes; others every night. How long anything
# takes says nothing on a busy machine.
ANY_TIME: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("usual", derandomize=True, database=None, **ANY_TIME)
settings.load_profile("usual")
# What takes hours rather than minutes: pytest --hypothesis-profile=nightly --timeout=0
settings.register_profile("nightly", max_examples=3000, derandomize=False, **ANY_TIME)

CI = ("CI", "GITHUB_", "GITLAB_", "BUILDKITE", "CIRCLE", "JENKINS", "BRANCH_NAME", "CHANGE_", "TAG_NAME", "TAG")
GIT_CONFIG = """\
[user]
\tname = Somebody
\temail = somebody@example.org
[init]
\tdefaultBranch = main
[protocol "file"]
\tallow = always
[advice]
\tdetachedHead = false
[core]
	filesRefLockTimeout = 30000
	packedRefsTimeout = 30000
[gc]
\tautoDetach = false
"""


# Helpers and fixtures that start a server, a Deno or a browser: tests that use one of them are not `fast`.
HEAVY_HELPERS = re.compile(
    r"^(?:from|import) (?:pg_\w+|psycopg|kv_server|kv_oracle|kv_processes|kv_instance_world|connect_\w+|counters|dashboard_\w+"
    r"|changing_world|preview_world|router_world|chromium|fire_\w+|move_world|clone_writer)\b|\bDENO\b|\"deno\", \"|\bdaemon\(",
    re.MULTILINE,
)
HEAVY_FIXTURES = {"server", "pg", "node_modules", "pg_module", "axe", "setup"}
HEAVY_FOLDERS = {"cluster", "connect", "crash", "daemon", "dashboard", "postgres"}


def pytest_configure() -> None:
    """Start programs with the usual signals, also under nohup or in the background, where a shell ignores some of them:
    an ignored signal stays ignored in every program that is started, and a handled one does not."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `fast` what needs no server, no Deno and no browser, unless a test or its module is marked `slow`."""
    light: dict[Path, bool] = {}
    for item in items:
        if item.path not in light:
            folders = set(item.path.relative_to(Path(__file__).parent).parts)
            light[item.path] = not folders & HEAVY_FOLDERS and not HEAVY_HELPERS.search(item.path.read_text())
        fixtures = set(getattr(item, "fixturenames", ()))
        if light[item.path] and not fixtures & HEAVY_FIXTURES and item.get_closest_marker("slow") is None:
            item.add_marker("fast")


def pytest_collection_finish() -> None:
    """What thousands of collected tests consist of stays until the end: looking through it takes the collector a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The organization's directory of this test; nothing else on this machine is looked at."""
    home = _alone(tmp_path, monkeypatch)
    yield home
    for password in tmp_path.glob("*/instances/*/password"):  # an embedded server outlives who started it
        from provisioner.engines.postgres.embedded import server as embedded

        embedded.remove(str(password.parent))


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of all tests of a module, which is this process's home while no test runs."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield _alone(tmp_path_factory.mktemp("shared"), monkeypatch)


def _alone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith(("GIT_", "PROVISIONER_", "DENO_", "PG", *CI)):
            monkeypatch.delenv(name)
    user = directory / "user"
    user.mkdir()
    (user / "gitconfig").write_text(GIT_CONFIG)
    home = directory / "home"
    monkeypatch.delenv("COLUMNS", raising=False)  # set by the processes that run tests beside each other
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("XDG_DATA_HOME", str(user / "data"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("PROVISIONER_HOME", str(home))
    monkeypatch.setenv("PROVISIONER_PREVIEW_PORT", "0")  # tests of previews have ports of their own
    monkeypatch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    return home


@pytest.fixture(params=SETUPS)
def setup(request: pytest.FixtureRequest, home: Path) -> Iterator[Setup]:
    with ExitStack() as stack:
        yield Setup(request.param, home, stack)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server in this process, for all tests that want databases of one."""
    from kv_server import served

    with served(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def pg() -> Iterator[PgServer]:
    """A real PostgreSQL server for all tests of this worker; databases are each test's own."""
    from pg_server import pg_running

    with pg_running() as running:
        yield running


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`node_modules` with what tests/support/npm/package-lock.json pins, installed once for all workers."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "npm"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NPM / name, directory)
        for _ in range(3):  # a registry may be out of breath for a moment
            if (directory / "installed").exists():
                break
            command = ["npm", "ci", "--no-audit", "--no-fund", "--prefix", str(directory)]
            with suppress(subprocess.TimeoutExpired):
                if subprocess.run(command, timeout=90, stdout=subprocess.DEVNULL).returncode == 0:
                    (directory / "installed").touch()
    assert (directory / "installed").exists(), "npm could not install the packages of tests/support/npm"
    return directory / "node_modules"


@pytest.fixture(scope="session")
def axe(node_modules: Path) -> str:
    """The text of axe-core, which looks for what keeps people out of a page."""
    return (node_modules / "axe-core" / "axe.min.js").read_text()
