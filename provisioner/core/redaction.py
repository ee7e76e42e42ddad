"""Removing credentials from text, in each form in which programs write them.

A secret is found verbatim, percent-encoded, as JSON, HTML, Python or a shell quote it, in base64 at any alignment, and in
hexadecimal. A secret that a program splits, reverses, or encrypts is not found: no log can promise that.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, quote_plus, unquote

HIDDEN: Final = "•••"
SHORTEST: Final = 6
"""Characters. A shorter secret is hidden only as a whole word, or after its name, because it may be in any text by chance."""

_WORD: Final = 4  # characters: what is shorter is hidden only after its name
_SHORTEST_ENCODED: Final = 8  # of base64 that is only the middle of what was encoded
_HIDDEN: Final = HIDDEN.encode()
_TOKEN: Final = re.compile(rb"\bpt[a-z]_[A-Za-z0-9_-]{16,}")  # what access tokens look like
_URL_PASSWORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s:@]*:([^@/?#\s]+)@")
_LONGEST_LINE: Final = 1 << 16

CREDENTIAL_NAMES: Final = re.compile(r"SECRET|TOKEN|PASSW|PASSPHRASE|API_?KEY|PRIVATE_?KEY|CREDENTIAL", re.IGNORECASE)
"""Parts of the names of variables with credentials, for those that are not marked as secret."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret value. ``name``: that of the variable it is in, if it is in one."""

    value: str = field(repr=False)
    name: str = ""


def secrets_in(variables: Mapping[str, str]) -> Iterator[Secret]:
    """The passwords in URLs that are the values of variables."""
    for value in variables.values():
        for password in _URL_PASSWORD.findall(value):
            yield Secret(password)
            yield Secret(unquote(password))


class Redactor:
    """Removes secrets, and access tokens, from text. Takes time in proportion to the text times the number of secrets."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        literals: set[bytes] = set()
        words: set[bytes] = set()
        for secret in secrets:
            for line in {secret.value, *secret.value.splitlines()}:
                if len(line) >= SHORTEST:
                    literals |= written_forms(line)
                elif line.strip():
                    words.add(_short(line, secret.name))
        words.discard(b"")
        # text is processed line by line, and each line of a secret is a separate secret
        self._literals = sorted(literal for literal in literals if b"\n" not in literal)
        self._patterns = [_TOKEN, *map(re.compile, sorted(words))]
        self.longest = max(map(len, self._literals), default=0)

    def text(self, text: str) -> str:
        """The same text with secrets replaced."""
        return os.fsdecode(self.data(os.fsencode(text)))

    def data(self, data: bytes) -> bytes:
        """The same bytes with secrets replaced."""
        return self._replaced(data, self.spans(data))

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """The ranges to hide: in order, none of them overlapping or touching another."""
        found: list[tuple[int, int]] = []
        for literal in self._literals:
            at = data.find(literal)
            while at >= 0:
                found.append((at, at + len(literal)))
                at = data.find(literal, at + len(literal))
        found += [match.span() for pattern in self._patterns for match in pattern.finditer(data)]
        merged: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged

    @staticmethod
    def _replaced(data: bytes, spans: list[tuple[int, int]]) -> bytes:
        pieces, at = [], 0
        for start, end in spans:
            pieces += [data[at:start], _HIDDEN]
            at = end
        return b"".join([*pieces, data[at:]])

    def until(self, data: bytes, end: int) -> tuple[bytes, int]:
        """The redacted start of `data`, up to `end` or to the end of a secret there; and its length."""
        spans = [span for span in self.spans(data) if span[0] < end]
        end = max([end, *(span[1] for span in spans[-1:])])
        return self._replaced(data[:end], spans), end


class RedactedStream:
    """Text that comes in pieces, redacted as a whole: a secret may be cut anywhere.

    A line is held back until it has ended; of a very long one, only as much as may be the start of a secret.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._rest = bytearray()

    def write(self, data: bytes) -> bytes:
        """The text that is safe to print after this piece."""
        ended = data.rfind(b"\n") + 1
        if ended:
            whole = bytes(self._rest) + data[:ended]
            self._rest = bytearray(data[ended:])
            return self._redactor.data(whole) + self._overflow()
        self._rest += data
        return self._overflow()

    def _overflow(self) -> bytes:
        kept = max(self._redactor.longest - 1, 256)
        if len(self._rest) <= max(_LONGEST_LINE, 2 * kept):
            return b""
        told, end = self._redactor.until(bytes(self._rest), len(self._rest) - kept)
        del self._rest[:end]
        return told

    def close(self) -> bytes:
        """The text that was held back."""
        rest, self._rest = bytes(self._rest), bytearray()
        return self._redactor.data(rest)


def written_forms(value: str) -> set[bytes]:
    """The forms in which programs write a value."""
    raw = os.fsencode(value)
    texts = {value, html.escape(value), html.escape(value, quote=False), repr(value)[1:-1]}
    for safe in ("", "/"):
        encoded = quote(raw, safe=safe)
        texts |= {encoded, re.sub("%..", lambda found: found[0].lower(), encoded)}
    texts.add(quote_plus(raw))
    for plain in (True, False):
        quoted = json.dumps(value, ensure_ascii=plain)[1:-1]
        texts |= {quoted, quoted.replace("/", "\\/")}
    texts |= {shlex.quote(value), value.replace("'", "'\\''"), re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)}
    forms = {os.fsencode(text) for text in texts} | {raw.hex().encode(), raw.hex().upper().encode()}
    for form in tuple(_in_base64(raw)):
        forms |= {form, form.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """The part of an encoding that does not depend on the text around the value."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        first = (0, 2, 3)[before]
        last = len(encoded) - (0, 3, 2)[(before + len(raw)) % 3]
        if last - first >= _SHORTEST_ENCODED:
            yield encoded[first:last]


def _short(value: str, name: str) -> bytes:
    """A pattern for a secret of a few characters; empty if nothing distinguishes it from other text."""
    escaped = re.escape(os.fsencode(value))
    if len(value) >= _WORD:
        return rb"(?<![A-Za-z0-9_])" + escaped + rb"(?![A-Za-z0-9_])"
    if not name:
        return b""
    # the pattern must start where the value does: the text before it is not hidden
    before = [re.escape(name.encode()) + between for between in (b"=", b": ", b":", b'="', b"='", b'": "', b'":"')]
    looks = b"|".join(rb"(?<=" + one + rb")" for one in before)
    return rb"(?:" + looks + rb")" + escaped + rb"(?![A-Za-z0-9_])"
