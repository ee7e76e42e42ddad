"""The server as its operator sees it: what it refuses to start with, what it tells, how databases come and go under it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import connect_wire as wire
import pytest
import urllib3
from certificates import certificate
from connect_world import Access, Server, access, deno, serving, token
from support import daemon, files, free_port, git, ok, provisioner, shop, until

from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.connect.server.options import Options, checked
from provisioner.core.errors import UsageError
from provisioner.kv import open_kv
from provisioner.kv.codec import key

A = key.encode(("a",))
ANSWERS_TO_ALL = (
    "await Deno.openKv().then(async (kv) => { await kv.set(['a'], 1); console.log((await kv.get(['a'])).value) })"
)


@pytest.fixture
def repo(home: Path, tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@pytest.fixture
def server(home: Path, repo: Path) -> Iterator[Server]:
    with serving(home) as server:
        yield server


# what it starts with


def test_beyond_this_machine_only_with_tls_or_in_so_many_words(tmp_path: Path) -> None:
    said: list[str] = []
    log = lambda level, message, **_: said.append(f"{level}: {message}")  # noqa: E731
    with pytest.raises(UsageError, match="unencrypted"):
        checked(Options(host="0.0.0.0"), log)
    with pytest.raises(UsageError, match="unencrypted"):
        checked(Options(host="kv.example.com"), log)
    assert said == []
    checked(Options(host="0.0.0.0", insecure_bind=True), log)
    assert said == ["warning: tokens and data cross the network unencrypted"]
    cert, private = certificate(tmp_path)
    checked(Options(host="::", tls_cert=str(cert), tls_key=str(private)), log)
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        checked(Options(host=host), log)
    assert len(said) == 1


@pytest.mark.parametrize(
    "url", ["kv.example.com", "ftp://kv.example.com", "https://", "https://kv.example.com/?a=b", ""]
)
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not a server's address"):
        checked(Options(public_url=url), lambda *_, **__: None)


def test_a_key_in_another_form_and_a_pair_that_does_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    cert, private = certificate(tmp_path / "one")
    other, _ = certificate(tmp_path / "other")
    old = tmp_path / "old.pem"
    subprocess.run(["openssl", "ec", "-in", private, "-out", old], check=True, capture_output=True)
    for pair, why in (((cert, old), "openssl pkcs8"), ((other, private), "not a certificate and its key")):
        with pytest.raises(UsageError, match=why):
            checked(Options(tls_cert=str(pair[0]), tls_key=str(pair[1])), lambda *_, **__: None)
    with pytest.raises(UsageError, match="belong together"):
        checked(Options(tls_cert=str(cert)), lambda *_, **__: None)
    with pytest.raises(UsageError, match="cannot be read"):
        checked(Options(tls_cert=str(cert), tls_key=str(tmp_path / "none")), lambda *_, **__: None)


def test_a_port_that_is_taken_is_said_at_once_also_where_another_home_serves_on_it(
    server: Server, home: Path, tmp_path: Path
) -> None:
    other = {"PROVISIONER_HOME": str(tmp_path / "other")}
    refused = provisioner(tmp_path, "serve", "--port", str(server.port), add=other)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"cannot listen on 127.0.0.1:{server.port}" in refused.stderr
    assert "--port" in refused.stderr
    assert not (tmp_path / "other" / "server").exists()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert provisioner(tmp_path, "serve", "--port", str(port), add=other).returncode == 1


def test_a_home_has_one_server(server: Server, tmp_path: Path) -> None:
    for command in ("serve", "up"):
        refused = provisioner(tmp_path, command, "--port", "0")
        assert refused.returncode == 1
        assert "a server already runs" in refused.stderr


def test_a_server_beside_serves_the_same_and_is_told_of_when_the_first_has_ended(
    server: Server, home: Path, repo: Path
) -> None:
    main = access(repo, "main")
    with serving(home, "--beside") as other:
        there = main.url.replace(server.base, other.base)
        with (
            open_kv(main.url, access_token=main.token) as kv,
            open_kv(there, access_token=main.token) as again,
            again.watch([("a",)]) as watch,
        ):
            assert next(watch)[0].value is None
            kv.set(("a",), 1)
            assert next(watch)[0].value == 1
        assert access(repo, "main").url == main.url
        server.stop(signal.SIGKILL)
        until(lambda: access_or_file(repo) == there)
        server.options = ("--beside",)
        server.start()
        assert access_or_file(repo) == there
        assert other.stop() == 0
        until(lambda: access_or_file(repo) == main.url)
    assert server.stop() == 0
    assert not (home / "server").exists()


def access_or_file(repo: Path) -> str:
    """What an app that is started now is told; no server may be known for a moment."""
    told: dict[str, str] = json.loads(ok(repo, "env", "--branch", "main", "--format", "json"))
    return told["PROVISIONER_KV_URL"]


def test_a_home_without_anything_can_be_served_and_filled_meanwhile(home: Path, tmp_path: Path) -> None:
    with serving(home) as server:
        repo = shop(tmp_path / "shop")
        main = access(repo, "main")
        with wire.Wire() as client:
            until(lambda: client.metadata(main.url, main.token).status == 200)
        assert server.stop() == 0
    assert not (home / "server").exists()


def test_up_is_the_daemon_and_the_server(home: Path, repo: Path) -> None:
    with daemon(home, "provisioner", "up", "--port", "0", announced="server") as running:
        until(lambda: (home / "daemon").exists())
        git(repo, "branch", "cart")
        until(lambda: "cart" in files(repo))
        cart = access(repo, "cart")
        assert deno_prints(repo, "cart") == "1\n"
        with open_kv(cart.url, access_token=cart.token) as kv:
            assert kv.get(("a",)).value == 1
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
    assert not (home / "server").exists()
    assert not (home / "daemon").exists()


def deno_prints(repo: Path, branch: str) -> str:
    """What the two lines print that any app could begin with, started as a user does."""
    return ok(repo, "exec", "--branch", branch, "--", "deno", "eval", ANSWERS_TO_ALL)


def test_over_tls_a_real_deno_is_served(home: Path, repo: Path, tmp_path: Path) -> None:
    cert, private = certificate(tmp_path)
    port = free_port()
    options = ("--port", str(port), "--tls-cert", str(cert), "--tls-key", str(private))
    with daemon(home, "provisioner", "serve", *options, announced="server"):
        login = access(repo, "login")
        assert login.url.startswith(f"https://127.0.0.1:{port}/")
        script = tmp_path / "tls.ts"
        script.write_text(
            "const kv = await Deno.openKv(Deno.args[0]);\n"
            "for (let i = 0; i < 50; i++) await kv.set(['k', i], 'x'.repeat(i * 100));\n"
            "let n = 0; for await (const e of kv.list({ prefix: ['k'] })) n += e.value.length;\n"
            "const reader = kv.watch([['k', 1]]).getReader();\n"
            "console.log(n, (await reader.read()).value[0].value.length);\n"
            "await reader.cancel(); kv.close();\n"
        )
        assert deno(script, login.url, add={**login.variables, "DENO_CERT": str(cert)}) == "122500 100\n"
        plain = wire.raw(f"http://127.0.0.1:{port}", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in plain


def test_what_a_proxy_is_reached_by_is_what_clients_are_told(home: Path, repo: Path) -> None:
    with serving(home, "--public-url", "https://kv.example.com/there/") as server:
        told = (home / "server").read_text().split()[2]
        assert told == "https://kv.example.com/there"
        login = access(repo, "login")
        here = login.url.replace(told, server.base)
        with wire.Wire() as client:
            for versions in (b"", b'{"supportedVersions":[3]}'):
                (endpoint,) = json.loads(client.metadata(here, login.token, versions).body)["endpoints"]
                assert endpoint["url"] == login.url.removesuffix("/connect")


# what it tells


def test_health_readiness_and_numbers(server: Server, repo: Path) -> None:
    login = access(repo, "login")
    with wire.Wire() as client:
        path = client.opened(login.url, login.token)
        assert client.send(path.url("atomic_write"), wire.put(A, b"1"), path.headers()).status == 200
        assert client.send(path.url("snapshot_read"), wire.get(A), path.headers()).status == 200
        assert client.send(path.url("snapshot_read"), b"\xff", path.headers()).status == 400
        assert client.metadata(login.url, "no such token").status == 401
        for name in ("healthz", "readyz"):
            assert client.send(f"{server.base}/{name}", method="GET").text == "ok\n"
        text = client.send(f"{server.base}/metrics", method="GET").text
    for line in (
        'provisioner_requests_total{operation="snapshot_read",status="200"} 1',
        'provisioner_requests_total{operation="snapshot_read",status="400"} 1',
        'provisioner_requests_total{operation="connect",status="401"} 1',
        'provisioner_request_seconds_count{operation="atomic_write"} 1',
        "provisioner_group_commit_writes_count{} 1",
        "provisioner_open_databases 1",
        "provisioner_refused_attempts_total 1",
    ):
        assert line in text.splitlines(), line
    assert login.token not in text
    assert path.database not in text


def test_numbers_are_for_this_machine_and_for_administrators(server: Server, repo: Path) -> None:
    login = access(repo, "login")
    with wire.Wire() as client:
        for bearer, status in (("", 401), (login.token, 401), (token(repo, "--admin"), 200)):
            headers = {"x-forwarded-for": "192.0.2.7", "authorization": f"Bearer {bearer}"}
            assert client.send(f"{server.base}/metrics", headers=headers, method="GET").status == status


def test_each_request_is_logged_where_that_is_wanted_and_refused_ones_always(home: Path, repo: Path) -> None:
    for options in ((), ("--access-log",)):
        with serving(home, "--log-format", "json", *options) as server:
            login = access(repo, "login")
            with wire.Wire() as client:
                path = client.opened(login.url, login.token)
                client.send(path.url("snapshot_read"), wire.get(A), path.headers())
                client.metadata(login.url, "ptk_secret_of_somebody")
            assert server.stop() == 0
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        requests = [(line["operation"], line["status"]) for line in lines if line["message"] == "request"]
        assert requests == [*([("connect", 200), ("snapshot_read", 200)] if options else []), ("connect", 401)]
        for secret in (login.token, path.token, "secret_of_somebody"):
            assert secret not in server.log.read_text()
        server.log.unlink()


# databases come and go


def test_an_archived_database_is_gone_with_a_reason_until_it_is_recovered(server: Server, repo: Path) -> None:
    login = access(repo, "login")
    rows = json.loads(ok(repo, "database", "list", "--json"))
    name = next(row["name"] for row in rows if row["timeline"] == "git-branch/login")
    with wire.Wire() as client:
        path = client.opened(login.url, login.token)
        written: list[int] = []
        refused: list[wire.Answer] = []

        def write() -> None:
            while not refused:
                answer = client.send(path.url("atomic_write"), wire.put(A, b"%d" % len(written)), path.headers())
                if answer.status == 200:
                    written.append(answer.status)
                else:
                    refused.append(answer)

        with client.watching(path, A) as stream:
            next(stream)
            writer = threading.Thread(target=write)
            writer.start()
            until(lambda: len(written) > 50)
            ok(repo, "database", "archive", name, "--yes")
            writer.join(60)
            assert not writer.is_alive()
            assert list(stream)[-1:] != [None]  # it ends
        (answer,) = refused
        assert answer.status == 410
        assert f"provisioner database recover {name}" in answer.text
        assert client.metadata(login.url, login.token).status == 410
        ok(repo, "database", "recover", name)
        assert (
            client.metadata(login.url, login.token).status == 401
        )  # what was given before it was archived ended with it
        login = access(repo, "login")
        path = client.opened(login.url, login.token)
        found = client.send(path.url("snapshot_read"), wire.get(A), path.headers())
    (entry,) = pb.SnapshotReadOutput.FromString(found.body).ranges[0].values
    assert entry.value == b"%d" % (len(written) - 1), "the last acknowledged write"


def test_a_database_whose_file_is_missing_is_an_error_and_no_new_file(server: Server, repo: Path) -> None:
    login = access(repo, "login")
    file = files(repo)["login"]
    file.unlink()
    with wire.Wire() as client:
        path = client.opened(login.url, login.token)
        answer = client.send(path.url("snapshot_read"), wire.get(A), path.headers())
    assert answer.status == 409
    assert str(file.parent) not in answer.text
    assert not file.exists()
    assert str(file) in server.log.read_text()


def test_more_databases_than_may_be_open_are_served_in_turn(home: Path, tmp_path: Path) -> None:
    names = [f"b{number:02}" for number in range(40)]
    repo = shop(tmp_path / "shop", *names)
    with serving(home, "--max-databases", "16") as server, wire.Wire() as client:
        for turn in range(2):
            for name in names:
                found = access_of(repo, home, name)
                path = client.opened(found.url, found.token)
                answer = client.send(path.url("atomic_write"), wire.put(A, b"%d" % turn), path.headers())
                assert answer.status == 200, answer
        text = client.send(f"{server.base}/metrics", method="GET").text
        held = next(line for line in text.splitlines() if line.startswith("provisioner_open_databases "))
        assert 1 <= int(held.split()[1]) <= 16
        open_files = [os.readlink(f"/proc/{server.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{server.pid}/fd")]
        until(lambda: len({Path(name).parent for name in open_files if name.endswith("kv.sqlite3")}) <= 17)


_known: dict[tuple[Path, str], Access] = {}


def access_of(repo: Path, home: Path, branch: str) -> Access:
    """Asked once: each question starts a process."""
    if (repo, branch) not in _known:
        from provisioner.system import secret_key
        from provisioner.system.home import Home

        base = (home / "server").read_text().split()[2]
        for row in json.loads(ok(repo, "status", "--json")):
            identity = row["databases"][0]["id"]
            opener = secret_key.injected(secret_key.secret(Home(str(home))), identity, 0)
            _known[repo, row["branch"]] = Access(f"{base}/v2/databases/{identity}/connect", opener)
    return _known[repo, branch]


# what clients do to it


def test_too_much_and_too_slow_a_body_is_refused(server: Server, repo: Path) -> None:
    login = access(repo, "login")
    with wire.Wire() as client:
        path = client.opened(login.url, login.token)
        assert client.send(path.url("atomic_write"), bytes(3 * 1024 * 1024), path.headers()).status == 413
        unsaid = urllib3.request(
            "POST", path.url("atomic_write"), body=iter([bytes(1024)] * 3000), headers=path.headers()
        )
        assert unsaid.status == 413


def test_one_who_fails_often_is_told_so_and_others_are_not(server: Server, repo: Path) -> None:
    login = access(repo, "login")
    with wire.Wire(source="127.0.0.9") as guesser, wire.Wire() as other:
        answers = [guesser.metadata(login.url, f"ptk_{number}_guess").status for number in range(30)]
        assert answers[:10] == [401] * 10
        assert answers[15:] == [429] * 15
        assert other.metadata(login.url, "ptk_guess").status == 401
        assert guesser.metadata(login.url, login.token).status == 200
