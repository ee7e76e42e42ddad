"""What ``synchronous_standby_names`` says; its grammar is PostgreSQL's (src/backend/replication/syncrep_gram.y)."""

from __future__ import annotations

import re
from dataclasses import dataclass

ANYBODY = "*"
_TOKEN = re.compile(r'\s*(?:(?P<quoted>"(?:[^"]|"")+")|(?P<word>[^\s"(),]+)|(?P<mark>[(),]))')


@dataclass(frozen=True, slots=True)
class SynchronousStandbys:
    """A commit waits for `count` of the standbys `names`: the first that are there, or (`quorum`) any."""

    quorum: bool
    count: int
    names: tuple[str, ...]

    @property
    def anybody(self) -> bool:
        """Whether any connected node is one of them."""
        return ANYBODY in self.names


def parse(text: str) -> SynchronousStandbys | None:
    """None if commits wait for no standby. The server has accepted `text`; raises ValueError where it could not have."""
    tokens = _tokens(text)
    if not tokens:
        return None
    quorum, count = False, 1
    kinds = [kind for kind, _ in tokens]
    if kinds[:3] == ["word", "word", "("] and tokens[0][1].lower() in ("any", "first"):
        quorum, count, tokens = tokens[0][1].lower() == "any", _number(tokens[1][1], text), tokens[2:]
    elif kinds[:2] == ["word", "("]:
        count, tokens = _number(tokens[0][1], text), tokens[1:]
    if tokens[0][0] == "(":
        if tokens[-1][0] != ")":
            raise ValueError(text)
        tokens = tokens[1:-1]
    names, commas = tokens[::2], tokens[1::2]
    if len(names) != len(commas) + 1 or any(kind != "," for kind, _ in commas):
        raise ValueError(text)
    if any(kind not in ("word", "quoted") for kind, _ in names):
        raise ValueError(text)
    return SynchronousStandbys(quorum, count, tuple(value for _, value in names))


def _tokens(text: str) -> list[tuple[str, str]]:
    """Kind (of a mark: itself) and value of each."""
    found: list[tuple[str, str]] = []
    at, text = 0, text.rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(text)
        at = token.end()
        if (quoted := token["quoted"]) is not None:
            found.append(("quoted", quoted[1:-1].replace('""', '"')))
        else:
            found.append((token["mark"], "") if token["mark"] else ("word", token["word"]))
    return found


def _number(word: str, text: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise ValueError(text)
    return int(word)
