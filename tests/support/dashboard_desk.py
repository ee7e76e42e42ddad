"""Somebody who changes things from the dashboard, without a browser, and waits for what comes of it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dashboard_world import Answer, Visitor, code, visited
from support import until


@dataclass(frozen=True, slots=True)
class Desk:
    """Somebody at the dashboard, who goes on when what was asked for is done. `other` sees when that is."""

    visitor: Visitor
    other: Visitor

    def get(self, path: str) -> Answer:
        return self.visitor.get(path)

    def send(self, path: str, **fields: str) -> Answer:
        fields = {name.rstrip("_"): value for name, value in fields.items()}
        return self.waited(self.visitor.post(path, {"csrf": self.visitor.csrf, **fields}))

    def waited(self, answer: Answer) -> Answer:
        if answer.status == 303:
            until(lambda: "being applied" not in self.other.get("/activity").text)
        return answer

    def press(self, page: str, button: str) -> Answer:
        """What comes of pressing the button beside a note on a page."""
        text = self.get(page).text.partition("<h1")[0]
        for form in re.findall(r"<form .*?</form>", text, re.DOTALL):
            if f">{button}<" in form:
                action = re.search(r'action="([^"]+)"', form)
                assert action is not None
                fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
                given = {name: html.unescape(value) for name, value in fields.items()}
                return self.waited(self.visitor.post(action[1], given))
        raise AssertionError(f"no button {button!r}: {text}")


@contextmanager
def at_the_desk(home: Path) -> Iterator[Desk]:
    with visited(home) as (_, visitor):
        other = Visitor(visitor.base)
        other.log_in(code(home))
        yield Desk(visitor, other)
