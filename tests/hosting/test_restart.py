"""`provisioner up` is restarted: the router runs on for the next one, and ends if none comes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from preview_world import up
from router_world import APP, DENO, connected, echoes, websocket
from support import free_port, ok, shop, until
from test_dev import dev

HOST = "login.shop.localhost"
MEGABYTES = 32


def answers(port: int) -> bool:
    with suppress(OSError), connected(port, HOST, "/left") as connection:
        connection.sendall(b"Connection: close\r\n\r\n")
        return connection.recv(100).startswith(b"HTTP/1.1 200")
    return False


def router(home: Path) -> int:
    return int((home / "router/caddy.pid").read_text())


def runs(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2].split()[0] not in ("Z", "X")
    return False


def test_a_download_and_a_websocket_survive_a_restart_and_no_router_is_left(tmp_path: Path, home: Path) -> None:
    repo, port = shop(tmp_path / "shop", "login"), free_port()
    ok(repo, "init")
    command = (str(DENO), "run", "-q", "--allow-net", "--allow-env", str(APP))
    with dev(repo, "--branch", "login", "--", *command) as server:
        server.until_said("shop--login")
        with up(home, port, "--keep-router", "1h") as first:
            until(lambda: answers(port))
            talk = websocket(port, HOST)
            download = connected(port, HOST, f"/download?megabytes={MEGABYTES}")
            download.sendall(b"Connection: close\r\n\r\n")
            got = len(download.recv(1 << 16))
            assert echoes(talk, b"before")
            pid = router(home)
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(60) == 0
            assert echoes(talk, b"between")
        with up(home, port, "--keep-router", "1s") as second:
            assert (router(home), runs(pid)) == (pid, True)
            assert echoes(talk, b"after")
            while piece := download.recv(1 << 20):
                got += len(piece)
            assert got > MEGABYTES << 20
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(60) == 0
        until(lambda: not runs(pid))  # no daemon has come
        with up(home, port, "--keep-router", "1h") as third:
            pid = router(home)
            third.process.send_signal(signal.SIGINT)
            third.process.wait(60)
            assert not runs(pid)
        assert not [host for host in os.listdir(home / "router/open") if host != HOST]
