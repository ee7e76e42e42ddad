"""The examples for those who run apps elsewhere: each program accepts its file, and the hooks do what the page says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from paths import DOCS
from support import commit, git, ok, run, shop, statuses

EXAMPLES = DOCS / "examples"
STUB = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the programs that the hooks start are called with: a file of one line for each."""
    directory = tmp_path / "stubs"
    directory.mkdir()
    for name in ("systemctl", "docker"):
        (directory / name).write_text(STUB.replace("$CALLS", str(tmp_path / "calls")))
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls"


def lines(called: Path) -> list[str]:
    return called.read_text().splitlines() if called.exists() else []


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    executable = shutil.which("provisioner")
    assert executable is not None
    text = (EXAMPLES / "shop@.service").read_text()
    assert "/usr/local/bin/provisioner" in text
    (tmp_path / "shop@.service").write_text(text.replace("/usr/local/bin/provisioner", executable))
    unit = tmp_path / "shop@git\\x2dbranch-login.service"
    unit.symlink_to(tmp_path / "shop@.service")
    verified = run(tmp_path, "systemd-analyze", "verify", "--user", unit, add={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_compose_accepts_the_file_and_hands_on_the_variables(tmp_path: Path) -> None:
    values = {"PLACE": str(tmp_path), "DENO_TIMELINE": "git-branch/login", "DENO_KV_ACCESS_TOKEN": "a-token"}
    shown = run(
        tmp_path, "docker-compose", "--file", EXAMPLES / "compose.yaml", "config", check=True, add=values
    ).stdout
    for text in ("DENO_TIMELINE: git-branch/login", "DENO_KV_ACCESS_TOKEN: a-token", f"{tmp_path}/checkout:/app:ro"):
        assert text in shown
    refused = run(tmp_path, "docker-compose", "--file", EXAMPLES / "compose.yaml", "config")
    assert refused.returncode != 0
    assert "PLACE" in refused.stderr


def hooked(tmp_path: Path, hook: str) -> Path:
    repo = shop(tmp_path / "shop", "login")
    path = EXAMPLES / hook
    ok(repo, "app", "set", "--on-connected", str(path), "--on-gone", str(path))
    return repo


def test_the_hook_for_systemd_runs_each_revision_and_ends_what_is_gone(tmp_path: Path, called: Path) -> None:
    repo = hooked(tmp_path, "shop-systemd-hook")
    git(repo, "switch", "-q", "login")
    commit(repo, "new")
    ok(repo, "reconcile")
    unit = "shop@git\\x2dbranch-login.service"
    assert lines(called) == [f"systemctl --user stop -- {unit}", f"systemctl --user start -- {unit}"]
    place = Path(os.environ["HOME"]) / "apps/shop/git\\x2dbranch-login"
    assert (place / "file").read_text() == "new"
    git(repo, "switch", "-q", "main")
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert lines(called)[2:] == [f"systemctl --user stop -- {unit}"]
    assert not place.exists()
    assert statuses(repo)["git-branch/login"] == "archived"


def test_the_hook_for_compose_runs_each_revision_and_ends_what_is_gone(tmp_path: Path, called: Path) -> None:
    repo = hooked(tmp_path, "shop-compose-hook")
    git(repo, "switch", "-q", "login")
    commit(repo, "new")
    ok(repo, "reconcile")
    (place,) = (Path(os.environ["HOME"]) / "apps").iterdir()
    words = f"docker compose --project-name {place.name} --file {EXAMPLES}/compose.yaml"
    assert lines(called) == [f"{words} down", f"{words} up --detach --force-recreate"]
    assert (place / "checkout/file").read_text() == "new"
    git(repo, "switch", "-q", "main")
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert lines(called)[2:] == [f"{words} down --volumes"]
    assert not place.exists()
    assert statuses(repo)["git-branch/login"] == "archived"


def test_the_page_names_every_example_and_every_key_of_an_event(tmp_path: Path) -> None:
    page = (DOCS / "previews-elsewhere.md").read_text()
    assert {path.name for path in EXAMPLES.iterdir() if f"(examples/{path.name})" not in page} == set()
    event = json.loads(ok(shop(tmp_path / "shop"), "events", "--json").splitlines()[0])
    assert [key for key in event if f"`{key}`" not in page] == []
