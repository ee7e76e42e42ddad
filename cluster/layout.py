"""What a cluster consists of: nodes with their addresses and ports, and the passwords that they share."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "cluster.json"
ADMIN, REPLICATOR = "admin", "replicator"


@dataclass(frozen=True, slots=True)
class Node:
    """A data centre in small: an etcd (`peer` among each other, `client`), a Patroni (`rest`), and its PostgreSQL."""

    name: str
    host: str
    postgres: int
    rest: int
    client: int
    peer: int


@dataclass(frozen=True, slots=True)
class Layout:
    """`tag` is in the names of what the machine has one of; with `namespaces` each node has a network of its own."""

    directory: Path
    tag: str
    namespaces: bool
    nodes: tuple[Node, ...]
    admin_password: str
    replicator_password: str

    def of(self, node: Node) -> Path:
        return self.directory / node.name

    def node(self, name: str) -> Node:
        """Raises LookupError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LookupError(f"there is no node {name}; there are {', '.join(node.name for node in self.nodes)}")

    def url(self, database: str = "postgres") -> str:
        """Leads libpq to the node that can be written to, whichever that is."""
        where = ",".join(f"{node.host}:{node.postgres}" for node in self.nodes)
        return f"postgresql://{ADMIN}:{self.admin_password}@{where}/{database}?target_session_attrs=read-write"

    def url_of(self, node: Node, database: str = "postgres") -> str:
        return f"postgresql://{ADMIN}:{self.admin_password}@{node.host}:{node.postgres}/{database}"

    def save(self) -> None:
        path = self.directory / FILE
        written = {**asdict(self), "directory": None}
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(written, file, indent=2)


def new(directory: Path, nodes: tuple[Node, ...], tag: str, *, namespaces: bool) -> Layout:
    return Layout(directory, tag, namespaces, nodes, secrets.token_hex(12), secrets.token_hex(12))


def load(directory: Path) -> Layout | None:
    """None where no cluster was ever started."""
    path = directory / FILE
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    nodes = tuple(Node(**each) for each in found["nodes"])
    return Layout(**{**found, "directory": directory, "nodes": nodes})
