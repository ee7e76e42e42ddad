"""Paths in this checkout that tests use."""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).parent
"""Helpers of the tests, the programs in JavaScript and TypeScript among them."""

ROOT = SUPPORT.parent.parent
DOCS = ROOT / "docs"
REQUIREMENTS = ROOT / "requirements"
NPM = SUPPORT / "npm"
