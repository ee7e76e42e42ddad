"""A database that somebody changes from the dashboard, without a browser: forms are read from pages and sent back."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from connect_world import Server
from dashboard_world import Answer, Visitor
from support import database_of, files

from provisioner.kv import open_kv
from provisioner.kv.codec.key import encode


class World:
    """A server, somebody who is logged in, and the database of the branch 'login': or another one, which is kept there."""

    def __init__(self, server: Server, visitor: Visitor, repo: Path, identity: str = "", kept: str = "") -> None:
        self.server, self.visitor, self.repo = server, visitor, repo
        self.file = kept or files(repo)["login"]
        self.path = f"/databases/{identity or database_of(repo, 'git-branch/login')['id']}"

    def get(self, key: tuple[Any, ...]) -> Any:
        with open_kv(str(self.file)) as kv:
            return kv.get(key)

    def set(self, key: tuple[Any, ...], value: Any, **how: Any) -> None:
        with open_kv(str(self.file)) as kv:
            kv.set(key, value, **how)

    def page(self, name: str, key: tuple[Any, ...]) -> Answer:
        return self.visitor.get(f"{self.path}/{name}?key={encode(key).hex()}")

    def create(self, key: str, value: str, spelling: str = "json", expiry: str = "") -> Answer:
        fields = {"key": key, "value": value, "spelling": spelling, "expiry": expiry}
        return self.visitor.post(f"{self.path}/new", {"csrf": self.visitor.csrf, **fields})

    def send(self, page: str, fields: dict[str, str], name: str, key: tuple[Any, ...]) -> Answer:
        """What a browser sends of the form on a page, with these fields filled in."""
        sent = {"csrf": self.visitor.csrf, **form(page), **fields}
        return self.visitor.post(f"{self.path}/{name}?key={encode(key).hex()}", sent)

    def undo(self, answer: Answer) -> Answer:
        """Press the button of the note on the page that an answer leads to."""
        assert answer.status == 303, answer.text
        page = self.visitor.get(answer.location).text
        found = re.findall(r'name="change" value="(\w+)"', page[: page.index("</nav>", page.index("<main"))])
        return self.visitor.post(f"{self.path}/undo", {"csrf": self.visitor.csrf, "change": found[-1]})


def form(page: str) -> dict[str, str]:
    """The fields of the form in the content of a page, as a browser would send them."""
    content = page[page.index("<main") :]
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', content))
    for value, attributes in re.findall(r'<input value="([^"]*)"([^>]*)>', content):
        found[re.search(r'name="(\w+)"', attributes)[1]] = value  # type: ignore[index]
    for name, value in re.findall(r'<textarea[^>]*name="(\w+)"[^>]*>\n(.*?)</textarea>', content, re.DOTALL):
        found[name] = value.replace("\r\n", "\n").replace("\n", "\r\n")
    for value in re.findall(r'name="spelling" value="(\w+)" checked', content):
        found["spelling"] = value
    return {name: html.unescape(value) for name, value in found.items()}
