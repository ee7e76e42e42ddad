"""An app of a branch that tries to reach what is not its own. It answers /attack with what it got hold of.

Run as the app's code: it imports nothing of the project. The targets come as JSON in the query.
"""

from __future__ import annotations

import glob
import http.server
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def _reads(path: str) -> bool:
    return bool(Path(path).read_bytes()[:1])


def _lists(path: str) -> bool:
    return bool(os.listdir(path))


def _writes(path: str) -> bool:
    with open(path, "ab") as file:
        return file.write(b"x") == 1


def _makes(directory: str) -> bool:
    path = os.path.join(directory, "made-by-attacker")
    os.mkdir(path)
    return True


def _links(path: str) -> bool:
    os.symlink(path, "link")
    try:
        return _reads("link")
    finally:
        os.unlink("link")


def _hard_links(path: str) -> bool:
    os.link(path, "hard")
    return True


def _renames(path: str) -> bool:
    os.rename(path, path + ".moved")
    return True


def _connects(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return True


def _connects_by_v6(port: int) -> bool:
    with socket.create_connection(("::ffff:127.0.0.1", port), timeout=5):
        return True


def _connects_to_socket(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return True


def _listens() -> bool:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        return True


def _signals(pid: int) -> bool:
    os.kill(pid, 0)
    os.kill(pid, signal.SIGCONT)
    return True


def _environment(pid: int) -> bool:
    return bool(Path(f"/proc/{pid}/environ").read_bytes())


def _memory(pid: int) -> bool:
    with open(f"/proc/{pid}/mem", "rb") as file:
        return file.readable()


def _root_of(pid: int) -> bool:
    return bool(os.listdir(f"/proc/{pid}/root"))


def _by_program(path: str) -> bool:
    return subprocess.run(["cat", path], capture_output=True, check=True).stdout != b""


def _sqlite(path: str) -> bool:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return bool(database.execute("select count(*) from sqlite_master").fetchone())


def _globs(pattern: str) -> bool:
    return bool(glob.glob(pattern))


def _leaves_by_descriptor(path: str) -> bool:
    root = os.open("/", os.O_RDONLY)
    try:
        return os.read(os.open(path.lstrip("/"), os.O_RDONLY, dir_fd=root), 1) != b""
    finally:
        os.close(root)


def _mounts() -> bool:
    subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    return True


def _inherits() -> bool:
    """A descriptor of a file that is not the app's."""
    return any(
        "/router/" in os.readlink(f"/proc/self/fd/{fd}") or "registry" in os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{fd}")
    )


def _has_in_environment(text: str) -> bool:
    return any(text in value for value in os.environ.values())


def _finds_the_supervisor_of(mark: str) -> bool:
    """A process above or beside this one whose variables it can read."""
    return any(
        mark in Path(path).read_text(errors="replace") for path in glob.glob("/proc/[0-9]*/environ") if _is_other(path)
    )


def _is_other(path: str) -> bool:
    return path.split("/")[2] not in (str(os.getpid()), "self") and os.access(path, os.R_OK)


def attempts(target: dict[str, Any]) -> dict[str, Callable[[], bool]]:
    """Each way by its name; True, or no exception, is a success of the attacker."""
    home, pids = target["home"], target["pids"]
    found: dict[str, Callable[[], bool]] = {"listen on another port": _listens, "mount": _mounts, "inherit": _inherits}
    for name, path in target["files"].items():
        found[f"read {name}"] = partial(_reads, path)
        found[f"write {name}"] = partial(_writes, path)
    found["have the forge's token in the environment"] = partial(_has_in_environment, target["token"])
    found["read the forge's token of others"] = partial(_finds_the_supervisor_of, target["token"])
    first = next(iter(target["files"].values()))
    found["read through a link"] = partial(_links, first)
    found["read through a hard link"] = partial(_hard_links, first)
    found["rename"] = partial(_renames, first)
    found["read with a program"] = partial(_by_program, first)
    found["read by a descriptor of /"] = partial(_leaves_by_descriptor, first)
    found["open a database"] = partial(_sqlite, target["files"]["registry"])
    for name, path in target["directories"].items():
        found[f"list {name}"] = partial(_lists, path)
        found[f"make something in {name}"] = partial(_makes, path)
    found["find files of the home"] = partial(_globs, f"{home}/*")
    for name, port in target["ports"].items():
        found[f"connect to {name}"] = partial(_connects, port)
        found[f"connect to {name} by IPv6"] = partial(_connects_by_v6, port)
    for name, path in target["sockets"].items():
        found[f"connect to the socket {name}"] = partial(_connects_to_socket, path)
    for name, pid in pids.items():
        found[f"signal {name}"] = partial(_signals, pid)
        found[f"read the environment of {name}"] = partial(_environment, pid)
        found[f"read the memory of {name}"] = partial(_memory, pid)
        found[f"see the root of {name}"] = partial(_root_of, pid)
    return found


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        query = urllib.parse.urlsplit(self.path).query
        results = {}
        if query:
            for name, attempt in attempts(json.loads(urllib.parse.unquote(query))).items():
                try:
                    results[name] = bool(attempt())
                except Exception:
                    results[name] = False
        body = json.dumps({"pid": os.getpid(), "results": results}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    sys.stdout.flush()
    http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), _Handler).serve_forever()
