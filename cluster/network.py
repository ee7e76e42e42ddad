"""Addresses and ports of nodes, and cutting one off.

Nodes on loopback cannot be cut off from each other: for that each needs a network namespace of its own, which needs root.
A node is cut off by having its packets go to a network card that there is not: they vanish, as in a network that is broken,
and connections hang rather than being refused. Whoever is on this machine itself still reaches every node.
"""

from __future__ import annotations

import random
import socket
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from cluster.layout import Layout, Node

_NOWHERE = "02:00:00:00:00:fe"
# Below those that the system gives to whoever connects somewhere: a node that is down keeps its ports.
_PORTS = range(20000, 32000)
_TESTING = "198.18"  # RFC 2544: for testing networks, so nobody is there


def on_loopback(names: Iterable[str]) -> tuple[Node, ...]:
    """Nodes with four free ports each."""
    with ExitStack() as held:
        ports = iter(lambda: _free_port(held), None)
        return tuple(Node(name, "127.0.0.1", next(ports), next(ports), next(ports), next(ports)) for name in names)


def in_namespaces(names: Iterable[str]) -> tuple[Node, ...]:
    """Nodes with an address each, in a network that is free."""
    taken = _ip("-o", "-4", "address").stdout + _ip("route").stdout
    free = [number for number in range(256) if f"{_TESTING}.{number}." not in taken]
    network = f"{_TESTING}.{random.choice(free)}"
    return tuple(Node(name, f"{network}.{at}", 5432, 8008, 2379, 2380) for at, name in enumerate(names, 1))


def _free_port(held: ExitStack) -> int:
    for port in random.sample(_PORTS, 1000):
        probe = held.enter_context(socket.socket())
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def namespace(layout: Layout, node: Node) -> str:
    return f"pv{layout.tag}-{node.name}"


def make(layout: Layout) -> None:
    """The network of a cluster; what there is of it stays."""
    if not layout.namespaces:
        return
    there = set(_ip("-o", "link").stdout.replace("@", ":").replace(" ", "").split(":"))
    if (bridge := _bridge(layout)) not in there:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", f"{layout.nodes[0].host.rpartition('.')[0]}.254/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
    for number, node in enumerate(layout.nodes, 1):
        inside, cable = namespace(layout, node), f"{bridge}-{number}"
        if cable in there:
            continue
        _ip("netns", "add", inside)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", inside)
        _ip("link", "set", cable, "master", bridge, "up")
        _ip("-n", inside, "address", "add", f"{node.host}/24", "dev", "eth0")
        _ip("-n", inside, "link", "set", "lo", "up")
        _ip("-n", inside, "link", "set", "eth0", "up")


def remove(layout: Layout) -> None:
    if not layout.namespaces:
        return
    for node in layout.nodes:
        _ip("netns", "delete", namespace(layout, node), check=False)
    _ip("link", "delete", _bridge(layout), check=False)


def inside(layout: Layout, node: Node) -> list[str]:
    """What a command begins with that is to run on the node."""
    return ["nsenter", f"--net=/run/netns/{namespace(layout, node)}"] if layout.namespaces else []


def cut(layout: Layout, node: Node) -> None:
    """Nothing goes from the node to the others any more, nor from them to it. Raises ValueError on loopback."""
    if not layout.namespaces:
        raise ValueError("nodes on loopback cannot be cut off: start the cluster as root, with --namespaces")
    for here, there in _pairs(layout, node):
        words = ("neighbour", "replace", there.host, "lladdr", _NOWHERE, "dev", "eth0", "nud", "permanent")
        _ip("-n", namespace(layout, here), *words)


def heal(layout: Layout, node: Node) -> None:
    for here, there in _pairs(layout, node) if layout.namespaces else []:
        _ip("-n", namespace(layout, here), "neighbour", "delete", there.host, "dev", "eth0", check=False)


def _pairs(layout: Layout, node: Node) -> list[tuple[Node, Node]]:
    others = [other for other in layout.nodes if other != node]
    return [pair for other in others for pair in ((node, other), (other, node))]


def _bridge(layout: Layout) -> str:
    return f"pv{layout.tag}"


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done
