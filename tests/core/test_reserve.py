"""The reserve: space kept back in the home for saying that the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

from support import ok, repository

from provisioner.registry.home import disk_reserve
from provisioner.registry.home.disk_reserve import Reserve
from provisioner.system.home import Home


def test_a_reserve_is_kept_until_it_is_given_up_and_then_kept_again(home: Path) -> None:
    home.mkdir()
    kept = Reserve(Home(str(home)))
    kept.keep()
    assert (home / "reserve").stat().st_size == disk_reserve.RESERVE_BYTES
    assert not kept.make_room()  # there is room without it
    assert (home / "reserve").exists()
    assert kept.spend()
    assert os.listdir(home) == []
    assert not kept.spend()
    kept.keep()
    assert os.listdir(home) == ["reserve"]


def test_a_home_that_is_not_there_has_no_reserve_and_that_is_no_error(home: Path) -> None:
    kept = Reserve(Home(str(home)))
    kept.keep()
    assert kept.short()
    assert not kept.make_room()


def test_nobody_else_can_read_what_lies_in_the_home(tmp_path: Path, home: Path) -> None:
    ok(repository(tmp_path / "shop"), "init")
    files = [path for path in home.rglob("*") if path.is_file()]
    assert home / "reserve" in files
    assert [str(path) for path in files if path.stat().st_mode & 0o077] == []
