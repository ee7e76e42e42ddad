"""A server of a world, and who asks it: h2load, and a handler of its own kind that does nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.world import PROVISIONER, World, wait_until
from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.kv.codec import key
from provisioner.system import secret_key
from provisioner.system.home import Home

IDLE = os.path.join(os.path.dirname(__file__), "idle_server.py")


@dataclass(frozen=True, slots=True)
class Database:
    """How a client reaches one: the connect URL with the token that `exec` injects, and the file."""

    id: str
    path: str
    url: str
    token: str

    def environ(self, *, served: bool) -> dict[str, str]:
        """What `exec` sets for it."""
        if not served:
            return {"DENO_KV_DEFAULT_PATH": self.path}
        return {"DENO_KV_DEFAULT_PATH": self.url, "DENO_KV_ACCESS_TOKEN": self.token}

    def headers(self) -> dict[str, str]:
        """What a request of the data path carries."""
        request = urllib.request.Request(
            self.url, json.dumps({"supportedVersions": [3]}).encode(), {"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request) as answer:
            token = json.load(answer)["token"]
        return {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/x-protobuf",
            "x-denokv-database-id": self.id,
            "x-denokv-version": "3",
        }

    def endpoint(self, name: str) -> str:
        return self.url.removesuffix("connect") + name


class Served:
    """A running `provisioner serve`."""

    def __init__(self, here: World, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        self._here = here
        self._key = secret_key.secret(Home(here.home))

    def databases(self) -> list[Database]:
        """All that are connected, in the order of their branches."""
        timelines = json.loads(self._here.provisioner(self._here.path, "status", "--json"))
        found = [database for timeline in timelines for database in timeline["databases"]]
        return [
            Database(
                each["id"],
                each["path"],
                f"{self.url}/v2/databases/{each['id']}/connect",
                secret_key.injected(self._key, each["id"], 0),
            )
            for each in found
        ]

    def memory(self) -> float:
        """Resident, in MB."""
        with open(f"/proc/{self.pid}/status") as file:
            line = next(line for line in file if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6

    def files(self) -> int:
        """Open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def processor(self) -> float:
        """Seconds of processor time so far."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(here: World, *options: str) -> Iterator[Served]:
    """`provisioner serve` for the block."""
    announced = Home(here.home).server
    process = subprocess.Popen([PROVISIONER, "serve", "--port", "0", *options], cwd=here.path, env=here.environ)
    try:
        wait_until(lambda: os.path.exists(announced) or process.poll() is not None)
        with open(announced) as file:
            url = file.read().split()[2]
        yield Served(here, url, process.pid)
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def idle(body: bytes) -> Iterator[str]:
    """The same granian with a handler that reads what it is sent and answers `body`; its URL."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        process = subprocess.Popen([sys.executable, IDLE, file.name], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(30)


def point_read(*parts: str | int) -> bytes:
    """The message that asks for one entry."""
    point = key.point(key.encode(parts))
    wanted = pb.ReadRange(start=point.start, end=point.end, limit=1)
    return pb.SnapshotRead(ranges=[wanted]).SerializeToString()


def h2load(url: str, body: bytes, headers: dict[str, str], count: int, streams: int = 64) -> float:
    """Seconds for `count` requests over one connection with so many at a time, each of which has to succeed."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        lines: Sequence[str] = [f"-H{name}: {value}" for name, value in headers.items()]
        command = ["h2load", f"-n{count}", "-c1", f"-m{streams}", f"-d{file.name}", *lines, url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    succeeded, took = re.search(r"(\d+) succeeded", said), re.search(r"finished in ([\d.]+)(us|ms|s)", said)
    if succeeded is None or took is None or int(succeeded[1]) != count:
        raise RuntimeError(f"{url}: {said}")
    return float(took[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[took[2]]
