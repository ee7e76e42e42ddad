"""The same operations by real Deno on a file of its own and through the server: results, words, cursors and stored bytes agree.

The sequences of test_kv_differential.py without queues, which Deno does not offer over the network. 60 of them; 5,000 with
KV_NIGHTLY in the environment.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from connect_compare import run, without_queues
from connect_world import access, serving
from hypothesis import given
from kv_files import integrity, rows
from kv_oracle import Oracle
from kv_sequences import searching, sequences
from support import files, shop

SEQUENCES = 5_000 if "KV_NIGHTLY" in os.environ else 30


@pytest.fixture
def our_file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Where the server has a database, and its file."""
    repository = shop(tmp_path / "shop", "login")
    with serving(home):
        login = access(repository, "login")
        monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", login.token)
        yield login.url, files(repository)["login"]


@pytest.mark.timeout(900 + 2 * SEQUENCES)
def test_sequences_of_operations_do_the_same_on_a_file_and_through_the_server(our_file: tuple[str, Path]) -> None:
    started = time.monotonic()
    count = 0
    url, file = our_file
    with Oracle() as oracle, Oracle() as remote:
        remote.send("open", path=url)

        @searching(SEQUENCES)
        @given(sequences())
        def agree(commands: list[dict[str, Any]]) -> None:
            nonlocal count
            count += 1
            with tempfile.TemporaryDirectory() as directory:
                run(oracle, remote, Path(directory) / "theirs.sqlite3", partial(rows, file), without_queues(commands))

        agree()
    assert integrity(file) == "ok"
    print(f"{count} sequences agreed in {time.monotonic() - started:.0f} s")
