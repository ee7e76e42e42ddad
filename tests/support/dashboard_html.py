"""What stands on a page of the dashboard: rows of tables, the marks of states, headings."""

from __future__ import annotations

import html
import re


def row_of(text: str, *words: str) -> str:
    """The one row of a table that has all of these words."""
    table: list[str] = re.findall(r"<tr.*?</tr>", text, re.DOTALL)
    found = [row for row in table if all(word in plain(row) for word in words)]
    assert len(found) == 1, (words, [plain(row) for row in found])
    return found[0]


def marks(text: str) -> list[str]:
    """The states that are marked in a piece of a page: each by its color, and what it says."""
    found = re.findall(r'<span class="pill ([^"]*)">(.*?)</span>', text)
    return [color if color == words else f"{color}: {words}" for color, words in found]


def fact(text: str, name: str) -> str:
    """What a page says of one thing."""
    found = re.search(rf"<dt>{name}</dt><dd>(.*?)</dd>", text, re.DOTALL)
    assert found is not None, name
    return found[1]


def heading(text: str) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", text, re.DOTALL)
    assert found is not None
    return plain(found[1])


def breadcrumb(text: str) -> str:
    found = re.search(r'<nav class="crumbs".*?</nav>', text, re.DOTALL)
    assert found is not None
    return plain(found[0])


def title(text: str) -> str:
    return plain(text.partition("<title>")[2].partition("</title>")[0])


def plain(text: str) -> str:
    """The words alone."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
