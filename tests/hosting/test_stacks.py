"""Three stacks in one organization, five branches each: pushed, asked over HTTP/1.1 and 2 with TLS, and each counts alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from chromium import launched
from pg_server import PgServer
from playwright.sync_api import Page, expect
from preview_world import up
from stacks import DENO, DJANGO, NODE
from support import bare, commit, free_port, git, ok, repository

LONG = os.environ.get("KV_NIGHTLY") == "1"  # npm install needs its registry
BRANCHES = [f"b{number}" for number in range(5 if LONG else 2)]
URL = re.compile(r"git-branch/(\S+) running (\S+)")

STREAMS = """
async () => {
  const echo = await new Promise((resolve, reject) => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/socket");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (message) => resolve(message.data);
    socket.onerror = () => reject(new Error("the WebSocket failed"));
  });
  const events = await new Promise((resolve, reject) => {
    const source = new EventSource("/events"), found = [];
    source.onmessage = (event) => { found.push(event.data); if (found.length == 3) { source.close(); resolve(found); } };
    source.onerror = () => reject(new Error("the events failed"));
  });
  const protocol = performance.getEntriesByType("navigation")[0].nextHopProtocol;
  return { echo, events, protocol };
}
"""


class Organization:
    """The repositories of its apps, and how its router is asked."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path, self.home, self.port = path, home, free_port()
        self.urls: dict[str, dict[str, str]] = {}

    def app(
        self, slug: str, files: Mapping[str, str], *run: str, pre_deploy: str = "", server: PgServer | None = None
    ) -> None:
        clone = repository(self.path / f"{slug}-clone")
        for name, text in files.items():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_text(text)
        git(clone, "add", ".")
        commit(clone, slug)
        served = bare(self.path / f"{slug}.git", clone)
        if server is None:
            ok(served, "init", "--name", slug)
        else:
            ok(served, "app", "add", "--name", slug)
            ok(served, "assign", "main", slug)
            ok(served, "init")
        if pre_deploy:
            ok(served, "app", "set", "--pre-deploy", pre_deploy)
        ok(served, "app", "run", *run)

    def push(self, slug: str) -> None:
        """Push the branches one by one, and take the URLs from the answers."""
        clone, urls = self.path / f"{slug}-clone", self.urls.setdefault(slug, {})
        for branch in BRANCHES:
            git(clone, "switch", "-q", "-C", branch)
            commit(clone, branch)
            said = git(clone, "push", "-q", "hub", branch).stderr
            found = URL.search(said)
            assert found is not None, said
            assert found[1] == branch
            urls[branch] = found[2]

    def curl(self, url: str, *options: str) -> str:
        root = self.home / "router/data/pki/authorities/local/root.crt"
        host = url.removeprefix("https://").partition(":")[0]
        words: list[str | Path] = [
            "curl",
            "-sS",
            "--max-time",
            "60",
            "--cacert",
            root,
            "--resolve",
            f"{host}:{self.port}:127.0.0.1",
        ]
        done = subprocess.run([*words, *options, url], capture_output=True, text=True, check=True)
        return done.stdout

    def counts_alone(self, slug: str, page: Page) -> None:
        """Each branch's count is that of its own requests, whichever client makes them."""
        for times, branch in enumerate(BRANCHES):
            url = self.urls[slug][branch]
            for number in range(times):
                version = "--http2" if number % 2 == 0 else "--http1.1"
                said = self.curl(url, version, "-w", " %{http_version}")
                assert said == f"{number + 1} {'2' if version == '--http2' else '1.1'}"
            page.goto(url)
            assert page.inner_text("body") == str(times + 1)


def test_the_branches_of_three_stacks_count_alone(tmp_path: Path, home: Path, pg: PgServer) -> None:
    world = Organization(tmp_path, home)
    ok(repository(tmp_path / "any"), "instance", "add", "main", "--engine", "postgres", "--url", pg.url())
    python = f"exec {Path(sys.executable).parent}/python"
    if LONG:
        world.app("deno", DENO, "--command", "deno run -A --unstable-kv main.ts")
    serve = f"{python} -m granian --interface wsgi --host $HOST --port $PORT web.wsgi:application"
    world.app("django", DJANGO, "--command", serve, pre_deploy=f"{python} manage.py migrate", server=pg)
    if LONG:
        world.app("node", NODE, "--install", "npm install --no-audit --no-fund", "--command", "npm start", server=pg)
    with up(home, world.port, "--preview-tls", "local"), launched() as browser:
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        for slug in ["deno", "node", "django"] if LONG else ["django"]:
            world.push(slug)
            world.counts_alone(slug, page)
        if LONG:
            page.goto(f"{world.urls['node']['b0']}/page")
            assert page.evaluate(STREAMS) == {"echo": "echo hello", "events": ["1", "2", "3"], "protocol": "h2"}
        context.close()
    if LONG:
        with up(home, world.port), launched() as browser:
            page = browser.new_page()
            page.goto(f"http://b0.node.localhost:{world.port}/page")
            expect(page).to_have_title("counter")  # after the page that says that it starts
            assert page.evaluate(STREAMS) == {"echo": "echo hello", "events": ["1", "2", "3"], "protocol": "http/1.1"}
