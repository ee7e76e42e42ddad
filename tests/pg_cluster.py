"""A cluster for tests, and clients that write to it and know what was acknowledged."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

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


class Writer(threading.Thread):
    """Writes one number after another, connecting anew when it has to, and goes on until it is told to stop.

    What it was told is written is `acknowledged`; of a write whose connection broke it does not know. `pauses`: how many
    seconds lay between two acknowledged writes, where that was more than one.
    """

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self.url, self.writer = url, name
        self.acknowledged: set[int] = set()
        self.pauses: list[float] = []
        self._told = threading.Event()

    def run(self) -> None:
        number, last = 0, time.monotonic()
        while not self._told.is_set():
            try:
                with psycopg.connect(self.url, autocommit=True, connect_timeout=2, tcp_user_timeout=5000) as session:
                    while not self._told.is_set():
                        number += 1
                        session.execute("insert into written values (%s, %s)", (self.writer, number))
                        self.acknowledged.add(number)
                        now = time.monotonic()
                        if now - last > 1:
                            self.pauses.append(now - last)
                        last = now
            except psycopg.Error:
                self._told.wait(0.05)

    def stop(self) -> None:
        self._told.set()
        self.join(60)
        assert not self.is_alive()


@contextmanager
def writers(cluster: Cluster, count: int) -> Iterator[list[Writer]]:
    """So many clients that write all the while; at the end each of their acknowledged writes is there, once."""
    with psycopg.connect(cluster.layout.url()) as session:
        session.execute("create table if not exists written (writer text, number int)")
        session.execute("truncate written")
    started = [Writer(cluster.layout.url(), f"writer {number}") for number in range(count)]
    for writer in started:
        writer.start()
    try:
        yield started
    finally:
        for writer in started:
            writer.stop()
    with psycopg.connect(cluster.layout.url(), connect_timeout=5) as session:
        for writer in started:
            rows = session.execute("select number from written where writer = %s", (writer.writer,)).fetchall()
            found = [row[0] for row in rows]
            assert len(found) == len(set(found))
            assert writer.acknowledged <= set(found), "an acknowledged write is lost"
