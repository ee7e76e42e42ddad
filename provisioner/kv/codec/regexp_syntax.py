"""Whether JavaScript could take a text for a regular expression, as far as brackets and quantifiers tell.

A value whose expression JavaScript refuses becomes unreadable for Deno, so expressions that people write are checked, in one pass
and without compiling it. What passes here may still be refused there: https://tc39.es/ecma262/#sec-patterns has all of it.
"""

from __future__ import annotations

from typing import Final

from provisioner.kv.model import RegExp

_QUANTIFIERS: Final = frozenset("*+?")


def problem(expression: RegExp) -> str:
    """What is wrong with it; empty where nothing was found."""
    source = expression.source
    nested = "v" in expression.flags  # classes stand within classes
    groups = classes = at = 0
    repeatable = False  # is there something that a quantifier can be for?
    while at < len(source):
        letter = source[at]
        at += 1
        if letter == "\\":
            if at == len(source):
                return "a backslash ends it"
            at += 1
            repeatable = True
        elif classes:
            classes += (letter == "[" and nested) - (letter == "]")
            repeatable = True
        elif letter == "[":
            classes, repeatable = 1, True
        elif letter == "(":
            groups += 1
            at += source.startswith("?", at)
            repeatable = False
        elif letter == ")":
            groups -= 1
            if groups < 0:
                return "a group is closed that was not opened"
            repeatable = True
        elif letter in _QUANTIFIERS:
            if not repeatable:
                return f"there is nothing to repeat before {letter}"
            at += source.startswith("?", at)
            repeatable = False
        else:
            repeatable = letter != "|"
    if classes:
        return "a class is not closed"
    return "a group is not closed" if groups else ""
