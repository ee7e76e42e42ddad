"""By file or by URL: what `exec` and `env` inject, what the tokens open at the server, and what a dead server does."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import Running, daemon, database_of, git, ok, provisioner, shop, status, until

from provisioner.core.connection import STRAY
from provisioner.system import pidfile

EXAMPLE = """
const kv = await Deno.openKv();
const requests = ((await kv.get<number>(["requests"])).value ?? 0) + 1;
await kv.set(["requests"], requests);
console.log(requests);
kv.close();
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@contextmanager
def serving(home: Path, command: str = "serve") -> Iterator[Running]:
    with daemon(home, "provisioner", command, "--port", "0", announced="server") as running:
        yield running


def base_url(home: Path) -> str:
    return (home / "server").read_text().split()[2]


def environment(repo: Path, *selectors: str, add: Mapping[str, str] | None = None) -> dict[str, str]:
    """What `env` prints; `exec` has to give the same."""
    printed: dict[str, str] = json.loads(ok(repo, "env", *selectors, "--format", "json", add=add))
    lines = ok(repo, "exec", *selectors, "--", "env", "-0", add=add).split("\0")
    given = dict(line.split("=", 1) for line in lines if line)
    assert {name: given[name] for name in printed} == printed
    assert [name for name in STRAY if name in given and name not in printed] == []
    return printed


def is_file(variables: Mapping[str, str]) -> bool:
    path = variables["DENO_KV_DEFAULT_PATH"]
    assert "DENO_KV_ACCESS_TOKEN" not in variables or path.startswith("http")
    assert variables["PROVISIONER_KV_URL"] == (path if path.startswith("http") else f"sqlite://{path}")
    return path.startswith("/")


def refused(repo: Path, *said: str) -> None:
    trace = repo / "the-command-ran"
    for words in (("exec", "--", "touch", str(trace)), ("env",), ("kv", "list")):
        done = provisioner(repo, *words)
        assert (done.returncode, done.stdout) == (3, ""), (words, done)
        for text in said:
            assert text in done.stderr
        assert done.stderr.count("\n") == 1
    assert not trace.exists()


_CLIENTS = itertools.count(1)


