"""The statements of an SQL script, split where psql splits them (its psqlscan.l). No I/O, and no command of psql's is run.

Nothing depends on how a hostile script is split: every part of it goes to the server as SQL, as a role that may do no more
than the database's own. What is between statements and starts with a backslash is for psql; `Statements` refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Outside of quotes: the tokens that start or end something. A string with C's escapes differs from a word that ends in `e`.
_TOKEN = re.compile(
    rb"""[eE]'|'|"|\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$|--|/\*|[;\\()]"""
    rb"""|[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff$]*"""
)
_COMMENT = re.compile(rb"/\*|\*/")
_ESCAPED = re.compile(rb"\\|'")
_RESTRICT = re.compile(rb"\\(?:un)?restrict [A-Za-z0-9]+\s*\Z")  # in which pg_dump since 2025 encloses a script
_HEAD = 4  # words that say what a statement is


@dataclass(frozen=True, slots=True)
class Statement:
    """Its text, the number of the line it begins in, and its first words, in lower case."""

    text: bytes
    line: int
    words: tuple[bytes, ...]


class PsqlCommand(Exception):  # noqa: N818 - what was found
    """A line of a script is a command of psql's."""

    def __init__(self, line: int, text: bytes) -> None:
        super().__init__(line, text)
        self.line, self.text = line, text.decode(errors="replace")


class Statements:
    """Iterates over the statements in `lines`. Who gets one may take lines from there: the data of a COPY.

    `escapes` returns whether a backslash in a plain string escapes, as old settings have it. Raises PsqlCommand.
    """

    def __init__(self, lines: Iterator[bytes], escapes: Callable[[], bool] = lambda: False) -> None:
        self._lines, self._escapes = lines, escapes
        self.line = 0
        self._quote = b""  # what ends that in which the next byte is
        self._comments = 0
        self._continued = False  # a string with escapes has just ended: another literal would be its continuation
        self._begin()

    def __iter__(self) -> Iterator[Statement]:
        for line in self._numbered():
            yield from self._of(line)
        if self._words or self._quote or self._some:
            yield self._made()

    def take(self) -> bytes:
        """The next line, which is not SQL; empty at the end."""
        self.line += 1
        return next(self._lines, b"")

    def _numbered(self) -> Iterator[bytes]:
        for line in self._lines:
            self.line += 1
            yield line.removeprefix(b"\xef\xbb\xbf") if self.line == 1 else line

    def _begin(self) -> None:
        self._text: list[bytes] = []
        self._first = 0
        self._words: list[bytes] = []
        self._some = False
        self._parentheses = self._bodies = 0

    def _made(self) -> Statement:
        made = Statement(b"".join(self._text), self._first, tuple(self._words))
        self._begin()
        return made

    def _of(self, line: bytes) -> Iterator[Statement]:
        start = at = 0
        while at < len(line):
            if self._comments:
                at = self._in_comment(line, at)
                start = start if self._some else at
                continue
            if self._quote:
                at = self._in_quote(line, at)
                continue
            found = _TOKEN.search(line, at)
            between = line[at : found.start() if found else len(line)].strip()
            if found is None and not between:
                break
            token = found[0] if found else b""
            if (between or token not in (b"--", b"/*", b"\\", b"")) and not self._some:
                self._some, self._first = True, self.line
                start = at if between else found.start() if found else at
            at = found.end() if found else len(line)
            if token == b"--":
                if not self._some:
                    start = len(line)
                break
            if token == b"\\":
                self._backslash(line, at - 1)
                start = len(line)
                break
            if self._ends(token):
                self._text.append(line[start:at])
                start = at
                yield self._made()
        if self._some:
            self._text.append(line[start:])

    def _ends(self, token: bytes) -> bool:
        """Take in what was found outside of quotes. True where it ends the statement."""
        continued, self._continued = self._continued, False
        if token in (b"e'", b"E'") or (token == b"'" and (continued or self._escapes())):
            self._quote = b"\\"
        elif token in (b"'", b'"') or token[:1] == b"$":
            self._quote = token
        elif token == b"/*":
            self._comments = 1
        elif token == b"(":
            self._parentheses += 1
        elif token == b")":
            self._parentheses = max(0, self._parentheses - 1)
        elif token == b";":
            return not self._parentheses and not self._bodies
        elif token:
            self._word(token.lower())
        return False

    def _word(self, word: bytes) -> None:
        if len(self._words) < _HEAD or self._words[0] == b"copy":
            self._words.append(word)
        if self._parentheses or not self._is_routine():
            return
        if word == b"begin" or (word == b"case" and self._bodies):
            self._bodies += 1
        elif word == b"end" and self._bodies:
            self._bodies -= 1

    def _is_routine(self) -> bool:
        """Does the statement make a function, whose body may be statements between BEGIN ATOMIC and END?"""
        kinds = (b"function", b"procedure")
        create, *rest = self._words
        if create != b"create" or not rest:
            return False
        return rest[0] in kinds or (rest[:2] == [b"or", b"replace"] and rest[2:3] in ([kinds[0]], [kinds[1]]))

    def _in_comment(self, line: bytes, at: int) -> int:
        found = _COMMENT.search(line, at)
        if found is None:
            return len(line)
        self._comments += 1 if found[0] == b"/*" else -1
        return found.end()

    def _in_quote(self, line: bytes, at: int) -> int:
        if self._quote != b"\\":
            end = line.find(self._quote, at)
            if end < 0:
                return len(line)
            end += len(self._quote)
            self._quote = b""
            return end
        found = _ESCAPED.search(line, at)
        if found is None:
            return len(line)
        if found[0] == b"\\" or line[found.end() : found.end() + 1] == b"'":
            return found.end() + 1
        self._quote, self._continued = b"", True
        return found.end()

    def _backslash(self, line: bytes, at: int) -> None:
        if self._some or line[:at].strip() or not _RESTRICT.match(line, at):
            raise PsqlCommand(self.line, line[at:].strip())
