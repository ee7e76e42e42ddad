"""The documentation is a site without a dead link, and every page can be reached."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paths import DOCS

pytestmark = pytest.mark.slow


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path / "site"),
    ]
    built = subprocess.run([*command, "-d", str(tmp_path / "trees")], capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    commands = (tmp_path / "site/reference/cli.html").read_text()
    assert 'id="provisioner-database-fork"' in commands
    assert "tests/project/test_imports.py" in (tmp_path / "site/architecture.html").read_text()
