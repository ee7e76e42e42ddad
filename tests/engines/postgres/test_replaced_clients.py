"""Real clients on a database that took the place of another: it opens for all of them, and who is too late opens nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kv_files import integrity
from support import daemon, database_of, git, ok, run, shop, until

from provisioner.kv import open_kv
from provisioner.kv.stores.sqlite.store import SqliteStore

LOGIN = "git-branch/login"
ADDS = """
const kv = await open();
await kv.atomic().sum(["n"], 1n).commit();
console.log(String((await kv.get(["n"])).value.value));
kv.close();
"""
# Adds before it says "ready", and at each line it is given.
HOLDS = """
const kv = await Deno.openKv();
await kv.atomic().sum(["n"], 1n).commit();
console.log("ready");
for await (const _ of Deno.stdin.readable) {
  await kv.atomic().sum(["n"], 1n).commit();
  console.log(String((await kv.get(["n"])).value.value));
}
kv.close();
"""


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("DENO_NO_UPDATE_CHECK", "1")
    repo = shop(tmp_path / "shop", "login")
    git(repo, "switch", "-q", "login")
    (repo / "adds.ts").write_text(ADDS.replace("open()", "Deno.openKv()"))
    (repo / "holds.ts").write_text(HOLDS)
    return repo


def path_of(repo: Path) -> str:
    path: str = database_of(repo, LOGIN)["path"]
    return path


def reset(repo: Path) -> str:
    """The id of the snapshot that the old data becomes."""
    ok(repo, "database", "reset", "--yes")
    kept: str = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))[0]["id"]
    return kept


def adds(repo: Path, *permissions: str) -> str:
    return ok(repo, "exec", "--", "deno", "run", "--unstable-kv", "--no-prompt", *permissions, "adds.ts").rstrip()


@contextmanager
def holding(repo: Path) -> Iterator[subprocess.Popen[str]]:
    command = ["provisioner", "exec", "--", "deno", "run", "-A", "--unstable-kv", "holds.ts"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=repo, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate()
        assert process.returncode == 0


def test_deno_opens_each_with_the_permission_for_its_path_alone(repo: Path) -> None:
    assert adds(repo, "-A") == "1"
    for _ in range(3):
        reset(repo)
        path = path_of(repo)
        environment = "--allow-env=DENO_KV_DEFAULT_PATH"
        for count, allowed in enumerate((path, str(Path(path).parent), str(Path(path).parent.parent)), 1):
            assert adds(repo, f"--allow-read={allowed}", f"--allow-write={allowed}", environment) == str(count)
        assert integrity(Path(path)) == "ok"


def test_deno_opens_nothing_by_the_path_of_what_was_replaced(repo: Path) -> None:
    for _ in range(3):
        old = path_of(repo)
        reset(repo)
        program = f"await Deno.openKv({json.dumps(old)})"
        refused = run(repo, "deno", "eval", "--unstable-kv", program)
        assert refused.returncode == 1
        assert "unable to open database file" in refused.stderr
    assert adds(repo, "-A") == "1"


@pytest.mark.parametrize("before", [0, 1])
def test_deno_that_has_the_old_data_open_goes_on_in_it(repo: Path, before: int) -> None:
    for _ in range(before):
        reset(repo)
    with holding(repo) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        kept = reset(repo)
        assert adds(repo, "-A") == "1"
        for count in range(2, 5):
            process.stdin.write("\n")
            assert process.stdout.readline() == f"{count}\n"
        assert adds(repo, "-A") == "2"
    assert adds(repo, "-A") == "3"
    assert integrity(Path(path_of(repo))) == "ok"
    ok(repo, "database", "restore", "login", kept, "--yes")
    assert adds(repo, "-A") == "5"


@pytest.mark.timeout(120)
def test_node_opens_what_took_the_place_of_another(repo: Path, node_modules: Path) -> None:
    (repo / "node_modules").symlink_to(node_modules)
    program = ADDS.replace("open()", "openKv(process.env.DENO_KV_DEFAULT_PATH)")
    (repo / "adds.mjs").write_text('import { openKv } from "@deno/kv";\n' + program)
    for _ in range(3):
        assert ok(repo, "exec", "--", "node", "adds.mjs") == "1\n"
        assert adds(repo, "-A") == "2"
        reset(repo)


def test_an_env_file_of_the_checkout_gets_the_new_path(repo: Path) -> None:
    file = repo / ".env.local"
    ok(repo, "env", "--write", ".env.local")
    for _ in range(2):
        reset(repo)
        assert f"DENO_KV_DEFAULT_PATH={path_of(repo)}\n" in file.read_text().replace('"', "")
    kept = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))[0]["id"]
    ok(repo, "database", "restore", "login", kept, "--yes")
    assert f"DENO_KV_DEFAULT_PATH={path_of(repo)}\n" in file.read_text().replace('"', "")


def test_the_server_goes_over_to_each_that_takes_the_place(
    repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon(home, "provisioner", "up", "--port", "0", announced="server"):
        variables = json.loads(ok(repo, "env", "--format", "json"))
        monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", variables["DENO_KV_ACCESS_TOKEN"])
        with open_kv(variables["PROVISIONER_KV_URL"]) as kv:
            for number in range(4):
                kv.set(("n",), number)
                with open_kv(path_of(repo)) as beside:
                    assert beside.get(("n",)).value == number
                reset(repo)
                until(lambda: kv.get(("n",)).value is None)


@pytest.mark.parametrize("stable", [False, True], ids=["by its own path", "by the link"])
def test_our_store_hears_of_others_and_reads_pages_there(repo: Path, home: Path, stable: bool) -> None:
    reset(repo)
    path = path_of(repo)
    if stable:
        (path,) = map(str, home.glob(f"instances/*/live/{database_of(repo, LOGIN)['id']}/kv.sqlite3"))
    with open_kv(path) as kv, kv.watch([("n",)]) as states:
        assert next(states)[0].value is None
        adds(repo, "-A")
        assert next(states)[0].value == 1
    with closing(SqliteStore(path)) as store, store.moment(pages=True) as moment:
        assert moment.pages is not None
        assert not store.moved()
        reset(repo)
        assert store.moved()
