"""What people read is plain English: none of the phrases in `english.PHRASES` is in a message, a page, or a docstring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from english import Passage, found, plain_passages, python_passages, template_passages
from paths import ROOT

GENERATED = ("_pb2.py",)
PACKAGE = ROOT / "provisioner"


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
