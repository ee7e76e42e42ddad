"""A program that opened a database, and reads for the first time when other data has taken its place.

SQLite opens the file at once and its log, by name, at the first read: the old file with the new log would ruin the new data.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import add_branches, database_of, git, killed, ok, points, run, shop, statuses

pytestmark = pytest.mark.slow

# Says "ready", and at each line it is given runs it as a statement, and says what came of it.
PROGRAM = """
import {library} as sqlite, sys
connection = sqlite.{connect}(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(connection.cursor().execute(line).fetchall(), flush=True)
        getattr(connection, "commit", lambda: None)()
    except sqlite.Error as error:
        print(error, flush=True)
"""
LIBRARIES = {"sqlite3": "connect", "apsw": "Connection"}
# Of the log's name: it is a directory's, or in a directory that is not there.
CANNOT = ("unable to open database file", "disk I/O error")
OLD = 300  # rows, of which the first and the last are on other pages
LOGIN = "git-branch/login"


class Program:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def does(self, statement: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()
        return self.says()

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")


@contextmanager
def running(*command: str) -> Iterator[Program]:
    """A program that has opened what it is to open."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        program = Program(process)
        assert program.says() == "ready"
        yield program
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


@contextmanager
def opened(path: str, library: str = "sqlite3") -> Iterator[Program]:
    source = PROGRAM.format(library=library, connect=LIBRARIES[library])
    with running(sys.executable, "-c", source, path) as program:
        yield program


def insert(name: str) -> str:
    return f"insert into kv (k, v, v_encoding, version) values (cast('{name}' as blob), cast('{name}' as blob), 3, 1)"


def content(path: str) -> tuple[str, list[str]]:
    """Whether a process that comes to it anew finds it whole, and what of ours is in it."""
    with opened(path) as fresh:
        names = fresh.does("select json_group_array(cast(k as text)) from (select k from kv order by k)")
        return fresh.does("pragma integrity_check"), json.loads(names[3:-4])


def whole(*names: str) -> tuple[str, list[str]]:
    return "[('ok',)]", sorted(names)


def old() -> list[str]:
    return [f"old{number:03}" for number in range(OLD)]


def path_of(repo: Path, timeline: str = LOGIN) -> str:
    path: str = database_of(repo, timeline)["path"]
    return path


def replaced(repo: Path) -> str:
    """Put nothing in the place of what is there; the id of the snapshot which that becomes."""
    ok(repo, "database", "reset", "login", "--yes")
    return newest(repo)


def newest(repo: Path) -> str:
    kept: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))
    identity: str = kept[0]["id"]
    return identity


def filled(path: str) -> None:
    numbers = f"with recursive numbers (n) as (select 0 union all select n + 1 from numbers where n < {OLD - 1})"
    name = "cast(printf('old%03d', n) as blob)"
    with opened(path) as writer:
        into = f"insert into kv (k, v, v_encoding, version) {numbers} select {name}, {name}, 3, 1 from numbers"
        assert writer.does(into) == "[]"


def restored(repo: Path, snapshot: str) -> tuple[str, list[str]]:
    ok(repo, "database", "restore", "login", snapshot, "--yes")
    return content(path_of(repo))


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("DENO_NO_UPDATE_CHECK", "1")
    return shop(tmp_path / "shop", "login")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("times", [1, 2])
def test_who_opened_the_old_data_never_touches_the_new(repo: Path, library: str, before: int, times: int) -> None:
    """Replaced so many times before it is opened, and so many times until it reads."""
    for _ in range(before):
        replaced(repo)
    path = path_of(repo)
    filled(path)
    with opened(path, library) as late:
        kept, *_ = [replaced(repo) for _ in range(times)]
        with opened(path_of(repo)) as other:
            assert other.does(insert("new0")) == "[]"
            assert late.does(insert("late")).endswith(CANNOT)
            assert late.does("pragma wal_checkpoint(truncate)").endswith(CANNOT)
            assert other.does(insert("new1")) == "[]"
    assert content(path_of(repo)) == whole("new0", "new1")
    assert restored(repo, kept) == whole(*old())


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("before", [0, 1])
def test_who_had_read_the_old_data_goes_on_in_it_and_takes_no_log_along(repo: Path, library: str, before: int) -> None:
    """Who closes a database last deletes its log, by name, unless it sees that the file has moved."""
    for _ in range(before):
        replaced(repo)
    path = path_of(repo)
    filled(path)
    with ExitStack() as stack:
        with opened(path, library) as holder:
            assert holder.does("select count(*) from kv") in (f"[({OLD},)]", f"[[{OLD}]]")
            kept = replaced(repo)
            other = stack.enter_context(opened(path_of(repo)))
            assert other.does(insert("new0")) == "[]"
            assert holder.does(insert("since")) == "[]"
            assert holder.does("pragma wal_checkpoint(truncate)") == "[(0, 0, 0)]"
            assert holder.does(insert("since too")) == "[]"
        assert other.does(insert("new1")) == "[]"
        with opened(path_of(repo)) as another:
            assert another.does(insert("new2")) == "[]"
        assert other.does("select count(*) from kv") == "[(3,)]"
    assert content(path_of(repo)) == whole("new0", "new1", "new2")
    assert restored(repo, kept) == whole("since", "since too", *old())


