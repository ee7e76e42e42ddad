"""`python -m cluster`: a PostgreSQL cluster on this machine that keeps the quorum promise, for trying and for tests.

Three nodes with etcd, Patroni and PostgreSQL each, which run on until they are stopped. See docs/cluster.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from cluster.running import Cluster


def main() -> None:
    arguments = _parser().parse_args()
    if find_spec("patroni") is None:
        sys.exit("cluster: Patroni is not installed. Run: pip install 'timeline-provisioner[cluster]'")
    try:
        _run(arguments)
    except (OSError, LookupError, ValueError) as error:
        sys.exit(f"cluster: {error.args[-1] if error.args else error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("directory", type=Path, help="where the cluster's files are")
        return made

    start = command("start", "start a cluster, or what is down of it; print the URL that leads to it")
    start.add_argument("node", nargs="*", help="only these")
    start.add_argument("--nodes", type=int, default=3, help="how many a new cluster has (3)")
    start.add_argument(
        "--namespaces", action="store_true", help="give each node a network of its own (root): for 'partition'"
    )
    command("url", "print the URL that leads to it")
    status = command("status", "print the nodes")
    status.add_argument("--json", action="store_true")
    kill = command("kill", "kill -9 of all that runs on a node")
    kill.add_argument("node", help="its name, or 'leader'")
    kill.add_argument("--postgres", action="store_true", help="of its PostgreSQL alone")
    partition = command("partition", "cut a node off from the others")
    partition.add_argument("node", help="its name, or 'leader'")
    command("wait", "wait until one node leads and all others that run follow it")
    command("heal", "let all nodes reach each other again")
    command("stop", "stop every node; 'start' goes on")
    command("destroy", "kill every node, and delete its data")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "start":
        _start(arguments)
        return
    cluster = Cluster.of(arguments.directory)
    match arguments.command:
        case "url":
            print(cluster.layout.url())
        case "status":
            _status(cluster, as_json=arguments.json)
        case "kill":
            cluster.kill(_named(cluster, arguments.node), postgres_only=arguments.postgres)
        case "partition":
            cluster.partition(_named(cluster, arguments.node))
        case "wait":
            cluster.wait()
        case "heal":
            cluster.heal()
        case "stop":
            cluster.stop()
        case "destroy":
            cluster.destroy()


def _start(arguments: argparse.Namespace) -> None:
    try:
        cluster = Cluster.of(arguments.directory)
    except FileNotFoundError:
        cluster = Cluster.new(arguments.directory, nodes=arguments.nodes, namespaces=arguments.namespaces)
    cluster.start(arguments.node)
    print(cluster.layout.url())


def _named(cluster: Cluster, name: str) -> str:
    if name != "leader":
        return name
    if (found := cluster.leader()) is None:
        raise LookupError("no node leads now: wait a moment")
    return found


def _status(cluster: Cluster, *, as_json: bool) -> None:
    members = {member.name: member for member in cluster.members()}
    if as_json:
        found = {name: asdict(member) for name, member in members.items()}
        print(
            json.dumps(
                [
                    {"node": node.name, "up": cluster.runs(node), **found.get(node.name, {})}
                    for node in cluster.layout.nodes
                ]
            )
        )
        return
    for node in cluster.layout.nodes:
        member = members.get(node.name)
        said = f"{member.role}, {member.state}" if member else "unknown to the others"
        print(f"{node.name}  {node.host}:{node.postgres}  {'up' if cluster.runs(node) else 'down'}  {said}")


if __name__ == "__main__":
    main()
