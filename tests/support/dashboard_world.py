"""A dashboard of a real server, and somebody who visits it without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import urllib3
from connect_world import Server, serving
from support import ok

HERE = {"sec-fetch-site": "same-origin"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def location(self) -> str:
        assert self.headers["location"]
        return self.headers["location"]


@dataclass(slots=True)
class Visitor:
    """Keeps cookies, follows nothing, tries nothing again. Addresses are without the session's root, `/~SECRET`: it is put
    into what is asked for, and taken out of what is answered."""

    base: str
    source: str = "127.0.0.1"
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""
    root: str = ""

    @property
    def site(self) -> str:
        """Where its session lives."""
        return self.base + self.root

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """With what a browser says of a page of ours, unless `headers` say otherwise (empty: left away). It waits for what
        comes of it, on a busy machine too; with `prefer=""` it goes on after a moment, as a person does."""
        return self._ask("POST", path, urlencode(fields or {}), {**HERE, "prefer": "wait=50", **headers})

    def log_in(self, secret: str) -> Answer:
        answer = self.post("/login", {"secret": secret})
        if answer.status == 303:
            assert self.root
            found = re.search(r'name="csrf" value="([^"]+)"', self.get("/").text)
            assert found is not None
            self.csrf = found[1]
        return answer

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        if body is not None:
            sent["content-type"] = "application/x-www-form-urlencoded"
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        under = path if path.startswith(("/login", "/static/", "/~")) else self.root + path
        with urllib3.PoolManager(retries=False, timeout=60, source_address=(self.source, 0)) as pool:
            got = pool.request(method, self.base + under, body=body, headers=sent, redirect=False)
        for line in got.headers.getlist("set-cookie"):
            name, _, rest = line.partition("=")
            self.cookies[name] = rest.partition(";")[0]
            if path == "/login" and (found := re.search(r"; path=(/~[^;]+)", line, re.IGNORECASE)):
                self.root = found[1]
        text = got.data.decode()
        if self.root:
            got.headers["location"] = got.headers.get("location", "").replace(self.root, "", 1)
            text = text.replace(f'="{self.root}/', '="/')
        return Answer(got.status, got.headers, text)


def code(home: Path) -> str:
    """A new one-time code, as `provisioner dashboard` makes it."""
    link = ok(home.parent, "dashboard", "--print", add={"PROVISIONER_HOME": str(home)}).strip()
    assert urlsplit(link).path == "/login"
    return urlsplit(link).fragment


@contextmanager
def visited(home: Path, *options: str) -> Iterator[tuple[Server, Visitor]]:
    """A server, and somebody who is logged in by a link."""
    with serving(home, *options) as server:
        visitor = Visitor(server.base)
        assert visitor.log_in(code(home)).status == 303
        yield server, visitor
