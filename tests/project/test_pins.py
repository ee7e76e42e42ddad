"""Tomorrow's release of a tool breaks no first run: all that the tests install has its version in a lock file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import NPM, REQUIREMENTS, ROOT

LOCK = REQUIREMENTS / "dev.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["project"]["dependencies"],
    *(each for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra),
]


def pinned(lock: Path) -> Iterator[tuple[Requirement, str]]:
    """Each line of a lock file with its version."""
    for line in lock.read_text().splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            exact = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
            assert exact is not None, f"{lock.name} does not pin {line}"
            yield requirement, exact[1]


@pytest.mark.parametrize("name", ["dev.txt", "denokv.txt"])
def test_a_lock_file_has_one_version_of_each_package_for_each_platform(name: str) -> None:
    lines = [str(requirement) for requirement, _ in pinned(REQUIREMENTS / name)]
    assert len(lines) == len(set(lines)) > 10


@pytest.mark.parametrize("wanted", WANTED)
def test_what_the_project_asks_for_is_locked_within_its_bounds(wanted: str) -> None:
    requirement = Requirement(wanted)
    locked = {canonicalize_name(each.name): number for each, number in pinned(LOCK)}
    number = locked.get(canonicalize_name(requirement.name))
    assert number is not None, f"{wanted} is not in {LOCK.name}. Run: make lock"
    assert requirement.specifier.contains(number, prereleases=True), f"{wanted} excludes {number}. Run: make lock"


def test_what_runs_these_tests_is_what_is_locked() -> None:
    found = {}
    for requirement, number in pinned(LOCK):
        if requirement.marker is None or requirement.marker.evaluate():
            try:
                installed = version(requirement.name)
            except PackageNotFoundError:
                installed = "missing"
            if installed != number:
                found[requirement.name] = f"{installed}, not {number}"
    assert found == {}, "run: make .venv/installed-dev"


def test_packages_of_npm_have_exact_versions_and_digests() -> None:
    wanted = json.loads((NPM / "package.json").read_text())["dependencies"]
    locked = json.loads((NPM / "package-lock.json").read_text())["packages"]
    for name, number in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", number), name
        assert locked[f"node_modules/{name}"]["version"] == number
    assert all("integrity" in each for path, each in locked.items() if path)
