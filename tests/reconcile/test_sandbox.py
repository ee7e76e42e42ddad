"""What a command may reach: nothing of what a hostile one is after, and all that an honest one needs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from paths import SUPPORT
from pg_server import PgServer
from pg_world import ask, pg_shop
from support import DENO, commit, daemon, git, got, ok, provisioner, put, repository, rows, shop, until

import provisioner as package
from provisioner.core.connection import KvEndpoint
from provisioner.git.checkout_tree import CheckoutLimits, check_out
from provisioner.reconcile.changes.command_access import confined, described
from provisioner.registry.store import Registry
from provisioner.runs import landlock, workplace
from provisioner.runs.process import Command, log_path, run, shell
from provisioner.runs.sandbox import around
from provisioner.system import secret_key
from provisioner.system.home import Home

MARK = "M4RK"
ATTACK = SUPPORT / "attack.py"
SCRIPTED = f"if [ -e attack.py ]; then {sys.executable} attack.py attack.json; fi"


VISIBLE = ("hide a file by its mode", "open the home to others by its mode", "change times", "look at a file")
"""What only the namespace refuses: Landlock has no rules for it."""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


def log_of(repo: Path, branch: str) -> str:
    return ok(repo, "timeline", "log", branch)


def state(repo: Path, branch: str) -> str:
    return str(json.loads(ok(repo, "timeline", "show", branch, "--json"))["pre_deploy"]["state"])


@contextmanager
def services() -> Iterator[dict[str, object]]:
    """Services of this machine that a command may not use: an abstract socket, one with a name, and a free port."""
    name = f"provisioner-test-{os.getpid()}"
    path = f"/tmp/{name}"
    with socket.socket(socket.AF_UNIX) as anonymous, socket.socket(socket.AF_UNIX) as named, socket.socket() as free:
        anonymous.bind(f"\0{name}")
        named.bind(path)
        for listener in (anonymous, named):
            listener.listen()
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        try:
            yield {"abstract": name, "socket": path, "port": port}
        finally:
            os.unlink(path)


def hostile(repo: Path, branch: str, target: dict[str, object]) -> None:
    """Commit the attack to a branch, with links to what it is after."""
    git(repo, "switch", "-q", branch)
    shutil.copy(ATTACK, repo / "attack.py")
    (repo / "attack.json").write_text(json.dumps(target))
    (repo / "link-to-the-key").symlink_to(f"{target['home']}/keys/connect")
    (repo / "link-to-the-registry").symlink_to(f"{target['home']}/registry.db")
    git(repo, "add", ".")
    commit(repo, "hostile")


@pytest.fixture
def target(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """A home, a user and other repositories with something to steal in each."""
    monkeypatch.setenv("DAEMON_SECRET", MARK)
    repo = shop(tmp_path / "shop", "login")
    other = repository(tmp_path / "other")
    (other / "secret").write_text(MARK)
    ok(other, "init", "--name", "other", "--no-hooks")
    ssh = Path(os.environ["HOME"]) / ".ssh" / "id_ed25519"
    ssh.parent.mkdir()
    ssh.write_text(MARK)
    ok(repo, "var", "set", "--secret", f"PASS={MARK}-of-production", "--context", "production")
    ok(repo, "app", "set", "--pre-deploy", SCRIPTED)
    secret_key.secret(Home(str(home)))
    put(rows(repo)[0]["path"], MARK)
    with services() as there:
        yield {
            "home": str(home),
            "other": rows(repo)[0]["path"],
            "log": str(next((home / "log" / "runs").iterdir())),
            "daemon": os.getpid(),
            "ssh": str(ssh),
            "checkout": str(other / "secret"),
            "repository": str(repo / ".git"),
            "code": str(Path(package.__file__)),
            "disk": next(f"/dev/{name}" for name in sorted(os.listdir("/sys/class/block"), reverse=True)),
            **there,
        }


def test_a_hostile_command_gets_at_nothing(tmp_path: Path, home: Path, target: dict[str, object]) -> None:
    repo = tmp_path / "shop"
    before = (home / "registry.db").stat()
    with daemon(home) as running:
        hostile(repo, "login", {**target, "daemon": running.process.pid})
        until(lambda: git(repo, "rev-parse", "HEAD").stdout.strip() in ok(repo, "timeline", "show", "login"))
        until(lambda: state(repo, "login") in ("succeeded", "failed"))
        assert running.process.poll() is None
    told = log_of(repo, "login").splitlines()
    assert [line for line in told if " refused" not in line] == []
    assert len(told) >= 70
    assert MARK not in "\n".join(told)
    after = (home / "registry.db").stat()
    assert (after.st_mode, after.st_ino, home.stat().st_mode & 0o777) == (before.st_mode, before.st_ino, 0o700)
    assert got(str(target["other"])) == MARK
    assert not (repo / ".git" / "hooks" / "post-receive").exists()
    assert provisioner(repo, "exec", "--branch", "main", "--", "true").returncode == 0


def test_where_nothing_can_be_hidden_landlock_alone_keeps_a_hostile_command_from_all_contents(
    tmp_path: Path, home: Path, target: dict[str, object]
) -> None:
    repo = tmp_path / "shop"
    with Registry.open(Home(str(home))) as registry:
        app = next(each for each in registry.apps() if each.slug == "shop")
        place = workplace.make(registry.home, "one")
        hostile(repo, "login", target)
        check_out(
            app.git_dir,
            git(repo, "rev-parse", "HEAD").stdout.strip(),
            place.checkout,
            CheckoutLimits(0, 0, 0),
            lambda: False,
        )
        file = rows(repo)[1]["path"]
        found = confined(registry, app, place, [KvEndpoint(file)], ())
    assert found.sandbox is not None
    visible = replace(found, sandbox=replace(found.sandbox, hidden=()))
    words = [sys.executable, "attack.py", "attack.json"]
    command = Command(words, place.checkout, 60_000, {"DENO_KV_DEFAULT_PATH": file}, (), visible)
    assert run(Home(str(home)), "one", command, lambda: False) == ""
    told = Path(log_path(Home(str(home)), "one")).read_text()
    assert {line.partition(" GOT")[0] for line in told.splitlines() if " refused" not in line} == set(VISIBLE)
    assert MARK not in told
    os.chmod(home, 0o700)
    os.chmod(home / "registry.db", 0o600)
    assert got(str(target["other"])) == MARK


HONEST = """
set -eu
git init -q . && git add -A && git -c user.name=x -c user.email=x@example.org commit -q -m first
mkdir -p node_modules/.bin && printf '#!/bin/sh\necho a tool of the checkout' > node_modules/.bin/tool
chmod 755 node_modules/.bin/tool && node_modules/.bin/tool
mv node_modules/.bin/tool ./tool && ln -s tool other && ./other
echo temporary > "$(mktemp)"; echo cached > "$HOME/.cache-file"; cat "$HOME/.cache-file"
python3 -c 'import socket, ssl; ssl.create_default_context(); print(socket.gethostbyname("localhost"))'
python3 -m venv --without-pip venv && ./venv/bin/python -c 'import sqlite3; print("a virtual environment")'
sleep 0.01 & wait; kill -0 $$
date -d @0 > /dev/null
"""


def test_an_honest_command_has_what_it_needs(repo: Path) -> None:
    (repo / "migrate.ts").write_text(
        "const kv = await Deno.openKv(); await kv.set(['migrated'], Deno.env.get('DENO_TIMELINE'));"
        " await kv.atomic().sum(['n'], 1n).commit(); console.log('migrated'); kv.close();"
    )
    git(repo, "add", ".")
    commit(repo, "migrate")
    git(repo, "branch", "-q", "-f", "login")
    ok(repo, "app", "set", "--pre-deploy", f"{HONEST}\n{DENO} run -A --unstable-kv migrate.ts")
    told = log_of(repo, "main")
    assert told.count("a tool of the checkout") == 2
    assert "127.0.0.1" in told
    assert "a virtual environment" in told
    assert told.endswith("migrated\n")
    assert "production" in ok(repo, "kv", "get", "--branch", "main", '["migrated"]')


def test_a_migration_of_a_postgresql_database_reaches_it_over_loopback(tmp_path: Path, pg: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", pg, "login")
    program = "import psycopg; psycopg.connect().execute('create table made (name text)').connection.commit()"
    (repo / "migrate.py").write_text(program)
    git(repo, "add", ".")
    commit(repo, "migrate")
    git(repo, "branch", "-q", "-f", "login")
    words = f"{sys.executable} migrate.py && psql -c 'insert into made values (1)' \"$DATABASE_URL\""
    ok(repo, "app", "set", "--pre-deploy", words)
    assert "INSERT 0 1" in log_of(repo, "main")
    assert ask(repo, "main", "select name from made") == [("1",)]


def test_what_an_app_allows_is_reached_and_the_home_never_is(repo: Path, tmp_path: Path, home: Path) -> None:
    tools, cache = tmp_path / "tools", tmp_path / "cache"
    tools.mkdir()
    cache.mkdir()
    (tools / "migrate").write_text("#!/bin/sh\necho a tool > $1")
    (tools / "migrate").chmod(0o755)
    refused = provisioner(repo, "app", "set", "--pre-deploy", f"{tools}/migrate {cache}/made")
    assert "Permission denied" in refused.stderr
    ok(repo, "app", "set", "--allow-read", tools, "--allow-write", cache)
    assert (cache / "made").read_text() == "a tool\n"
    for path in (tmp_path, home, home / "keys", "/", home / "instances" / "default"):
        for option in ("--allow-read", "--allow-write"):
            done = provisioner(repo, "app", "set", option, path)
            assert (done.returncode, "no command may reach" in done.stderr) == (2, True), done.stderr
    ok(repo, "app", "set", "--allow-read", "")
    shown = json.loads(ok(repo, "app", "show", "--json"))
    assert (shown["allow_read"], shown["allow_write"], shown["sandbox"]) == ([], [str(cache)], True)


def test_what_confines_commands_is_said_and_so_is_that_nothing_does(repo: Path) -> None:
    ok(repo, "app", "set", "--pre-deploy", "true")
    confining = f"confined by Landlock (ABI {landlock.abi()})"
    assert confining in json.loads(ok(repo, "app", "show", "--json"))["commands"]
    (check,) = [
        each
        for each in json.loads(provisioner(repo, "doctor", "--json").stdout)
        if each["check"] == "app shop commands"
    ]
    assert (check["ok"], confining in check["message"]) == (True, True)
    ok(repo, "app", "run", "--command", "true", "--memory", "256MB")
    shown = provisioner(repo, "doctor").stdout
    limited = (
        "each of its apps is limited to 256 MB of memory and 1000 processes, checked every second; CPU is not limited"
    )
    assert f"app shop commands: {confining}; {limited}" in shown
    assert "app shop limits" not in shown
    ok(repo, "app", "run", "--no-command", "--yes")
    ok(repo, "app", "set", "--no-sandbox", "--pre-deploy", "echo done")
    commit(repo, "second")
    ok(repo, "reconcile")
    assert "can read the home" in log_of(repo, "main").splitlines()[0]
    assert "can read the home" in ok(repo, "app", "show")
    checks = json.loads(provisioner(repo, "doctor", "--json").stdout)
    (check,) = [each for each in checks if each["check"] == "app shop commands"]
    assert (check["ok"], "can read the home" in check["message"]) == (False, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as another account")
def test_commands_run_as_another_account(tmp_path: Path, pg: PgServer, home: Path) -> None:
    repo = pg_shop(tmp_path / "shop", pg, "login")
    command = f"id -un; id -G; echo made > here; cat here; cat {home}/registry.db 2>&1 | tail -n 1; ls -ld . ; pwd"
    ok(repo, "app", "set", "--no-sandbox", "--run-as", "nobody", "--pre-deploy", command)
    told = log_of(repo, "main").splitlines()
    assert told[:3] == ["nobody", "65534", "made"]
    assert "Permission denied" in told[3]
    assert told[4].startswith("drwx------ ")
    assert " nobody " in told[4]
    assert not Path(told[5]).exists()
    assert json.loads(ok(repo, "app", "show", "--json"))["commands"] == "run as nobody"
    ok(repo, "app", "set", "--sandbox", "--pre-deploy", f"{command}; echo both")
    commit(repo, "second")
    ok(repo, "reconcile")
    told = log_of(repo, "main").splitlines()
    assert (told[0], told[-1]) == ("nobody", "both")
    for wrong in ("no-such-account", "root"):
        assert provisioner(repo, "app", "set", "--run-as", wrong).returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as another account")
def test_another_account_is_not_given_a_file_that_it_cannot_open(repo: Path) -> None:
    refused = provisioner(repo, "app", "set", "--run-as", "nobody", "--pre-deploy", "true")
    assert "who cannot open the file" in refused.stderr
    assert "--connect url" in refused.stderr


def test_what_is_excluded_is_left_out_of_what_is_around_it(tmp_path: Path) -> None:
    top = tmp_path / "there"
    for name in ("a/secret/x", "a/b/c", "d"):
        (top / name).mkdir(parents=True)
    (top / "link").symlink_to(top / "a" / "secret")
    found = set(around(str(top), [str(top / "a" / "secret")]))
    assert found == {str(top / "a" / "b"), str(top / "d")}
    assert list(around(str(top / "link"), [str(top / "a" / "secret")])) == []
    assert list(around(str(top / "d"), ["/"])) == []


def test_a_kernel_without_landlock_is_said_wherever_it_matters(
    repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        place = workplace.make(registry.home, "one")
        found = confined(registry, app, place, [KvEndpoint(rows(repo)[0]["path"])], ())
        other = confined(registry, replace(app, run_as="nobody"), place, [], ())
        told = [described(app), described(replace(app, run_as="nobody"))]
        command = Command(shell("echo done"), place.checkout, 60_000, {}, (), found)
        assert run(registry.home, "one", command, lambda: False) == ""
        first, *rest = Path(log_path(registry.home, "one")).read_text().splitlines()
    assert (found.sandbox, found.user, found.home) == (None, "", "")
    assert "can read the home" in first
    assert "this kernel has no Landlock" in first
    assert "--run-as" in first
    assert rest == ["done"]
    assert (other.sandbox, other.user, other.home, other.warning) == (None, "nobody", place.home, "")
    assert [confines for confines, _ in told] == [False, True]


@pytest.mark.parametrize(("version", "words"), [(1, "truncating"), (3, "listening on TCP"), (5, "signals"), (6, "")])
def test_what_an_older_kernel_does_not_refuse_is_said(version: int, words: str) -> None:
    assert words in "; ".join(landlock.missing(version))
    assert bool(words) == bool(landlock.missing(version))


def test_unix_sockets_are_for_apps_that_ask_for_them(repo: Path) -> None:
    program = (
        "import socket\\nserver = socket.socket(socket.AF_UNIX)\\nserver.bind('here')\\nserver.listen()\\n"
        "client = socket.socket(socket.AF_UNIX)\\nclient.connect('here')\\nprint('connected')"
    )
    command = f'printf "{program}" | {sys.executable} -'
    assert "Permission denied" in provisioner(repo, "app", "set", "--pre-deploy", command).stderr
    ok(repo, "app", "set", "--unix-sockets")
    assert log_of(repo, "main").endswith("connected\n")
