"""`provisioner timeline`: what is said of one."""

from __future__ import annotations

import json
from pathlib import Path

from support import git, ok, provisioner, shop


def test_a_timeline_is_shown_by_its_branch_its_name_or_the_checkout(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    git(repo, "switch", "-q", "login")
    for name in (("login",), ("git-branch/login",), ()):
        found = json.loads(ok(repo, "timeline", "show", *name, "--json"))
        assert (found["timeline"], found["status"]) == ("git-branch/login", "connected")
    assert "timeline: production" in ok(repo, "timeline", "show", "main")
    refused = provisioner(repo, "timeline", "show", "nowhere")
    assert (refused.returncode, refused.stdout) == (3, "")
