"""What a power cut can leave behind of a database that was never connected is removed; nothing else is."""

from __future__ import annotations

import uuid
from pathlib import Path

from support import daemon, files, ok, put, repository

from provisioner.kv.stores.sqlite.schema import empty_file


def _left(location: Path, stage: str, data: bytes | None) -> Path:
    directory = location / stage / str(uuid.uuid4())
    directory.mkdir()
    if data is not None:
        (directory / "kv.sqlite3").write_bytes(data)
    return directory


def test_a_daemon_removes_empty_databases_without_a_row_and_keeps_whatever_holds_anything(
    tmp_path: Path, home: Path
) -> None:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "init")
    before = files(repo)
    location = home / "instances" / "default"
    empty = [
        _left(location, "live", empty_file()),
        _left(location, "new/0", empty_file()[:5000]),
        _left(location, "new/1", None),
        _left(location, "archive", empty_file()),
    ]
    written = _left(location, "live", empty_file())
    put(written / "kv.sqlite3", "somebody's")
    beside = _left(location, "live", empty_file())
    (beside / "kv.sqlite3-wal").write_bytes(b"not yet in the file")
    with daemon(home) as running:
        assert running.stop() == 0
    assert [path for path in empty if path.exists()] == []
    assert written.is_dir()
    assert beside.is_dir()
    assert str(written) in running.log.read_text()
    assert files(repo) == before
    assert all(path.exists() for path in before.values())
