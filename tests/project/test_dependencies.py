"""What the package may be installed with: no release with a known vulnerability, none whose private API may be another."""

from __future__ import annotations

import os
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from paths import ROOT
from support import repository

from provisioner.core.ids import AppId
from provisioner.git.watch import RefWatcher

REFUSED = (
    ("apsw", "3.49.1.0", "SQLite 3.49.1: CVE-2025-3277"),
    ("apsw", "3.50.1.0", "SQLite 3.50.1: CVE-2025-6965"),
    ("apsw", "3.51.2.0", "SQLite 3.51.2: a checkpoint that meets a reset of the log may lose a commit"),
    ("jinja2", "3.1.3", "CVE-2024-34064"),
    ("jinja2", "3.1.5", "CVE-2025-27516"),
    ("psycopg", "3.2.4", "libpq 17.2: CVE-2025-1094"),
    ("psycopg", "3.2.13", "libpq 17.6: CVE-2025-12818"),
    ("psycopg", "3.3.3", "libpq 18.0: CVE-2025-12818"),
    ("starlette", "0.49.0", "CVE-2025-62727"),
    ("starlette", "1.0.0", "CVE-2026-48710"),
    ("watchdog", "6.0.0", "three inotify instances for each repository, of 128 that a user may have"),
    ("granian", "2.9.0", "the embedded server is no public API"),
    ("granian", "3.0.0", "the embedded server is no public API"),
    ("v8serialize", "0.5.0", "the numbers of its objects are no public API"),
)


def _requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize(("name", "release", "why"), REFUSED)
def test_a_release_that_must_not_be_used_cannot_be_installed(name: str, release: str, why: str) -> None:
    bounds = [requirement.specifier for requirement in _requirements() if requirement.name == name]
    assert bounds
    for bound in bounds:
        assert not bound.contains(release), f"{name} {bound} lets in {release}: {why}"


def test_what_is_installed_here_is_within_all_bounds() -> None:
    for requirement in _requirements():
        assert requirement.specifier.contains(version(requirement.name), prereleases=True), str(requirement)


def test_one_inotify_instance_serves_every_repository(tmp_path: Path) -> None:
    """A user has 128 of them, for all programs together."""
    found: list[int] = []
    watcher = RefWatcher(lambda *_: None, lambda _: None, lambda _, why: pytest.fail(why))
    watcher.start()
    before = _inotify_instances()
    try:
        for number in range(3):
            repo = repository(tmp_path / f"repo{number}")
            assert watcher.add(AppId(str(number)), os.fsencode(repo / ".git"))
            found.append(_inotify_instances() - before)
    finally:
        watcher.stop()
    assert found[0] <= 1
    assert found == [found[0]] * 3


def _inotify_instances() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "inotify" in os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the directory's own
            continue
    return count
