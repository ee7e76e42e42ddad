"""What etcd and Patroni are told. The promise is in `_CLUSTER`: a write waits for any one standby, and for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.layout import ADMIN, REPLICATOR, Layout, Node

# The shortest times that Patroni allows: a node that vanishes with everything on it is replaced after `ttl` seconds.
_CLUSTER = {
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    "maximum_lag_on_failover": 1 << 20,
    "synchronous_mode": "quorum",
    "synchronous_mode_strict": True,
    "synchronous_node_count": 1,
    "primary_start_timeout": 0,
}
_PARAMETERS = {
    "max_connections": 200,
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "wal_sender_timeout": "10s",
    "wal_receiver_timeout": "10s",
    "wal_receiver_status_interval": "1s",
    "tcp_user_timeout": "10s",
    "shared_buffers": "32MB",
    "unix_socket_directories": "",
    "wal_log_hints": "on",
}


def etcd(layout: Layout, node: Node) -> list[str]:
    """The words of etcd's command."""
    peers = ",".join(f"{each.name}={_http(each.host, each.peer)}" for each in layout.nodes)
    words = {
        "name": node.name,
        "data-dir": str(layout.of(node) / "etcd"),
        "listen-peer-urls": _http(node.host, node.peer),
        "initial-advertise-peer-urls": _http(node.host, node.peer),
        "listen-client-urls": _http(node.host, node.client),
        "advertise-client-urls": _http(node.host, node.client),
        "initial-cluster": peers,
        "initial-cluster-state": "new",
        "initial-cluster-token": layout.tag,
        "heartbeat-interval": "200",
        "election-timeout": "2000",
        "log-level": "warn",
    }
    return [f"--{word}={value}" for word, value in words.items()]


def patroni(layout: Layout, node: Node, binaries: Path) -> dict[str, Any]:
    """The document that Patroni reads: YAML, of which JSON is a part."""
    there = layout.of(node)
    superuser = {"username": ADMIN, "password": layout.admin_password}
    subnet = f"{node.host.rpartition('.')[0]}.0/24"
    return {
        "scope": layout.tag,
        "name": node.name,
        "restapi": {
            "listen": f"{node.host}:{node.rest}",
            "connect_address": f"{node.host}:{node.rest}",
            "authentication": superuser,
        },
        "etcd3": {"hosts": [f"{each.host}:{each.client}" for each in layout.nodes]},
        "bootstrap": {
            "dcs": {
                **_CLUSTER,
                "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": _PARAMETERS},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
        },
        "postgresql": {
            "listen": f"{node.host}:{node.postgres}",
            "connect_address": f"{node.host}:{node.postgres}",
            "data_dir": str(there / "data"),
            "bin_dir": str(binaries),
            "pgpass": str(there / "pgpass"),
            "authentication": {
                "superuser": superuser,
                "replication": {"username": REPLICATOR, "password": layout.replicator_password},
            },
            "pg_hba": [f"host {what} all {subnet} scram-sha-256" for what in ("all", "replication")],
            "basebackup": [{"checkpoint": "fast"}],
            "pg_ctl_timeout": 15,  # a standby whose leader dies while it starts is told of the next one only then
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
        },
        "watchdog": {"mode": "off"},
    }


def _http(host: str, port: int) -> str:
    return f"http://{host}:{port}"
