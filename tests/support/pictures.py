"""The README's pictures, taken of a real dashboard with a shop's data: `make pictures`.

With a directory as its argument: every page there, light and dark, at 1280 and at 360 pixels.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Literal

from chromium import log_in, visit
from paths import DOCS
from playwright.sync_api import Browser, sync_playwright
from preview_world import SERVER, up
from support import commit, database_of, files, free_port, git, ok, repository, status, until

from provisioner.kv import KvU64, open_kv
from provisioner.kv.codec.key import encode

README = DOCS / "pictures"
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SHOWN: dict[str, Scheme] = {"app": "light", "timeline": "light", "failed": "light", "edit": "dark", "changes": "dark"}


def main() -> None:
    chromium = shutil.which("chromium")
    assert chromium is not None, "no Chromium here: sh .ci/debian-packages"
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        home = Path(place) / "home"
        os.environ["PROVISIONER_HOME"] = str(home)
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        config = Path(place) / "gitconfig"
        config.write_text("[user]\nname = Ada\nemail = ada@example.com\n[init]\ndefaultBranch = main\n")
        os.environ["GIT_CONFIG_GLOBAL"] = str(config)
        repo = _shop(Path(place))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        port, router = free_port(), free_port()
        with up(home, router, "--port", str(port)):
            base = f"http://127.0.0.1:{port}"
            _deployed(repo, router)
            pages = _pages(repo)
            if len(sys.argv) == 1:
                for name, scheme in SHOWN.items():
                    Camera(browser, base, scheme, 1280).take(pages[name], README / f"{name}.png", whole=False)
            for scheme, width in product(SCHEMES, (1280, 360)) if len(sys.argv) > 1 else ():
                camera = Camera(browser, base, scheme, width)
                for name, path in pages.items():
                    camera.take(path, Path(sys.argv[1]) / f"{name}-{scheme}-{width}.png", whole=True)
        browser.close()


def _shop(place: Path) -> Path:
    """A repository whose branches have come and gone, with orders and visits in their databases."""
    repo = repository(place / "shop")
    ok(repo, "init", "--grace", "0s")
    ok(repo, "instance", "add", "visits")
    with open_kv(str(files(repo)["main"])) as kv:
        for number, name in enumerate(("Ada Lovelace", "Grace Hopper", "Katherine Johnson"), 1):
            kv.set(("users", number), {"name": name, "since": datetime(2026, 3, number, 9, 30, tzinfo=UTC)})
            kv.set(("users_by_name", name), number)
        for number in range(1, 41):
            kv.set(("orders", number), {"user": number % 3 + 1, "items": [{"sku": f"tea-{number}", "count": 2}]})
        kv.set(("visits",), KvU64(52_341))
        kv.set(("avatars", 1), b"\x89PNG\r\n\x1a\n" + bytes(range(48)))
    ok(repo, "assign", "default", "--new-branch", "fork:production")
    for branch in ("feature/login", "feature/checkout-v2", "fix/rounding"):
        git(repo, "branch", branch)
        ok(repo, "reconcile")
    git(repo, "branch", "release/2.1", "feature/login")
    ok(repo, "reconcile")
    git(repo, "branch", "-D", "fix/rounding")
    ok(repo, "reconcile")
    with open_kv(str(files(repo)["feature/login"])) as kv:
        kv.set(("users", 4), {"name": "Radia Perlman", "since": datetime(2026, 4, 1, 8, 0, tzinfo=UTC)})
        kv.delete(("orders", 7))
        kv.set(("visits",), KvU64(52_348))
    ok(repo, "timeline", "protect", "release/2.1")
    ok(repo, "timeline", "expire", "feature/checkout-v2", "--after", "14d")
    ok(repo, "preview", "create", "HEAD", "--from", "production")
    ok(repo, "var", "set", "PUBLIC_URL=https://shop.example", "CURRENCY=EUR")
    ok(repo, "var", "set", "STRIPE_KEY=sk_live_51", "--secret", "--context", "production")
    ok(repo, "database", "snapshot", "create", "feature/login", "--label", "before the migration")
    git(repo, "switch", "-q", "feature/login")
    commit(repo, "migrate")
    ok(repo, "app", "set", "--pre-deploy", "echo migrating; echo 3 tables checked")
    git(repo, "switch", "-q", "main")
    git(repo, "branch", "design/cart", "feature/login")
    ok(repo, "reconcile")
    ok(repo, "database", "share", "feature/login", "design/cart")
    return repo


def _deployed(repo: Path, router: int) -> None:
    """Apps that run and sleep, and one whose last push does not build. Requests came for some."""
    ok(repo, "app", "run", "--command", "exec python3 server.py", "--install", "echo added 38 packages", *_BUILD)
    _server(repo, "main", "Ship cart totals in minor units")
    _server(repo, "feature/login", "Ask for the second factor")
    _server(repo, "feature/checkout-v2", "Split the address form into steps")
    hosts = {each["timeline"]: each["url"] for each in status(repo) if each.get("url")}
    for name in ("production", "git-branch/feature/login", "git-branch/feature/checkout-v2"):
        host = hosts[name].removeprefix("http://").partition(":")[0]
        for path in ("/", "/cart", "/orders/17", "/healthz"):
            until(lambda host=host, path=path: _status(router, host, path) == 200)  # type: ignore[misc]
    (repo / "broken").write_text("")
    _server(repo, "feature/checkout-v2", "Validate postal codes")
    until(lambda: next(each for each in status(repo) if each["timeline"].endswith("checkout-v2"))["app_error"])
    git(repo, "switch", "-q", "main")
    ok(repo, "timeline", "protect", "main")


_BROKEN = "src/checkout.ts:41: postalCode is not defined"
_BUILD = ("--build", f"echo bundled 214 modules; test ! -e broken || {{ echo '{_BROKEN}'; exit 1; }}")


def _server(repo: Path, branch: str, subject: str) -> None:
    git(repo, "switch", "-q", branch)
    (repo / "server.py").write_text(f"TEXT = {subject!r}\n{SERVER}")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", subject)


def _status(router: int, host: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", router, timeout=60)
    try:
        connection.request("GET", path, headers={"Host": f"{host}:{router}"})
        return connection.getresponse().status
    finally:
        connection.close()


def _pages(repo: Path) -> dict[str, str]:
    login = f"/databases/{database_of(repo, 'git-branch/feature/login')['id']}"
    with closing(sqlite3.connect(Path(os.environ["PROVISIONER_HOME"]) / "registry.db")) as registry:
        query = "select timeline.id, run.id from timeline join run on timeline_id = timeline.id where branch = ?"
        timeline, run = registry.execute(query, (b"feature/login",)).fetchone()
        (failed,) = registry.execute("select id from timeline where branch = ?", (b"feature/checkout-v2",)).fetchone()
    return {
        "databases": "/",
        "instance": "/instances/default",
        "app": "/apps/shop",
        "database": login,
        "keys": f"{login}/keys?prefix=%5B%22users%22%5D",
        "list": f"{login}/keys?as=list",
        "entry": f"{login}/entry?key={encode(('users', 4)).hex()}",
        "edit": f"{login}/edit?key={encode(('users', 4)).hex()}",
        "changes": f"{login}/changes",
        "copies": f"{login}/copies",
        "timeline": f"/timelines/{timeline}",
        "deploys": f"/timelines/{timeline}/deploys",
        "logs": f"/timelines/{timeline}/logs",
        "failed": f"/timelines/{failed}",
        "run": f"/timelines/{timeline}/runs/{run}",
        "previews": "/apps/shop/previews",
        "variables": "/apps/shop/variables",
        "settings": "/apps/shop/settings",
        "activity": "/activity",
    }


class Camera:
    """A browser that is logged in."""

    def __init__(self, browser: Browser, base: str, scheme: Scheme, width: int) -> None:
        self._base = base
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 780})
        self._page = context.new_page()
        log_in(self._page, base, Path(os.environ["PROVISIONER_HOME"]))
        visit(self._page, f"{base}/activity")  # the note that one is logged in is shown once

    def take(self, path: str, picture: Path, *, whole: bool) -> None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        visit(self._page, self._base + path)
        self._page.screenshot(path=str(picture), full_page=whole)


if __name__ == "__main__":
    main()
