"""A real Chromium, and pages in it that complain of nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dashboard_world import code
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=60_000)  # a busy machine

AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN_AXE = """
(tags) => axe.run(document, {runOnly: tags}).then((found) => found.violations.map(
  (each) => `${each.id}: ${each.nodes.map((node) => node.target.join(" ")).join(", ")}`))
"""
# Links within a sentence may be as low as its line. axe-core lets a small one pass that is far from others, which
# depends on the fonts of the machine: this does not.
_SMALL = """
() => {
  const inText = (element) => {
    const text = element.closest("p");
    return text !== null && text.textContent.trim() !== element.textContent.trim();
  };
  return [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
    .filter((element) => element.checkVisibility({visibilityProperty: true}) && !element.matches(".skip") && !inText(element))
    .map((element) => [element, element.getBoundingClientRect()])
    .filter(([, box]) => box.width < 23.99 || box.height < 23.99)
    .map(([element, box]) => `${element.outerHTML.slice(0, 90)} is ${box.width.toFixed(1)} x ${box.height.toFixed(1)}`);
}
"""


@contextmanager
def launched(*more: str) -> Iterator[Browser]:
    """With further flags of Chromium's."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium is not None, "these tests want a Chromium: sh .ci/debian-packages"
    flags = [*more, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@contextmanager
def visitor(browser: Browser, base: str, home: Path) -> Iterator[Page]:
    """Logged in by a link. Nothing that the browser complains about passes, but that a change was refused."""
    context = browser.new_context()
    context.set_default_timeout(60_000)
    complaints: list[str] = []
    page = context.new_page()
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    log_in(page, base, home)
    yield page
    context.close()
    assert [text for text in complaints if "409 (Conflict)" not in text] == []


INSIDE = re.compile(r"^https?://[^/]+/~[^/]+/")


def log_in(page: Page, base: str, home: Path) -> None:
    page.goto(f"{base}/login#{code(home)}")
    page.wait_for_url(INSIDE)


def visit(page: Page, url: str) -> None:
    """Go to an address of the dashboard, without its root: in the session that the browser has."""
    address = urlsplit(url)
    roots = [cookie["path"] for cookie in page.context.cookies() if cookie["path"].startswith("/~")]
    path = f"{address.path}{'?' if address.query else ''}{address.query}"
    page.goto(f"{address.scheme}://{address.netloc}{roots[-1] if roots else ''}{path}")


def problems(page: Page, axe: str) -> list[str]:
    """What keeps people out of a page: what axe-core finds, a target of less than 24 pixels, a page wider than its window."""
    page.evaluate(axe)
    found: list[str] = page.evaluate(_RUN_AXE, AA) + page.evaluate(_SMALL)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("is wider than its window")
    return found
