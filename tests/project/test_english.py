"""What people read is plain English: none of the phrases in `english.PHRASES` is in a message, a page, or a docstring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import name_of, pages
from english import Passage, found, plain_passages, python_passages, template_passages
from paths import ROOT

GENERATED = ("_pb2.py",)
PACKAGE = ROOT / "provisioner"
PAGES = [*pages(), *sorted(ROOT.glob("[A-Z]*.md")), ROOT / "bench" / "README.md"]
SCRIPTS = [*sorted((ROOT / "hooks").iterdir()), ROOT / "Makefile", ROOT / "docs" / "provisioner.service"]


def _passages(folder: Path) -> Iterator[Passage]:
    for file in sorted(folder.rglob("*")):
        match file.suffix:
            case ".py" if not file.name.endswith(GENERATED):
                yield from python_passages(file)
            case ".html":
                yield from template_passages(file)
            case ".js":
                yield from plain_passages(file)


FOLDERS = sorted({path.parent for path in PACKAGE.glob("*/*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_package_says_nothing_in_a_banned_phrase(folder: Path) -> None:
    assert list(found(_passages(folder))) == []


@pytest.mark.parametrize(
    "file", [PACKAGE / "__init__.py", PACKAGE / "__main__.py", PACKAGE / "handover.py"], ids=name_of
)
def test_a_module_at_the_top_says_nothing_in_a_banned_phrase(file: Path) -> None:
    assert list(found(python_passages(file))) == []


@pytest.mark.parametrize("file", sorted({*PAGES, *SCRIPTS}), ids=name_of)
def test_a_page_says_nothing_in_a_banned_phrase(file: Path) -> None:
    assert list(found(plain_passages(file))) == []


def test_the_phrases_are_found_in_each_kind_of_text(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        '''"""Mend it."""\nraise ValueError(f"{1} is no time")  # begun\nx = "select anew from y"\n'''
    )
    (tmp_path / "page.html").write_text(
        '<p class="anew">Begun</p>{% if is none %}{{ field("x", "Whose it is") }}{% endif %}'
    )
    (tmp_path / "page.md").write_text("Whoever reads `whoever` is told.\n")
    code = list(found(python_passages(tmp_path / "code.py")))
    assert [line.partition(": ")[0].rpartition(":")[2] for line in code] == ["1", "2", "2"]
    assert "write Resolve this" in code[0]
    assert len(list(found(template_passages(tmp_path / "page.html")))) == 2
    assert len(list(found(plain_passages(tmp_path / "page.md")))) == 2
