"""Numbers of things in words for people: 1 database, 2 databases, 3 branches, 1,000 entries."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """The number and the noun, in the singular for 1. `noun` may be several words, the last of which has a regular plural."""
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def verb(number: int, singular: str, plural: str) -> str:
    """The form of a verb that agrees with the number."""
    return singular if number == 1 else plural


def _plural(noun: str) -> str:
    if noun.endswith(("ch", "sh", "s", "x")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
