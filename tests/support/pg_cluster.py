"""A cluster for tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.running import Cluster


@contextmanager
def cluster_running() -> Iterator[Cluster]:
    """Three nodes, which are gone afterwards with all they held. As root each has a network of its own."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as directory:
        cluster = Cluster.new(Path(directory) / "trial", namespaces=os.geteuid() == 0)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.destroy()
