"""ARCHITECTURE.md says what is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from paths import ROOT
from test_imports import FOLDERS

from bench.__main__ import MEASUREMENTS

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


NAMED = {"ServiceThread": 0, "LibraryThreads": 0, "ThreadPoolExecutor": 1, "Thread": 9}
"""What starts threads, and at which place the argument is that names them: of a Thread it is called ``name``."""


def _threads() -> Iterator[tuple[str, str]]:
    """Each place in the code that starts threads, and their name; a name's variable end is left out."""
    for path in sorted((ROOT / "provisioner").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            kind = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
            if kind not in NAMED or path.name == "service_thread.py":
                continue
            assert isinstance(node, ast.Call)
            words = {word.arg: word.value for word in node.keywords}
            found = node.args[NAMED[kind]] if len(node.args) > NAMED[kind] else words.get("name")
            if isinstance(found, ast.JoinedStr):
                found = found.values[0]
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            assert isinstance(found, ast.Constant), f"{where}: name this thread"
            yield where, str(found.value)


def test_the_table_of_threads_has_every_thread_that_the_code_starts() -> None:
    listed = {name.rstrip("-…") for name in re.findall(r"`([^`]+)`", " ".join(_first_column(_section("Threads"))))}
    named = {name.rstrip("-"): where for where, name in _threads()}
    assert listed == named.keys(), named


def test_the_table_of_threads_names_locks_that_the_table_of_locks_has() -> None:
    locks = set(re.findall(r"`([a-z]+)", " ".join(_first_column(_section("Locks")))))
    rows = [line.split("|")[4] for line in _section("Threads").splitlines() if line.startswith("| ")][1:]
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} <= locks


def test_the_table_of_locks_has_every_file_that_is_locked() -> None:
    listed = set(re.findall(r"`(\w+)", " ".join(_first_column(_section("Locks")))))
    named = set()
    for path in (ROOT / "provisioner").rglob("*.py"):
        named |= set(re.findall(r'locks, f?"(\w+)(?:-\{[^}]*\})?\.lock"', path.read_text()))
    assert listed == named


def test_what_a_file_is_named_for_is_in_it() -> None:
    """`path.py` (`name`, `other`): both names are in that file."""
    named = re.findall(r"`([\w./-]+\.py)` \(((?:`\w+`(?:, )?)+)\)", PAGE)
    assert len(named) >= 5
    for path, names in named:
        text = (ROOT / "provisioner" / path).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", text), f"{path} has no {name}"


def test_a_measurement_that_it_names_is_one() -> None:
    named = re.findall(r"python -m bench --only ([\w-]+)", PAGE)
    assert named
    assert set(named) <= MEASUREMENTS.keys()
