"""What people and scripts trip over: each was wrong once."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hostile import help_of, leaves
from pg_server import PgServer
from support import add_branches, commit, git, marked_shop, ok, provisioner, repository, run, shop, until

import provisioner as package
from provisioner.cli.commands import status as status_command


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "instance", "add", "sql", "--engine", "postgres")
    ok(repo, "assign", "sql")
    return repo


def test_a_url_in_json_is_a_url(embedded: Path) -> None:
    urls = [item["url"] for row in json.loads(ok(embedded, "status", "--json")) for item in row["databases"]]
    ok(embedded, "instance", "add", "files")
    ok(embedded, "assign", "files")
    urls += [item["url"] for row in json.loads(ok(embedded, "status", "--json")) for item in row["databases"]]
    assert {urlsplit(url).scheme for url in urls} == {"postgresql", "sqlite"}
    assert all(urlsplit(url).path and " " not in url for url in urls)


def test_doctor_starts_no_server_that_was_stopped(embedded: Path, home: Path) -> None:
    ok(embedded, "instance", "stop", "sql")
    looked = provisioner(embedded, "doctor", "--json")
    found = {item["check"]: item for item in json.loads(looked.stdout)}
    assert found["instance sql"]["ok"]
    assert "stopped" in found["instance sql"]["message"]
    assert not [item for name, item in found.items() if "sql" in name and not item["ok"]]
    assert "was not running" in ok(embedded, "instance", "stop", "sql")
    ok(embedded, "exec", "--", "true")  # which needs it, and starts it
    assert "was not running" not in ok(embedded, "instance", "stop", "sql")


def test_an_interrupt_that_python_drops_ends_the_watching_all_the_same() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        interrupt = status_command.Interrupt()
        with suppress(KeyboardInterrupt):  # as a destructor does
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.sleep(60)
    finally:
        signal.signal(signal.SIGINT, before)


def test_status_that_is_watched_into_a_file_is_a_line_per_change(repo: Path, tmp_path: Path) -> None:
    output, documents = tmp_path / "output", tmp_path / "documents"
    watching = [
        subprocess.Popen(["provisioner", "status", "--watch", *more], cwd=repo, stdout=path.open("wb"))
        for path, more in ((output, ()), (documents, ("--json",)))
    ]
    until(lambda: output.read_bytes().count(b"\n") == documents.read_bytes().count(b"\n") == 2)
    add_branches(repo, "late")
    ok(repo, "reconcile")
    until(lambda: output.read_bytes().count(b"\n") == documents.read_bytes().count(b"\n") == 3)
    for process in watching:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    lines = output.read_text().splitlines()
    assert "\x1b" not in output.read_text()
    assert [line.split("  ")[1:3] for line in lines] == [
        ["production", "connected"],
        ["git-branch/login", "connected"],
        ["git-branch/late", "connected"],
    ]
    assert [json.loads(line)["branch"] for line in documents.read_text().splitlines()] == ["main", "login", "late"]


MISSING = {
    "an app": ("app", "show", "nope"),
    "an app, as an option": ("status", "--app", "nope"),
    "a branch": ("database", "show", "--branch", "nope"),
    "a timeline": ("timeline", "show", "--timeline", "git-branch/nope"),
    "a revision": ("timeline", "show", "--revision", "0123456789"),
    "a database": ("database", "archive", "nope", "--yes"),
    "an instance": ("instance", "show", "nope"),
    "an instance, as an option": ("database", "reset", "--instance", "nope", "--yes"),
    "an instance to assign": ("assign", "nope"),
    "a deleted instance": ("instance", "recover", "nope"),
    "a snapshot": ("database", "restore", "login", "12345678", "--yes"),
    "a snapshot to delete": ("database", "snapshot", "delete", "12345678", "--yes"),
    "a token": ("token", "revoke", "nope"),
    "a token's database": ("token", "create", "--database", "nope"),
    "a variable": ("var", "unset", "NOPE", "--yes"),
    "a preview": ("preview", "delete", "0123456789", "--yes"),
    "a commit": ("preview", "create", "nope"),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_does_not_exist_is_exit_code_3(repo: Path, what: str) -> None:
    done = provisioner(repo, *MISSING[what])
    assert (done.returncode, done.stdout) == (3, ""), done


def test_a_home_without_a_registry_is_exit_code_3_in_every_command(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop")
    for words in (("status",), ("app", "show"), ("exec", "--", "true"), ("env",), ("token", "list")):
        done = provisioner(repo, *words)
        assert (done.returncode, "no registry" in done.stderr) == (3, True), done


@pytest.mark.parametrize("name", ["PATH", "IFS", "BASH_ENV", "SHELLOPTS"])
def test_no_variable_of_an_app_keeps_programs_from_being_found(repo: Path, home: Path, name: str) -> None:
    refused = provisioner(repo, "var", "set", f"{name}=1")
    assert (refused.returncode, "cannot be set" in refused.stderr) == (2, True)
    ok(repo, "var", "set", "OTHER=1")
    _set_in_registry(home, name)  # as an earlier version has let it be set
    assert ok(repo, "exec", "--", "sh", "-c", "echo found") == "found\n"
    assert f"\n{name}=" not in ok(repo, "env", "--format", "dotenv")


def _set_in_registry(home: Path, name: str) -> None:
    with closing(sqlite3.connect(home / "registry.db")) as registry, registry:
        assert registry.execute("update variable set name = ?", (name,)).rowcount


@pytest.mark.parametrize("name", ["HEAD", "v1", "main", "HEAD~1"])
def test_a_revision_is_whatever_git_resolves_to_a_commit(repo: Path, name: str) -> None:
    git(repo, "switch", "-q", "login")
    commit(repo, "second")
    git(repo, "tag", "v1", "main")
    ok(repo, "reconcile")
    expected = "git-branch/login" if name == "HEAD" else "production"
    assert ok(repo, "exec", "--revision", name, "--", "printenv", "DENO_TIMELINE") == f"{expected}\n"
    assert json.loads(ok(repo, "env", "--revision", name, "--format", "json"))["DENO_TIMELINE"] == expected
    assert json.loads(ok(repo, "timeline", "show", "--revision", name, "--json"))["timeline"] == expected
    refused = provisioner(repo, "exec", "--revision", "nope", "--", "true")
    assert (refused.returncode, "is not a commit" in refused.stderr) == (3, True)


WEAK = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")


@pytest.fixture
def closed(repo: Path, home: Path) -> Iterator[Path]:
    """A home that this user may not enter, though it is root."""
    home.chmod(0)
    yield repo
    home.chmod(0o700)


@pytest.mark.parametrize(
    "words", [("status",), ("exec", "--", "true"), ("env",), ("doctor",), ("app", "add")], ids=" ".join
)
def test_a_registry_that_may_not_be_read_is_not_called_missing(closed: Path, words: tuple[str, ...]) -> None:
    done = run(closed, *WEAK, "provisioner", *words)
    assert done.returncode == (3 if words[0] in ("exec", "env") else done.returncode)
    assert done.returncode in (1, 3)
    assert "ermission denied" in done.stdout + done.stderr
    assert "no registry" not in done.stderr
    assert "no space" not in done.stderr


def _foreign(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"dump.{kind}"
    text = b"create table t (a int);\n"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("dump.sql", text)
    elif kind == "tar":
        (tmp_path / "dump.sql").write_bytes(text)
        subprocess.run(["tar", "-cf", path, "-C", tmp_path, "dump.sql"], check=True)
    elif kind == "gz":
        path.write_bytes(subprocess.run(["gzip"], input=text, capture_output=True, check=True).stdout)
    elif kind == "jsonl":
        path.write_bytes(b'{"format": "provisioner-kv", "version": 1}\n')
    else:
        path.write_bytes(bytes(range(128, 192)) + b"\0" + text)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "jsonl", "binary"])
def test_a_foreign_archive_is_called_what_it_is(tmp_path: Path, pg: PgServer, kind: str) -> None:
    repo = repository(tmp_path / "shop")
    ok(repo, "app", "add", "--name", "shop")
    ok(repo, "instance", "add", "sql", "--engine", "postgres", "--url", pg.url("postgres"))
    ok(repo, "assign", "sql")
    refused = provisioner(repo, "database", "load", "main", str(_foreign(tmp_path, kind)), "--replace", "--yes")
    assert refused.returncode == 1
    expected = {"zip": "a zip archive", "tar": "no toc.dat", "gz": "by gzip", "jsonl": "Deno KV", "binary": "neither"}
    assert expected[kind] in refused.stderr
    assert "psql" not in refused.stderr
    assert "syntax" not in refused.stderr


def test_nothing_that_is_printed_names_a_file_of_the_documentation() -> None:
    """An installed package has none. Docstrings of modules are for those who read the source, where the files are."""
    sources = Path(package.__file__).parent.rglob("*.py")
    found = []
    for source in sources:
        for number, line in enumerate(source.read_text().splitlines(), 1):
            if re.search(r"docs/\w+\.md", line) and not line.startswith(('"""', "Facts:")):
                found.append(f"{source.name}:{number}: {line.strip()}")
    assert found == []
    for name in leaves():
        assert "docs/" not in help_of(name)


