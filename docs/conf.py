"""How `make docs` builds the site: Sphinx with MyST and furo. The pages stay Markdown that reads well without it."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from provisioner import __version__

project = "provisioner"
author = "The provisioner authors"
copyright = "2026, The provisioner authors"  # noqa: A001
version = release = __version__

extensions = ["myst_parser", "sphinx_click"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "provisioner"
html_theme_options = {"source_edit_link": "", "navigation_with_keys": True}
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["alert", "deflist", "tasklist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nitpicky = True
suppress_warnings = ["myst.header"]  # root pages begin at the level that they have there
linkcheck_timeout = 20

ROOT = Path(__file__).parent.parent
ROOT_PAGES = ("architecture", "contributing", "security", "changelog")


def _root_page(_: Sphinx, name: str, source: list[str]) -> None:
    """Show a page of the repository's root as a page of the site."""
    if name in ROOT_PAGES:
        text = (ROOT / f"{name.upper()}.md").read_text()
        text = re.sub(r"\]\(docs/", "](", text)
        source[0] = re.sub(r"\]\(([A-Z]+)\.md", lambda match: f"]({match[1].lower()}.md", text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", _root_page)
