"""The seed's counter on several branches at once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from connect_world import QUIET

BRANCHES = ("main", "login", "cart", "search", "release/2.0")


def counting(repository: Path, branch: str, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["provisioner", "exec", "--branch", branch, "--", *command],
        cwd=repository,
        env={**os.environ, **QUIET},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> list[str]:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return out.splitlines()
