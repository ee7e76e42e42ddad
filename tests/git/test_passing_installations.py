"""Hooks lead into an installation that stays, or are refused: with one in a cache they would stop working silently."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from support import connected, git, ok, provisioner, repository, run, until

pytestmark = pytest.mark.slow

UV = "uv==0.13.9"
PLACES = {
    "uvx": ("user/.cache/uv/archive-v0/Zb3x", "the cache of uv"),
    "uv run --with": ("elsewhere/uv-cache/builds-v0/.tmpQ1", "the cache of uv"),
    "pipx run": ("user/.local/pipx/.cache/5e7", "the cache of pipx"),
    "a cache": ("user/.cache/tools/env", "a cache"),
    "a temporary directory": ("somewhere/venv", "a directory for temporary files"),
}


def environment(directory: Path) -> Path:
    """A virtual environment there, with what this one has: its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (packages,) = directory.glob("lib/python*/site-packages")
    (packages / "same.pth").write_text("\n".join([*site.getsitepackages(), str(ROOT)]))
    return directory / "bin" / "python"


@pytest.mark.parametrize("which", PLACES)
def test_an_installation_that_may_be_deleted_installs_no_hooks_and_says_how_to_install_it(
    tmp_path: Path, which: str
) -> None:
    where, what = PLACES[which]
    python = environment(tmp_path / where)
    repo = repository(tmp_path / "shop", "login")
    done = run(repo, python, "-m", "provisioner", "init")
    assert done.returncode == 0, done  # all else is done
    assert f"no hooks are installed: provisioner runs from {what}" in done.stderr
    assert "uv tool install timeline-provisioner" in done.stderr
    assert not [path for path in (repo / ".git" / "hooks").iterdir() if path.suffix != ".sample"]
    assert "2 databases on default (deno-kv) are ready" in done.stdout
    refused = run(repo, python, "-m", "provisioner", "hooks", "install")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "hooks: " in provisioner(repo, "init").stderr  # by one that stays
    git(repo, "branch", "late")
    until(lambda: "late" in connected(repo))


def test_hooks_of_an_installation_that_may_be_deleted_are_found(tmp_path: Path) -> None:
    """An earlier version has installed them."""
    python = environment(tmp_path / "user/.cache/uv/archive-v0/Zb3x")
    repo = repository(tmp_path / "shop")
    ok(repo, "init")
    for hook in (repo / ".git" / "hooks").glob("[!.]*"):
        if hook.suffix != ".sample":
            hook.write_text(hook.read_text().replace(f"'{sys.executable}'", f"'{python}'"))
    found = provisioner(repo, "hooks", "status", "--json")
    assert found.returncode == 1
    assert {item["state"] for item in json.loads(found.stdout)} == {
        "installed by a provisioner in a place that may be deleted at any time"
    }
    looked = json.loads(provisioner(repo, "doctor", "--json").stdout)
    (hooks,) = [item for item in looked if item["check"] == "app shop hooks"]
    assert (hooks["ok"], "hooks install" in hooks["message"]) == (False, True)
    ok(repo, "hooks", "install")
    ok(repo, "hooks", "status")


def test_an_installation_in_the_worktree_is_used_and_the_user_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner.git import hooks
    from provisioner.system import installation

    monkeypatch.setattr(installation, "_TEMPORARY", ())
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/nowhere")
    inside = str(tmp_path / "shop" / ".venv")
    assert installation.passing(inside) == ""
    told = hooks.within(inside, os.fsencode(tmp_path / "shop"))
    assert "which is in this worktree" in told
    assert hooks.within(inside, os.fsencode(tmp_path / "other")) == hooks.within(inside, None) == ""


@pytest.mark.skipif("KV_NIGHTLY" not in os.environ, reason="installs uv and everything that provisioner needs")
@pytest.mark.timeout(600)
def test_real_uvx_and_real_uv_tool_install(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "uv"], check=True)
    subprocess.run([tmp_path / "uv/bin/pip", "install", "--quiet", UV], check=True)
    repo = repository(tmp_path / "shop", "login")
    uv, add = (
        tmp_path / "uv/bin/uv",
        {"UV_CACHE_DIR": str(tmp_path / "cache"), "UV_TOOL_DIR": str(tmp_path / "user/tools")},
    )
    add |= {"UV_TOOL_BIN_DIR": str(tmp_path / "user/bin"), "UV_PYTHON": sys.executable}
    once = run(repo, uv, "tool", "run", "--from", ROOT, "provisioner", "init", add=add)
    assert once.returncode == 0, once
    assert "no hooks are installed: provisioner runs from the cache of uv" in once.stderr
    run(repo, uv, "tool", "install", ROOT, add=add, check=True)
    installed = run(repo, tmp_path / "user/bin/provisioner", "hooks", "install")
    assert "a directory for temporary files" in installed.stderr  # as the directory of this test is
