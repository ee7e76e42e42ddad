"""The example of Deno's documentation, byte for byte, as the app of each branch: pushed, asked, and put to sleep."""

from __future__ import annotations

import re
from pathlib import Path

from preview_world import previews
from stacks import DENO
from support import git, status, until


def test_every_branch_counts_for_itself(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home, "--command", "deno run -A --unstable-kv main.ts", "--idle", "1s") as world:
        (world.clone / "main.ts").write_text(DENO["main.ts"])
        branches = [f"b{number}" for number in range(5)]
        for branch in branches:
            said = world.push(branch, message="the example")
            assert re.search(rf"git-branch/{branch} running http://{branch}\.shop\.localhost:\d+", said), said
        for times, branch in enumerate(branches, 1):
            for count in range(1, times + 1):
                assert world.get(f"{branch}.shop.localhost") == (200, str(count))
        until(lambda: [each["state"] for each in status(world.bare) if each["branch"] in branches] == ["sleeping"] * 5)
        for times, branch in enumerate(branches, 1):  # started again by the request
            assert world.get(f"{branch}.shop.localhost") == (200, str(times + 1))
        assert git(world.clone, "status", "--porcelain").stdout == ""
