"""Reading a ``.env`` file. Syntax that its readers do not agree on is an error with its line, never a guess."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from provisioner.core.errors import UsageError
from provisioner.environment.env_block import BEGIN, END, MOST

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=#'\"]+)[ \t]*=[ \t]*")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_SKIP = re.compile(r"[ \t]*(?:#[^\n]*)?\n|[ \t]*(?:#[^\n]*)?\Z")
_PLAIN = re.compile(r"[^\n]*")
_BEGIN = "\n" + BEGIN[:20]
_END = "\n" + END.rstrip("\n")
Where = Callable[[], str]
"""The file and the line, for an error: lines are counted only then."""

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}


def parse(path: str, text: str) -> dict[str, str]:
    """The variables of a file, of which `path` is for messages; provisioner's own block is ignored.

    A value is taken literally in single quotes, with ``\\n`` and the like in double quotes, and up to a `` #`` without any.
    """
    if len(text) > MOST:
        raise UsageError(f"{path} has more than {MOST} characters", "Use a file of variables")
    text = _without_ours(text.removeprefix("\ufeff").replace("\r\n", "\n"))

    def where(position: int) -> str:
        line = text.count("\n", 0, position) + 1
        return f"{path}, line {line}"

    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        if skipped := _SKIP.match(text, position):
            position = max(skipped.end(), position + 1)
            continue
        name = _NAME.match(text, position)
        if name is None:
            raise UsageError(f"{where(position)}: this is not NAME=VALUE", "Correct it, or put a # in front")
        value, position = _value(partial(where, position), text, name.end())
        found[name[1]] = value
    return found


def _without_ours(text: str) -> str:
    """The text with provisioner's blocks as empty lines; one without an end does not count."""
    pieces: list[str] = []
    at, text = 0, "\n" + text
    while (begin := text.find(_BEGIN, at)) >= 0 and (end := text.find(_END, begin + 1)) >= 0:
        pieces += text[at:begin], "\n" * (text.count("\n", begin, end) + 1)
        at = end + len(_END)
    return "".join((*pieces, text[at:]))[1:]


def _value(where: Where, text: str, start: int) -> tuple[str, int]:
    """A value, and the position of the next line."""
    quote = text[start : start + 1]
    if quote not in ("'", '"'):
        plain = _PLAIN.match(text, start)
        assert plain is not None  # noqa: S101
        value = re.split(r"(?:^|[ \t])#", plain[0], maxsplit=1)[0].strip(" \t")
        return _unexpanded(where, value), plain.end() + 1
    end = start + 1
    while end < len(text) and text[end] != quote:
        end += 2 if quote == '"' and text[end] == "\\" else 1
    rest = _REST.match(text, end + 1) if end < len(text) else None
    if rest is None:
        problem = "something follows the quote" if end < len(text) else "the quote has no end"
        raise UsageError(f"{where()}: {problem}", "Correct it, or put a # in front")
    inner = text[start + 1 : end]
    return (inner if quote == "'" else _unescaped(where, inner)), rest.end()


def _unescaped(where: Where, text: str) -> str:
    def character(escape: re.Match[str]) -> str:
        if escape[1] not in _ESCAPES:
            raise UsageError(f"{where()}: not all readers know the escape {escape[0]}", "Use single quotes, or \\\\")
        return _ESCAPES[escape[1]]

    _unexpanded(where, text.replace("\\\\", "").replace("\\$", ""))
    return re.sub(r"\\(.)", character, text, flags=re.DOTALL)


def _unexpanded(where: Where, text: str) -> str:
    if "${" in text:
        raise UsageError(
            f"{where()}: ${{…}} is not expanded here", "Write the value itself, or put it in single quotes"
        )
    return text
