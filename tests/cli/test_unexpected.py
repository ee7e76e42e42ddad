"""What an error that no command expects is called: the system's refusal, damage of the registry, or a bug."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import shop

from provisioner.cli.unexpected import explained
from provisioner.core.errors import StorageFailed
from provisioner.system.home import Home


def raised(error: Exception) -> Exception:
    """With a traceback, which says where it was raised."""
    try:
        raise error
    except Exception as found:
        return found


def test_a_bug_is_called_one_and_says_where_it_is(home: Path) -> None:
    found = explained(raised(KeyError("slug")), Home(str(home)), {})
    assert "this is a bug in provisioner: KeyError: 'slug' (test_unexpected.py:" in str(found)
    assert "PROVISIONER_DEBUG=1" in (found.hint or "")


def test_its_traceback_is_printed_on_request(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explained(raised(KeyError("slug")), Home(str(home)), {"PROVISIONER_DEBUG": "1"})
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_what_the_system_refuses_is_named_with_its_file(home: Path) -> None:
    found = explained(
        raised(PermissionError(errno.EACCES, os.strerror(errno.EACCES), b"/srv/\xff")), Home(str(home)), {}
    )
    assert isinstance(found, StorageFailed)
    assert "Permission denied: /srv/\udcff" in str(found)


@pytest.mark.parametrize("damage", ["missing rows", "no database"])
def test_any_error_beside_a_damaged_registry_is_that_damage(tmp_path: Path, home: Path, damage: str) -> None:
    shop(tmp_path / "shop", "login")
    if damage == "no database":
        (home / "registry.db-wal").unlink(missing_ok=True)
        (home / "registry.db").write_bytes(b"x" * 8192)
    else:
        with closing(sqlite3.connect(home / "registry.db")) as registry, registry:
            registry.execute("pragma foreign_keys = off")
            registry.execute("delete from app")
    found = explained(raised(KeyError("slug")), Home(str(home)), {})
    assert "a bug" not in str(found)
    assert {"missing rows": "rows refer to missing rows", "no database": "not a database"}[damage] in str(found)