@pytest.mark.parametrize("before", [0, 1])
def test_the_sqlite_command_opened_the_old_data(repo: Path, before: int) -> None:
    for _ in range(before):
        replaced(repo)
    path = path_of(repo)
    filled(path)
    command = f"sqlite3 -cmd '.open {path}' -cmd '.print ready' 2>&1; true"
    with running("stdbuf", "-oL", "sh", "-c", command) as late:
        kept = replaced(repo)
        with opened(path_of(repo)) as other:
            assert other.does(insert("new0")) == "[]"
            said = late.does(insert("late") + ";")
            assert any(error in said for error in CANNOT)
            assert other.does(insert("new1")) == "[]"
    assert run(repo, "sqlite3", path_of(repo), "select count(*) from kv").stdout == "2\n"
    assert content(path_of(repo)) == whole("new0", "new1")
    assert restored(repo, kept) == whole(*old())


@pytest.mark.parametrize(("before", "action"), [(0, "fork"), (1, "reset"), (1, "restore")])
@pytest.mark.parametrize("point", points("replace"))
def test_who_opened_the_old_data_when_replacing_is_cut_off(repo: Path, before: int, action: str, point: str) -> None:
    for _ in range(before):
        replaced(repo)
    ok(repo, "database", "snapshot", "create", "login")
    path = path_of(repo)
    with opened(path) as writer:
        assert writer.does(insert("old")) == "[]"
    words = {"fork": ("production", "login"), "reset": ("login",), "restore": ("login", newest(repo))}[action]
    with opened(path) as early, opened(path) as late:
        killed(repo, point, "database", action, *words, "--yes")
        in_between = early.does(insert("early"))
        ok(repo, "reconcile")
        done = path_of(repo) != path
        assert done == (point not in ("replace.intended", "replace.built"))
        with opened(path_of(repo)) as other:
            assert other.does(insert("new")) == "[]"
            assert late.does(insert("late")).endswith(CANNOT if done else "[]")
    into_the_old = ["early"] if in_between == "[]" else []
    if not done:
        assert content(path) == whole("old", "new", "late", *into_the_old)
        return
    assert content(path_of(repo)) == whole("new")
    assert restored(repo, newest(repo)) == whole("old", *into_the_old)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_replaced_database_is_forked_archived_recovered_and_purged_as_any_other(
    repo: Path, home: Path, before: int
) -> None:
    for _ in range(before):
        replaced(repo)
    filled(path_of(repo))
    add_branches(repo, "cart")
    ok(repo, "database", "fork", "login", "cart", "--yes")
    assert content(path_of(repo, "git-branch/cart")) == whole(*old())
    assert database_of(repo, LOGIN)["size"] == Path(path_of(repo)).stat().st_size
    identity = database_of(repo, LOGIN)["id"]
    with opened(path_of(repo)) as late:
        git(repo, "branch", "-q", "-D", "login")
        ok(repo, "reconcile")
        assert late.does(insert("late")).endswith(CANNOT)
        assert content(path_of(repo)) == whole(*old())
        git(repo, "branch", "-q", "login")
        ok(repo, "reconcile")
        assert late.does(insert("again")) == "[]"
    assert content(path_of(repo)) == whole("again", *old())
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "app", "set", "--retention", "0s")
    ok(repo, "reconcile")
    assert LOGIN not in statuses(repo)
    assert not list(home.glob(f"instances/*/**/{identity}"))


@pytest.mark.parametrize("before", [0, 1])
def test_a_copy_of_the_home_opens(repo: Path, home: Path, before: int, tmp_path: Path) -> None:
    for _ in range(before):
        replaced(repo)
    with opened(path_of(repo)) as writer:
        assert writer.does(insert("here")) == "[]"
    run(tmp_path, "cp", "-r", home, tmp_path / "copy", check=True)
    path = Path(path_of(repo)).relative_to(home)
    home.rename(tmp_path / "away")
    copy = tmp_path / "copy" / path
    (stable,) = (tmp_path / "copy").glob(f"instances/*/live/{path.parts[3]}/kv.sqlite3")
    for file in (copy, stable):
        assert content(str(file)) == whole("here")
