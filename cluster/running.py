"""A cluster that runs: started, looked at, hurt and mended."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import configuration, layout, network, processes
from cluster.layout import Layout, Node

_ETCD_PATHS = ("/usr/sbin", "/usr/local/bin", "/opt/etcd")


@dataclass(frozen=True, slots=True)
class Member:
    """What Patroni says of a node: `role` is ``leader``, ``quorum_standby`` or ``replica``, `state` ``streaming`` …"""

    name: str
    role: str
    state: str
    lag: int | str | None


class Cluster:
    """Programs of nodes run on without whoever started them; what there is to know of them is in the directory."""

    def __init__(self, here: Layout) -> None:
        self.layout = here

    @classmethod
    def new(cls, directory: Path, *, nodes: int = 3, namespaces: bool = False) -> Cluster:
        """Raises FileExistsError where there is one."""
        directory = directory.resolve()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if layout.load(directory) is not None:
            raise FileExistsError(f"there is a cluster in {directory}")
        names = [f"node{number}" for number in range(1, nodes + 1)]
        made = network.in_namespaces(names) if namespaces else network.on_loopback(names)
        here = layout.new(directory, made, secrets.token_hex(3), namespaces=namespaces)
        here.save()
        return cls(here)

    @classmethod
    def of(cls, directory: Path) -> Cluster:
        """The cluster of a directory. Raises FileNotFoundError where none was started."""
        here = layout.load(directory.resolve())
        if here is None:
            raise FileNotFoundError(f"there is no cluster in {directory}")
        return cls(here)

    def start(self, names: Sequence[str] = (), seconds: float = 120) -> None:
        """Start nodes that are down, by default all, and wait until whoever runs keeps the promise."""
        network.make(self.layout)
        nodes = [self.layout.node(name) for name in names] or list(self.layout.nodes)
        for node in nodes:
            self._start_etcd(node)
        processes.wait(lambda: any(map(self._etcd_is_well, self.layout.nodes)), seconds, "etcd has a leader")
        for node in nodes:
            self._start_patroni(node)
        self.wait(seconds)

    def wait(self, seconds: float = 120) -> None:
        """Until one node leads, and all others that run follow it and are waited for."""
        processes.wait(self.is_whole, seconds, f"the cluster is whole (see {self.layout.directory}/*/*.log)")

    def is_whole(self) -> bool:
        up = {node.name for node in self.layout.nodes if self.runs(node)}
        members = {member.name: member for member in self.members()}
        leaders = [name for name in up if name in members and members[name].role == "leader"]
        return len(leaders) == 1 and all(
            name in members and (members[name].role, members[name].state) == ("quorum_standby", "streaming")
            for name in up - set(leaders)
        )

    def members(self) -> list[Member]:
        """What the nodes say of each other, those that are of one mind about who leads; nothing where none answers."""
        answers = [self._get(node, node.rest, "/cluster") for node in self.layout.nodes]
        told = [[_member(each) for each in answer.get("members", [])] for answer in answers if answer is not None]
        leaders = Counter(member.name for members in told for member in members if member.role == "leader")
        return max(
            told, key=lambda members: sum(leaders[each.name] for each in members if each.role == "leader"), default=[]
        )

    def leader(self) -> str | None:
        """The name of the node that leads, and knows it: None while there is none."""
        for node in self.layout.nodes:
            if self._get(node, node.rest, "/primary") is not None:
                return node.name
        return None

    def runs(self, node: Node) -> bool:
        return processes.running(self.layout.of(node), "patroni") is not None

    def kill(self, name: str, *, postgres_only: bool = False) -> None:
        """kill -9 of all that runs on a node, or of its PostgreSQL alone."""
        there = self.layout.of(self.layout.node(name))
        programs = [] if postgres_only else [processes.running(there, each) for each in ("patroni", "etcd")]
        for pid in (*programs, processes.postmaster(there / "data")):
            if pid is not None:
                processes.kill(pid)

    def partition(self, name: str) -> None:
        """Cut a node off from the others. Raises ValueError for nodes on loopback."""
        network.cut(self.layout, self.layout.node(name))

    def heal(self) -> None:
        for node in self.layout.nodes:
            network.heal(self.layout, node)

    def stop(self) -> None:
        """Stop every node in order, the one that leads last; nothing is lost, and `start` goes on."""
        self.heal()
        leader = self.leader()
        patronis = {node.name: processes.running(self.layout.of(node), "patroni") for node in self.layout.nodes}
        processes.end([pid for name, pid in patronis.items() if pid is not None and name != leader], 60)
        processes.end([pid for name, pid in patronis.items() if pid is not None and name == leader], 60)
        etcds = [processes.running(self.layout.of(node), "etcd") for node in self.layout.nodes]
        processes.end([pid for pid in etcds if pid is not None], 20)
        for node in self.layout.nodes:
            self.kill(node.name)
        network.remove(self.layout)

    def destroy(self) -> None:
        """Kill every node and delete what it held."""
        for node in self.layout.nodes:
            self.kill(node.name)
        network.remove(self.layout)
        shutil.rmtree(self.layout.directory)

    def _start_etcd(self, node: Node) -> None:
        there = self.layout.of(node)
        there.mkdir(mode=0o700, exist_ok=True)
        if processes.running(there, "etcd") is None:
            command = [program("etcd", _ETCD_PATHS), *configuration.etcd(self.layout, node)]
            processes.start([*network.inside(self.layout, node), *command], there, "etcd")

    def _start_patroni(self, node: Node) -> None:
        there = self.layout.of(node)
        if self.runs(node):
            return
        path = there / "patroni.json"
        path.touch(0o600)
        path.write_text(json.dumps(configuration.patroni(self.layout, node, binaries()), indent=2))
        prefix = [*network.inside(self.layout, node), *processes.not_as_root(self.layout.directory)]
        processes.start([*prefix, sys.executable, "-m", "patroni", str(path)], there, "patroni")

    def _etcd_is_well(self, node: Node) -> bool:
        found = self._get(node, node.client, "/health")
        return found is not None and found.get("health") == "true"

    def _get(self, node: Node, port: int, path: str) -> dict[str, Any] | None:
        """The document at an address; None where nobody answers, or says no."""
        url = f"http://{node.host}:{port}{path}"
        with suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=2) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
        return None


def _member(said: Mapping[str, Any]) -> Member:
    return Member(said["name"], said["role"], said["state"], said.get("lag"))


def program(name: str, places: Sequence[str]) -> str:
    """Raises FileNotFoundError where it is not installed."""
    found = shutil.which(name) or next((str(path) for place in places if (path := Path(place) / name).exists()), None)
    if found is None:
        raise FileNotFoundError(f"there is no {name} here. Install it (Debian: etcd-server)")
    return found


def binaries() -> Path:
    """Where the newest PostgreSQL server is. Raises FileNotFoundError."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if (other := shutil.which("postgres")) is not None:
        return Path(other).parent
    raise FileNotFoundError("there is no PostgreSQL server here. Install it (Debian: postgresql)")
