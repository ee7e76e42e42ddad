"""ARCHITECTURE.md says what is there."""

from __future__ import annotations

import re

import pytest
from paths import ROOT
from test_imports import FOLDERS

PAGE = (ROOT / "ARCHITECTURE.md").read_text()


def _section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _first_column(section: str) -> list[str]:
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [row.split("|")[1].strip() for row in rows]


def test_the_tree_is_the_tree_in_its_order() -> None:
    assert _first_column(_section("The source tree")) == [f"`{folder}/`" for folder in FOLDERS]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w./-]+\.(?:py|sh|md))`", PAGE))))
def test_each_file_that_it_names_exists(path: str) -> None:
    there = [ROOT / path, ROOT / "provisioner" / path, *ROOT.glob(f"provisioner/**/{path}")]
    assert any(candidate.exists() for candidate in there), path


def test_the_table_of_threads_has_every_thread_that_the_code_names() -> None:
    listed = re.findall(r"`([^`]+)`", " ".join(_first_column(_section("Threads"))))
    named = set()
    for path in (ROOT / "provisioner").rglob("*.py"):
        text = path.read_text()
        named |= set(re.findall(r'ServiceThread\(\s*"([^"]+)"', text))
        named |= set(re.findall(r'threading\.Thread\(.*name=f?"([^"{]+)', text))
        named |= set(re.findall(r'ThreadPoolExecutor\([^)]*?"([^"]+)"\)', text))
    assert {name.rstrip("-…") for name in listed} == {name.rstrip("-") for name in named}


def test_the_table_of_locks_has_every_file_that_is_locked() -> None:
    listed = set(re.findall(r"`(\w+)", " ".join(_first_column(_section("Locks")))))
    named = set()
    for path in (ROOT / "provisioner").rglob("*.py"):
        named |= set(re.findall(r'locks, f?"(\w+)(?:-\{[^}]*\})?\.lock"', path.read_text()))
    assert listed == named
