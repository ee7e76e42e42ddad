"""What `reconcile --dry-run` says is what `reconcile` does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from support import files, git, ok, provisioner, repository, status


def test_a_lost_file_is_seen_by_both(tmp_path: Path, home: Path) -> None:
    shop = repository(tmp_path / "shop", "login")
    ok(shop, "init", "--no-hooks")
    assert ok(shop, "reconcile", "--dry-run") == "Nothing to do\n"
    lost = files(shop)["login"].parent
    shutil.move(lost, tmp_path / "aside")

    (action,) = json.loads(ok(shop, "reconcile", "--dry-run", "--json"))
    assert (action["action"], action["timeline"]) == ("ensure", "git-branch/login")
    assert action["error"] == "cannot be read: No such file or directory"
    said = ok(shop, "reconcile", "--dry-run")
    assert said == "shop: ensure git-branch/login (retry: cannot be read: No such file or directory)\n"
    assert {row["status"] for row in status(shop)} == {"connected"}  # a dry run writes nothing

    done = provisioner(shop, "reconcile")
    assert done.returncode == 1
    assert "its data is missing" in done.stderr
    shutil.move(tmp_path / "aside", lost)
    assert "ensure git-branch/login" in ok(shop, "reconcile", "--dry-run")
    ok(shop, "reconcile")
    assert ok(shop, "reconcile", "--dry-run") == "Nothing to do\n"


def test_what_is_new_or_gone_is_seen_by_both(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop", "login")
    ok(shop, "init", "--no-hooks", "--grace", "0s")
    git(shop, "branch", "new")
    git(shop, "branch", "-D", "login")
    said = ok(shop, "reconcile", "--dry-run").splitlines()
    assert "shop: open git-branch/new" in said
    assert "shop: archive git-branch/login (its branch is gone)" in said
    ok(shop, "reconcile")
    assert {row["branch"]: row["status"] for row in status(shop)} == {
        "main": "connected",
        "new": "connected",
        "login": "archived",
    }