def exchange(url: str, token: str) -> tuple[int, str]:
    """The metadata exchange, as a client does it first: status and text. Each from an address of its own: of one that
    guesses too often nothing is taken any more."""
    address, source = urlsplit(url), (f"127.2.{next(_CLIENTS)}.1", 0)
    with closing(http.client.HTTPConnection(str(address.hostname), address.port, 20, source)) as connection:
        body = json.dumps({"supportedVersions": [3]})
        connection.request("POST", address.path, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


# which of the two


def test_auto_is_the_url_while_a_server_is_up_and_the_file_otherwise(repo: Path, home: Path) -> None:
    assert is_file(environment(repo))
    with serving(home) as server:
        first = environment(repo)
        assert (
            first["DENO_KV_DEFAULT_PATH"]
            == f"{base_url(home)}/v2/databases/{database_of(repo, 'production')['id']}/connect"
        )
        assert first["DENO_KV_REQUIRES_DISTRIBUTED_DATABASE"] == "error"
        assert environment(repo) == first
        login = environment(repo, "--branch", "login")
        assert login["DENO_KV_ACCESS_TOKEN"] != first["DENO_KV_ACCESS_TOKEN"]
        assert exchange(first["DENO_KV_DEFAULT_PATH"], first["DENO_KV_ACCESS_TOKEN"])[0] == 200
        assert exchange(first["DENO_KV_DEFAULT_PATH"], login["DENO_KV_ACCESS_TOKEN"])[0] == 401
        assert server.stop() == 0
    assert is_file(environment(repo))
    with serving(home) as server:
        assert environment(repo)["DENO_KV_ACCESS_TOKEN"] == first["DENO_KV_ACCESS_TOKEN"]
        server.stop(signal.SIGKILL)
    assert is_file(environment(repo))


def test_the_kv_command_and_the_library_go_where_apps_go(repo: Path, home: Path) -> None:
    def requests() -> int:
        """How many the server has answered, but for this one."""
        with closing(http.client.HTTPConnection(urlsplit(base_url(home)).netloc, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        counted = [line for line in lines if line.startswith("provisioner_requests_total{") and "/metrics" not in line]
        return sum(int(line.rpartition(" ")[2]) for line in counted)

    program = "from provisioner import open_kv\nwith open_kv() as kv: print(kv.get(('a',)).value)"
    with serving(home):
        ok(repo, "kv", "set", '["a"]', '"by the server"', add={"DENO_KV_ACCESS_TOKEN": "stray"})
        said = requests()
        assert said > 0
        assert ok(repo, "kv", "list") == '["a"]\t"by the server"\n'
        assert ok(repo, "exec", "--", "python", "-c", program) == "by the server\n"
        assert requests() > said
        ok(repo, "assign", "default", "--connect", "file")
        said = requests()
        assert ok(repo, "kv", "get", '["a"]') == '"by the server"\n'
        assert ok(repo, "exec", "--", "python", "-c", program) == "by the server\n"
        assert requests() == said


def test_an_assignment_says_file_or_url(repo: Path, home: Path) -> None:
    assert ok(repo, "assign", "default", "--connect", "file").endswith("2 of 2 databases connected, file\n")
    with serving(home):
        assert is_file(environment(repo))
        ok(repo, "assign", "default", "--connect", "url")
        assert not is_file(environment(repo))
        assert json.loads(ok(repo, "app", "show", "--json"))["connect"] == {"default": "url"}
        assert "connect: default url\n" in ok(repo, "app", "show")
        assert "connected, url\n" in ok(repo, "assign", "default")  # as it was
    refused(repo, "no server is up", "provisioner serve", "--connect auto")
    ok(repo, "assign", "default", "--connect", "auto")
    assert is_file(environment(repo))
    assert provisioner(repo, "assign", "default", "--connect", "socket").returncode == 2


def test_up_announces_a_server_too(repo: Path, home: Path) -> None:
    with serving(home, "up"):
        assert not is_file(environment(repo))


@pytest.mark.parametrize("mode", ["auto", "url"])
def test_a_server_that_lives_and_takes_no_connection_is_no_reason_to_use_the_file(
    repo: Path, home: Path, mode: str
) -> None:
    ok(repo, "assign", "default", "--connect", mode)
    with socket.socket() as port:  # bound, so that nobody else listens there
        port.bind(("127.0.0.1", 0))
        for base in (
            f"http://127.0.0.1:{port.getsockname()[1]}",
            "http://[::1]:1",
            "http://nowhere.invalid",
            "http://",
            "?",
        ):
            pidfile.announce(str(home / "server"), base)
            refused(repo, "accepts no connection", str(os.getpid()), "Restart the server")
    pidfile.withdraw(str(home / "server"))


def test_the_word_of_a_dead_server_is_not_believed(repo: Path, home: Path) -> None:
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has buried it
    started = Path(f"/proc/{ended.pid}/stat").read_text().rpartition(") ")[2].split()[19]
    words = (
        f"{ended.pid} {started} http://127.0.0.1:1",
        f"{os.getpid()} 1 http://127.0.0.1:1",
        "",
        "x y z",
        "1",
        "-1 0 z",
    )
    for word in words:
        (home / "server").write_text(word + "\n")
        assert is_file(environment(repo)), word
    ended.wait()


# what is injected


def test_plain_deno_counts_on_each_branch_for_itself(repo: Path, home: Path) -> None:
    (repo / "main.ts").write_text(EXAMPLE)
    strays = {
        "DENO_KV_PATH_PREFIX": "/nowhere",
        "DENO_KV_DB_MODE": "memory",
        "DENO_KV_ACCESS_TOKEN": "stray",
        "DENO_KV_REQUIRES_DISTRIBUTED_DATABASE": "warn",
        "NO_COLOR": "1",
        "DENO_NO_UPDATE_CHECK": "1",
    }
    counted = []
    with serving(home):
        for branch in ("main", "login", "main", "login", "main"):
            git(repo, "switch", "-q", branch)
            counted.append(ok(repo, "exec", "--", "deno", "run", "-A", "main.ts", add=strays).strip())
    assert counted == ["1", "1", "2", "2", "3"]
    flag = ("deno", "run", "-A", "--unstable-kv", "main.ts")
    assert ok(repo, "exec", "--", *flag, add=strays).strip() == "4"  # the same database, in its file


def test_shells_get_the_token_and_lose_what_was_there(repo: Path, home: Path) -> None:
    with serving(home):
        variables = environment(repo)
        show = 'eval "$(provisioner env)"; printf %s "$DENO_KV_ACCESS_TOKEN ${DENO_KV_DB_MODE-unset}"'
        shown = subprocess.run(
            ["sh", "-c", show],
            cwd=repo,
            env={**os.environ, "DENO_KV_ACCESS_TOKEN": "stray", "DENO_KV_DB_MODE": "memory"},
            capture_output=True,
            text=True,
        )
        assert shown.stdout == f"{variables['DENO_KV_ACCESS_TOKEN']} unset"
        github = ok(repo, "env", "--format", "github")
        assert github.count("DENO_KV_ACCESS_TOKEN<<") == 1
        ok(repo, "env", "--write", ".env.local")
        before = (repo / ".env.local").read_text()
        assert f"DENO_KV_ACCESS_TOKEN={variables['DENO_KV_ACCESS_TOKEN']}\n" in before
        ok(repo, "env", "--write", ".env.local")
        assert (repo / ".env.local").read_text() == before


def test_what_looks_at_a_database_knows_its_url_and_tells_no_token(repo: Path, home: Path) -> None:
    def urls() -> list[Any]:
        return [database["url"] for row in status(repo) for database in row["databases"]]

    assert [url.partition(":")[0] for url in urls()] == ["sqlite", "sqlite"]
    with serving(home):
        variables = environment(repo)
        assert variables["DENO_KV_DEFAULT_PATH"] in urls()
        told = "".join(
            provisioner(repo, *words).stdout
            for words in (
                *(("status",), ("status", "--json"), ("doctor",), ("doctor", "--json"), ("app", "show")),
                ("database", "show", variables["PROVISIONER_DATABASE"]),
                ("database", "list", "--json"),
                ("token", "list", "--json"),
            )
        )
        assert f"url: {variables['DENO_KV_DEFAULT_PATH']}\n" in told
        assert variables["DENO_KV_ACCESS_TOKEN"] not in told
        assert "ptd_" not in told
        ok(repo, "kv", "set", '["a"]', "1")
        assert ok(repo, "kv", "get", '["a"]') == "1\n"
        ok(repo, "assign", "default", "--connect", "file")
        assert [url.partition(":")[0] for url in urls()] == ["sqlite", "sqlite"]
    ok(repo, "assign", "default", "--connect", "url")
    assert urls() == [None, None]
    assert "ptd_" not in (home.parent / "server.log").read_text()


# doctor


def _found(repo: Path, check: str) -> tuple[bool, str]:
    rows = json.loads(provisioner(repo, "doctor", "--json").stdout)
    ((well, message),) = [(row["ok"], row["message"]) for row in rows if row["check"] == check]
    return well, message


def test_doctor_tells_whether_a_server_runs_and_answers(repo: Path, home: Path) -> None:
    assert _found(repo, "server") == (True, "not running: apps in mode auto open the files")
    with serving(home) as server:
        assert _found(repo, "server") == (True, f"running at {base_url(home)}, process {server.process.pid}")
        server.stop(signal.SIGKILL)
    assert _found(repo, "server")[0] is False
    assert "was killed and left" in _found(repo, "server")[1]
    with socket.create_server(("127.0.0.1", 0)) as port:  # takes connections, and says nothing
        pidfile.announce(str(home / "server"), f"http://127.0.0.1:{port.getsockname()[1]}")
        well, message = _found(repo, "server")
        assert not well
        assert "/readyz does not answer" in message
    pidfile.withdraw(str(home / "server"))
    ok(repo, "assign", "default", "--connect", "url")
    well, message = _found(repo, "app shop connection")
    assert not well
    assert "provisioner serve" in message


# tokens of the command line, at the server


def made(repo: Path, *options: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(ok(repo, "token", "create", *options, "--json"))
    return document


def test_a_token_is_shown_once_and_listed_without_its_secret(repo: Path, home: Path) -> None:
    name = database_of(repo, "git-branch/login")["name"]
    one = made(repo, "--database", name, "--label", "laptop")
    keys = {"token", "id", "scope", "app", "database", "read_only", "label", "created_at", "expires_at", "revoked_at"}
    assert one.keys() == keys
    assert (one["scope"], one["database"], one["app"], one["read_only"]) == ("database", name, None, False)
    app = made(repo, "--app", "shop", "--read-only", "--expires-in", "90d")
    assert (app["scope"], app["app"], app["read_only"]) == ("app", "shop", True)
    plain = provisioner(repo, "token", "create", "--admin")
    assert plain.stdout.startswith("ptk_")
    assert plain.stdout.count("\n") == 1
    listed = json.loads(ok(repo, "token", "list", "--json"))
    assert [row["scope"] for row in listed] == ["database", "app", "admin"]
    assert all(row.keys() == keys - {"token"} for row in listed)
    told = ok(repo, "token", "list") + json.dumps(listed)
    for text in (one["token"], app["token"], plain.stdout.strip()):
        assert text.split("_", 2)[2] not in told
    row = next(line.split() for line in told.splitlines() if line.startswith(one["id"]))
    assert row == [one["id"], name, "read-write", "valid", "laptop"]
    ok(repo, "token", "revoke", one["id"])
    ok(repo, "token", "revoke", plain.stdout.strip())
    assert [bool(row["revoked_at"]) for row in json.loads(ok(repo, "token", "list", "--json"))] == [True, False, True]
    assert provisioner(repo, "token", "revoke", "nonsense").returncode == 3
    odd = provisioner(repo, "token", "create", "--admin", "--label", b"caf\xe9 \x1b[31m")
    assert odd.returncode == 0
    assert "\x1b" not in ok(repo, "token", "list")
    for time in ("soon", "99999999999999999w", "36501d", "²d", "-1d"):
        assert provisioner(repo, "token", "create", "--admin", f"--expires-in={time}").returncode == 2, time
    for words in ((), ("--admin", "--app", "shop")):
        assert provisioner(repo, "token", "create", *words).returncode == 2
    assert provisioner(repo, "token", "revoke").returncode == 2
    assert provisioner(repo, "token", "create", "--database", "nothing").returncode == 3


def test_a_token_opens_at_the_server_what_it_is_for(repo: Path, home: Path) -> None:
    ids = {timeline: database_of(repo, timeline)["id"] for timeline in ("production", "git-branch/login")}
    names = {timeline: database_of(repo, timeline)["name"] for timeline in ids}
    with serving(home):
        url = {timeline: f"{base_url(home)}/v2/databases/{found}/connect" for timeline, found in ids.items()}
        for options, opens in (
            (("--database", names["git-branch/login"]), {"git-branch/login"}),
            (("--database", names["production"]), {"production"}),
            (("--app", "shop"), {"git-branch/login"}),
            (("--admin",), {"production", "git-branch/login"}),
        ):
            token = made(repo, *options)
            assert {name for name in url if exchange(url[name], token["token"])[0] == 200} == opens
            ok(repo, "token", "revoke", token["id"])
            assert [exchange(each, token["token"])[0] for each in url.values()] == [401, 401]


def test_what_was_injected_is_revoked_for_one_database_or_for_all(repo: Path, home: Path) -> None:
    with serving(home):
        before = {branch: environment(repo, "--branch", branch) for branch in ("main", "login")}

        def opens(variables: Mapping[str, str]) -> bool:
            return exchange(variables["DENO_KV_DEFAULT_PATH"], variables["DENO_KV_ACCESS_TOKEN"])[0] == 200

        assert [opens(variables) for variables in before.values()] == [True, True]
        ok(repo, "token", "revoke", "--database", before["login"]["PROVISIONER_DATABASE"])
        assert [opens(variables) for variables in before.values()] == [True, False]
        again = environment(repo, "--branch", "login")
        assert opens(again)
        ok(repo, "token", "revoke", again["DENO_KV_ACCESS_TOKEN"])  # as it was found somewhere
        assert not opens(again)
        assert provisioner(repo, "token", "rotate-key").returncode == 1  # nobody can be asked
        assert opens(before["main"])
        ok(repo, "token", "rotate-key", "--yes")
        assert not opens(before["main"])
        assert opens(environment(repo))


def test_deno_that_is_connected_loses_a_revoked_token_within_a_minute(repo: Path, home: Path) -> None:
    program = """
const kv = await Deno.openKv();
console.log("open");
for (;;) {
  await kv.get(["a"]);
  await new Promise((done) => setTimeout(done, 50));
}
"""
    (repo / "poll.ts").write_text(program)
    with serving(home):
        name = environment(repo)["PROVISIONER_DATABASE"]
        with subprocess.Popen(
            ["provisioner", "exec", "--", "deno", "run", "-A", "poll.ts"],
            cwd=repo,
            env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as polling:
            try:
                assert polling.stdout is not None
                assert polling.stdout.readline() == "open\n"
                ok(repo, "token", "revoke", "--database", name)
                until(lambda: polling.poll() is not None, 60)
                assert polling.stderr is not None
                assert "this token does not open this database" in polling.stderr.read()
            finally:
                polling.kill()