def test_kv_on_an_app_with_postgresql_only_names_what_there_is(tmp_path: Path, pg: PgServer) -> None:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "app", "add", "--name", "shop")
    ok(repo, "instance", "add", "sql", "--engine", "postgres", "--url", pg.url("postgres"))
    ok(repo, "assign", "sql")
    for words in (("list",), ("get", '["a"]'), ("set", '["a"]', "1"), ("delete", '["a"]', "--yes"), ("watch", '["a"]')):
        refused = provisioner(repo, "kv", *words)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "has no deno-kv instance, only sql (postgres)" in refused.stderr
    refused = provisioner(repo, "kv", "list", "--instance", "sql")
    assert (refused.returncode, "holds no keys" in refused.stderr) == (3, True)


@pytest.mark.parametrize(
    "hurt", ["registry", "database", "server", "directory"], ids=lambda what: f"its {what} is gone"
)
def test_exec_and_env_end_with_3_whenever_they_cannot_connect(tmp_path: Path, home: Path, hurt: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    if hurt == "registry":
        (home / "registry.db").write_bytes(b"no database" * 100)
    elif hurt == "database":
        for file in home.glob("instances/*/live/*/kv.sqlite3"):
            file.write_bytes(b"no database" * 100)
    elif hurt == "server":
        ok(repo, "assign", "default", "--connect", "url")
    for words in ("exec -- true", "env", "exec --branch login -- true", "env --branch login --format json"):
        script = f'mkdir {hurt}; cd {hurt}; rmdir ../{hurt}; exec "$@"' if hurt == "directory" else 'exec "$@"'
        done = run(repo, "sh", "-c", script, "sh", "provisioner", *words.split(" "))
        assert (done.returncode, done.stdout) == (3, ""), done
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr


def test_what_is_a_bug_says_so_in_a_line_and_shows_where_when_asked(repo: Path) -> None:
    program = (
        "import sys; from provisioner.cli import selectors; from provisioner.cli.commands import status\n"
        "def broken(*_): raise KeyError('x')\n"
        "status.filtered = broken; sys.argv = ['provisioner', 'status']\n"
        "from provisioner.__main__ import main; main()\n"
    )
    done = run(repo, sys.executable, "-c", program)
    assert done.returncode == 1
    assert done.stderr.startswith("provisioner: this is a bug in provisioner: KeyError: 'x'")
    assert done.stderr.count("\n") == 1
    shown = run(repo, sys.executable, "-c", program, add={"PROVISIONER_DEBUG": "1"})
    assert "Traceback" in shown.stderr
