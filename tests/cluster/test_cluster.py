"""What a cluster promises, and its document. What becomes of it when nodes die: test_cluster_fire.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from paths import ROOT
from pg_cluster import cluster_running
from support import until

from cluster.running import Cluster
from provisioner.engines.postgres.quorum.quorum_status import QuorumStatus, quorum_status
from provisioner.engines.postgres.quorum.replication_status import acknowledged, replication

isolable = pytest.mark.skipif(os.geteuid() != 0, reason="nodes are cut off from each other by root alone")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_running() as running:
        yield running


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> None:
    cluster.heal()
    cluster.start()


def _promised(cluster: Cluster, wanted: int = 2) -> QuorumStatus:
    with psycopg.connect(cluster.layout.url(), autocommit=True, connect_timeout=2) as session:
        return quorum_status(replication(session), wanted)


def _leader(cluster: Cluster) -> str:
    until(cluster.leader, 60)
    return cluster.leader() or ""


def test_it_keeps_what_it_promises(cluster: Cluster) -> None:
    until(lambda: _promised(cluster) == QuorumStatus(2, 2))
    made = _promised(cluster, 3)
    assert "a write waits for 1 standby and so is stored on 2 nodes, and 3 are wanted" in made.broken_text
    (one, *_) = [node for node in cluster.layout.nodes if node.name != _leader(cluster)]
    with psycopg.connect(cluster.layout.url_of(one), autocommit=True) as session:
        assert "this node is a standby" in quorum_status(replication(session), 2).broken_text


@isolable
def test_a_primary_that_reaches_no_standby_acknowledges_nothing(cluster: Cluster) -> None:
    (leader,) = [node for node in cluster.layout.nodes if node.name == _leader(cluster)]
    with psycopg.connect(cluster.layout.url_of(leader), autocommit=True) as session:
        assert acknowledged(session, 20) is not None
        cluster.partition(leader.name)
        assert acknowledged(session, 0.5) is None


def test_the_commands_of_its_document_run(cluster: Cluster) -> None:
    """As a user types them; the cluster that they start is the one that runs already."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert len(lines) > 5
    where = cluster.layout.directory.parent
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", "set -eux\n" + "\n".join(lines)], cwd=where, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
