"""Another process, which writes to the database that it is told: `python kv_writer.py` reads paths from its input."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from provisioner.kv.codec.key import encode
from provisioner.kv.codec.value import encode as value
from provisioner.kv.model import AtomicWrite, Mutation, MutationKind
from provisioner.kv.stores.sqlite.store import SqliteStore


class Writer:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def write(self, path: Path, *, wait: bool = True) -> float:
        """Write to this database; when it was acknowledged, by `time.perf_counter`."""
        assert self._process.stdin is not None
        print(path, file=self._process.stdin, flush=True)
        return self.wait() if wait else 0.0

    def wait(self) -> float:
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    stores: dict[str, SqliteStore] = {}
    for number, line in enumerate(sys.stdin):
        path = line.rstrip("\n")
        if path not in stores:
            stores[path] = SqliteStore(path)
        stores[path].write([AtomicWrite((), (Mutation(MutationKind.SET, encode(("key",)), *value(number)),), ())])
        print(time.perf_counter(), flush=True)


if __name__ == "__main__":
    main()
