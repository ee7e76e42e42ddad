"""`provisioner dev` and `open`: in each worktree its branch's databases, a port and a URL, as long as the command runs."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from router_world import World
from support import DENO, daemon, database_of, free_port, git, ok, provisioner, shop, until

from provisioner.hosting.dev_servers import DevServers
from provisioner.hosting.routes import Routes
from provisioner.system.home import Home
from provisioner.system.router_address import RouterAddress, record

SERVER = """
import http.server, os, sys, signal
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = " ".join([os.environ["DENO_TIMELINE"], os.environ["PROVISIONER_URL"], os.getcwd()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login", "cart")


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "server.py").write_text(SERVER)
    return str(tmp_path / "server.py")


def worktree(repo: Path, branch: str) -> Path:
    path = repo.parent / f"worktree-{branch}"
    git(repo, "worktree", "add", "-q", str(path), branch)
    return path


class Dev:
    """A running `provisioner dev`, and what it has printed."""

    def __init__(self, cwd: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            ["provisioner", "dev", *words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._read = b""

    @property
    def printed(self) -> str:
        assert self.process.stdout is not None
        self._read += self.process.stdout.read() or b""
        return self._read.decode()

    def until_said(self, text: str) -> str:
        until(lambda: text in self.printed or self.process.poll() is not None)
        assert text in self.printed, self.printed
        return self.printed

    @property
    def url(self) -> str:
        until(lambda: "http://127" in self.printed or self.process.poll() is not None)
        return next(word for word in self.printed.split() if word.startswith("http://127"))

    def get(self) -> str:
        return get(self.url)


def get(url: str, host: str = "") -> str:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        read: bytes = answer.read()
    return read.decode()


@contextmanager
def dev(cwd: Path, *words: str) -> Iterator[Dev]:
    running = Dev(cwd, *words)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait(60)
        assert running.process.stdout is not None
        running.process.stdout.close()


def python(script: str) -> tuple[str, ...]:
    return "--", sys.executable, script


def test_worktrees_run_side_by_side_each_with_its_databases_port_and_url(repo: Path, home: Path, script: str) -> None:
    with ExitStack() as stack:
        places = [repo, worktree(repo, "login"), worktree(repo, "cart")]
        running = [stack.enter_context(dev(place, *python(script))) for place in places]
        answers = [each.get().split(" ") for each in running]
        assert [answer[0] for answer in answers] == ["production", "git-branch/login", "git-branch/cart"]
        assert [Path(answer[2]) for answer in answers] == places
        assert len({each.url for each in running}) == 3
        hosts = ["shop.localhost", "login.shop.localhost", "cart.shop.localhost"]
        ports = [int(each.url.rpartition(":")[2]) for each in running]
        assert Routes(Home(str(home))).all() == dict(zip(hosts, ports, strict=True))
        name = database_of(repo, "git-branch/login")["name"]
        assert f"{running[1].url}  {name}" in running[1].printed
        assert "http://login.shop.localhost:4580, run: provisioner up" in running[1].printed
        assert [ok(place, "open", "--print").strip() for place in places] == [each.url for each in running]


def test_a_second_one_of_a_branch_names_the_first_and_takes_a_port_that_is_given(
    repo: Path, home: Path, script: str
) -> None:
    with dev(repo, "--branch", "login", *python(script)) as first:
        first_port = int(first.url.rpartition(":")[2])
        refused = provisioner(repo, "dev", "--branch", "login", "--", "true")
        assert refused.returncode == 1, refused
        assert f"process {first.process.pid} in {repo} on port {first_port}" in refused.stderr
        port = free_port()
        with dev(repo, "--branch", "login", "--port", str(port), *python(script)) as second:
            assert second.url == f"http://127.0.0.1:{port}"
            assert Routes(Home(str(home))).all() == {"login.shop.localhost": first_port}
            taken = provisioner(repo, "dev", "--branch", "cart", "--port", str(port), "--", "true")
            assert (taken.returncode, f"port {port} is in use" in taken.stderr) == (1, True)
        assert Routes(Home(str(home))).all() == {"login.shop.localhost": first_port}
    assert provisioner(repo, "dev", "--branch", "login", "--", "true").returncode == 0


def test_a_branch_keeps_its_port(repo: Path) -> None:
    ports = {ok(repo, "dev", "--branch", "login", "--", "printenv", "PORT").strip() for _ in range(3)}
    assert len(ports) == 1
    assert ok(repo, "dev", "--branch", "cart", "--", "printenv", "PORT").strip() not in ports


def test_the_same_branch_in_another_home_has_another_port(repo: Path, tmp_path: Path) -> None:
    first = ok(repo, "dev", "--branch", "login", "--", "printenv", "PORT").strip()
    other = {"PROVISIONER_HOME": str(tmp_path / "other-home")}
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(repo), str(copy))
    git(copy, "branch", "login")
    ok(copy, "init", "--no-hooks", "--name", "shop", "--production-branch", "main", add=other)
    assert ok(copy, "dev", "--branch", "login", "--", "printenv", "PORT", add=other).strip() != first


def test_the_command_gets_the_variables_and_its_words_the_port(repo: Path) -> None:
    name = "import os; print(*[os.environ[n] for n in ('PORT', 'HOST', 'DENO_SERVE_ADDRESS', 'PROVISIONER_URL')])"
    shown = ok(repo, "dev", "--branch", "login", "--", sys.executable, "-c", name)
    port = shown.split()[0]
    assert shown.split() == [port, "127.0.0.1", f"tcp:127.0.0.1:{port}", f"http://127.0.0.1:{port}"]
    assert ok(repo, "dev", "--branch", "login", "--", "echo", "--at={port}:{port}") == f"--at={port}:{port}\n"


@pytest.mark.parametrize("code", [0, 1, 7])
def test_it_ends_with_the_code_of_the_command_and_leaves_no_route(repo: Path, home: Path, code: int) -> None:
    ended = provisioner(repo, "dev", "--", "sh", "-c", f"exit {code}")
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")
    assert Routes(Home(str(home))).all() == {}
    assert os.listdir(home / "dev") == []


def test_what_cannot_be_run_ends_as_in_a_shell(repo: Path, tmp_path: Path) -> None:
    assert provisioner(repo, "dev", "--", "no-such-program").returncode == 127
    assert provisioner(repo, "dev", "--", str(tmp_path)).returncode == 126
    none = provisioner(tmp_path, "dev", "--", "true")
    assert (none.returncode, none.stdout) == (3, "")
    assert provisioner(repo, "dev", "--nonsense", "--", "true").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_handed_on_and_ends_it_as_it_ended_the_command(
    repo: Path, home: Path, script: str, number: signal.Signals
) -> None:
    with dev(repo, *python(script)) as running:
        port = int(running.url.rpartition(":")[2])
        os.kill(running.process.pid, number)
        expected = (
            {-number, 1} if number is signal.SIGINT else {-number}
        )  # Python's own exit code for a KeyboardInterrupt
        assert running.process.wait(60) in expected
        assert not answers(port)
    assert Routes(Home(str(home))).all() == {}


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_what_a_killed_one_leaves_is_gone_with_the_next_look(repo: Path, home: Path, script: str) -> None:
    with dev(repo, "--branch", "login", *python(script)) as running:
        port = int(running.url.rpartition(":")[2])
        running.process.kill()
        running.process.wait(60)
        until(lambda: not answers(port))  # the command ends with it
        assert Routes(Home(str(home))).all() == {"login.shop.localhost": port}
        none = provisioner(repo, "open", "--branch", "login", "--print")
        assert (none.returncode, none.stdout) == (3, "")
        assert "no app runs for git-branch/login of shop" in none.stderr
        assert Routes(Home(str(home))).all() == {}
        assert DevServers(Home(str(home))).running() == []


def test_a_daemon_removes_the_route_of_a_killed_one(repo: Path, home: Path, script: str) -> None:
    with dev(repo, "--branch", "login", *python(script)) as running:
        assert running.get()
        running.process.kill()
        running.process.wait(60)
        with daemon(home):
            until(lambda: Routes(Home(str(home))).all() == {})


def test_the_url_leads_through_the_router_to_each_worktree(repo: Path, home: Path, script: str) -> None:
    world = World(home)
    record(world.home, RouterAddress(port=world.port))
    world.start()
    try:
        with dev(worktree(repo, "login"), *python(script)) as running, dev(repo, *python(script)) as other:
            url = f"http://login.shop.localhost:{world.port}"
            running.until_said(f"{url}  ")
            if not resolves("login.shop.localhost"):  # glibc without nss-myhostname
                running.until_said(f"curl --resolve login.shop.localhost:{world.port}:127.0.0.1 {url}")
            other.until_said(f"http://shop.localhost:{world.port}  ")
            assert ok(repo, "open", "login", "--print") == f"{url}\n"
            status, body = world.get("login.shop.localhost")
            assert (status, body.decode().split(" ")[:2]) == (200, ["git-branch/login", url])
            assert world.get("shop.localhost")[1].startswith(b"production ")
            running.process.terminate()
            running.process.wait(60)
            assert world.get("login.shop.localhost")[0] == 404
            assert world.get("shop.localhost")[0] == 200
    finally:
        world.stop()


def resolves(host: str) -> bool:
    with suppress(OSError):
        return bool(socket.getaddrinfo(host, None))
    return False


def test_a_route_that_has_been_given_to_another_stays_when_it_ends(repo: Path, home: Path, script: str) -> None:
    routes = Routes(Home(str(home)))
    with dev(repo, *python(script)) as running:
        assert running.get()
        routes.set("shop.localhost", 1, public=True)
        running.process.terminate()
        running.process.wait(60)
    assert routes.all() == {"shop.localhost": 1}


def test_a_switched_branch_is_said_and_the_databases_stay_those_of_the_old_one(repo: Path, script: str) -> None:
    with dev(repo, *python(script)) as running:
        assert running.get().startswith("production ")
        git(repo, "switch", "-q", "login")
        said = running.until_said("restart it")
        assert "the worktree is on branch login now. This server still has the databases of production" in said
        assert running.get().startswith("production ")
        git(repo, "switch", "-q", "--detach")
        running.until_said("the worktree is on no branch now")
        assert running.process.poll() is None


def test_a_command_that_listens_elsewhere_is_told_of_the_port(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(60)"
    with dev(repo, "--", sys.executable, "-c", slow) as running:
        running.until_said("--port {port}")


def test_deno_serve_gets_its_port_and_its_databases_without_options(repo: Path) -> None:
    login = worktree(repo, "login")
    (login / "main.ts").write_text(
        "const kv = await Deno.openKv();\n"
        "export default { async fetch() { await kv.atomic().sum(['n'], 1n).commit();\n"
        "  return new Response(`${Deno.env.get('DENO_TIMELINE')} ${(await kv.get(['n'])).value}`) } };\n"
    )
    with dev(login, "--", DENO, "serve", "--unstable-kv", "--allow-all", "main.ts") as running:
        assert running.get() == "git-branch/login 1"
        assert running.get() == "git-branch/login 2"


@contextmanager
def shell(cwd: Path) -> Iterator[tuple[int, Callable[[str], str]]]:
    """An interactive shell on a terminal: its descriptor, and a function that reads until it has printed something."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execve(
            "/bin/bash", ["bash", "--norc", "--noprofile", "-i"], {**os.environ, "PS1": "ready$ ", "TERM": "dumb"}
        )
    read = ""

    def until_printed(text: str) -> str:
        nonlocal read
        deadline = time.monotonic() + 60
        while text not in read:
            assert time.monotonic() < deadline, read
            if select.select([terminal], [], [], 0.1)[0]:
                read += os.read(terminal, 65536).decode(errors="replace")
        before, _, read = read.partition(text)
        return before

    try:
        yield terminal, until_printed
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(pid, 0)


COUNTING = """
import os, signal, sys, time
count = 0
def interrupted(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, interrupted)
print("star" + "ted", flush=True)
deadline = time.monotonic() + 60
while not count and time.monotonic() < deadline:
    time.sleep(0.01)
time.sleep(0.3)  # another one would be here by now
print(f"interrupted {count} times", sys.stdin.isatty(), flush=True)
sys.exit(40 + count)
"""


def test_ctrl_c_reaches_the_command_once_and_the_shell_gets_its_code(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    with shell(repo) as (terminal, until_printed):
        until_printed("ready$ ")
        os.write(terminal, f"provisioner dev -- {sys.executable} {tmp_path}/counting.py; echo code=$?\n".encode())
        until_printed("started")
        os.write(terminal, b"\x03")
        until_printed("interrupted 1 times True")
        until_printed("code=41")
        until_printed("ready$ ")


def test_ctrl_z_stops_it_as_one_job_and_fg_continues_it(repo: Path, home: Path, script: str) -> None:
    with shell(repo) as (terminal, until_printed):
        until_printed("ready$ ")
        os.write(terminal, f"provisioner dev -- {sys.executable} {script}\n".encode())
        until_printed("http://127.0.0.1:")
        (server,) = DevServers(Home(str(home))).running()
        until_printed("run: provisioner up")
        os.write(terminal, b"\x1a")
        until_printed("Stopped")
        until(lambda: stopped(server.pid))
        os.write(terminal, b"fg\n")
        until(lambda: not stopped(server.pid))
        assert get(f"http://127.0.0.1:{server.port}").startswith("production")
        os.write(terminal, b"\x03")
        until_printed("ready$ ")
        os.write(terminal, b"echo code=$?\n")
        until_printed("code=1")  # 130, or Python's 1
    assert Routes(Home(str(home))).all() == {}


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")


def test_open_starts_the_browser_with_the_url(repo: Path, script: str, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    with dev(repo, *python(script)) as running:
        url = running.url
        ok(repo, "open", add={"BROWSER": str(browser)})
        until((tmp_path / "opened").exists)
        until(lambda: (tmp_path / "opened").read_text() == f"{url}\n")
        assert json.loads(ok(repo, "open", "production", "--json")) == {"url": url}
