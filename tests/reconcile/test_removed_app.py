"""An app that is removed leaves nothing live and loses nothing, whatever has become of its repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import files, git, got, ok, put, repository


@pytest.mark.parametrize("gone", [False, True])
def test_it_is_removed_and_comes_back_with_its_data(tmp_path: Path, home: Path, gone: bool) -> None:
    shop = repository(tmp_path / "shop", "login", "just-deleted")
    ok(shop, "init", "--no-hooks", "--grace", "1h")
    for branch, file in files(shop).items():
        put(file, branch)
    git(shop, "branch", "-D", "just-deleted")
    shutil.copytree(shop, tmp_path / "copy", symlinks=True)
    if gone:
        shutil.rmtree(shop)
    ok(tmp_path, "app", "remove", "shop", "--yes")
    assert list((home / "instances/default/live").iterdir()) == []
    assert len(list((home / "instances/default/archive").iterdir())) == 3
    assert json.loads(ok(tmp_path, "app", "list", "--json")) == []
    if gone:
        shutil.copytree(tmp_path / "copy", shop, symlinks=True)
    git(shop, "branch", "just-deleted")
    ok(shop, "init", "--no-hooks")
    assert {branch: got(file) for branch, file in files(shop).items()} == {
        name: name for name in ("main", "login", "just-deleted")
    }
