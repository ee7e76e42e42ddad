"""What completes the last of some words: the answer to a shell at each Tab. It is silent whatever goes wrong."""

from __future__ import annotations

import os
import sys

from provisioner.cli.completion.command_tree import Node, tree
from provisioner.cli.completion.values import MOST, CompletionNames
from provisioner.environment.resolve import Selectors
from provisioner.system.home import Home, home_directory

FILES = ":files"  # the shell's own completion of paths, instead of words
WORD = "__complete"  # provisioner __complete SHELL …
_PATHS = {"FILE", "PATH", "DIR", "DIRECTORY", "FILE.sql", "FILE.py"}
_LIKE_PATHS = ("/", "./", "../", "~")
_ARCHIVED = (["database", "recover"], ["database", "purge"])
_SPECIAL = {  # what a position means that its word alone does not say
    ("var unset", "NAME"): "VARIABLE",
    ("token revoke", "ID"): "TOKEN",
    ("preview delete", "COMMIT"): "PREVIEW",
    ("instance recover", "INSTANCE"): "DELETED",
}
_SELECTORS = {"--app": "app", "--branch": "branch", "--timeline": "timeline", "--instance": "instance"}


def answer(words: list[str]) -> None:
    """Print what completes: ``bash LINE BREAKS``, or the shell and the words up to the cursor. A word a line, and for shells
    that show it, a tab and what it is."""
    try:
        shell, *rest = words
        typed = split(rest[0]) if shell == "bash" else rest
        found = complete(typed[1:] or [""], dict(os.environ))
        cut = _cut(typed[-1], rest[1]) if shell == "bash" else 0
        lines = [word[cut:] if shell == "bash" else f"{word}\t{what}" for word, what in found]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    except Exception:  # a failure must not be printed into a line that is being typed
        sys.stderr = None


def complete(words: list[str], environ: dict[str, str]) -> list[tuple[str, str]]:
    """What the last word may become, each with what it is."""
    *before, typed = words
    state = _TypedLine(tree(environ))
    for word in before:
        state.read(word)
    if state.behind_dashes:
        return [(FILES, "")]
    if state.waiting is not None:
        return _values(state, state.waiting, typed, environ)
    if typed.startswith("-"):
        name, equals, value = typed.partition("=")
        if equals and (kinds := state.option(name)):
            return [
                (f"{name}={found}", what) for found, what in _values(state, kinds, value, environ) if found != FILES
            ]
        return [(name, what) for name, what in state.options() if name.startswith(typed)]
    if state.node["commands"]:
        below = state.node["commands"].items()
        return [(name, node["summary"]) for name, node in below if name.startswith(typed)]
    return _values(state, state.position(), typed, environ)


class _TypedLine:
    """Where in the tree the words before the last one lead, and which selectors they have said."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.path: list[str] = []
        self.selectors = Selectors()
        self.waiting: list[str] | None = None  # for the value of an option
        self.behind_dashes = False
        self._option = ""
        self._taken = 0
        self._above: list[Node] = []

    def read(self, word: str) -> None:
        if self.waiting is not None:
            self._select(self._option, word)
            self.waiting = None
        elif word == "--":
            self.behind_dashes = True
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            if equals:
                self._select(name, value)
            else:
                self.waiting, self._option = self.option(name), name
        elif word in self.node["commands"]:
            self._above.append(self.node)
            self.node = self.node["commands"][word]
            self.path.append(word)
        else:
            self._taken += 1

    def option(self, name: str) -> list[str] | None:
        """The words that stand for its value; None for a flag, or what is unknown."""
        found: list[str] | None = self.node["options"].get(name, ("", None))[1]
        return found

    def options(self) -> list[tuple[str, str]]:
        return [(name, what) for name, (what, _) in sorted(self.node["options"].items()) if name.startswith("--")]

    def position(self) -> list[str]:
        """The words of the position that comes next; with a selector the first one, TARGET, is there already."""
        places: list[list[str]] = self.node["arguments"]
        taken = self._taken
        named = self.selectors.branch or self.selectors.timeline
        if places and places[0] == ["TARGET"] and named:
            taken += 1
        if taken >= len(places):
            return places[-1] if places and self.node.get("repeats") else []
        return places[taken]

    def _select(self, name: str, value: str) -> None:
        if name in _SELECTORS:
            setattr(self.selectors, _SELECTORS[name], value)


def _values(state: _TypedLine, kinds: list[str], typed: str, environ: dict[str, str]) -> list[tuple[str, str]]:
    if _PATHS.intersection(kinds) or (typed.startswith(_LIKE_PATHS) and "TARGET" in kinds):
        return [(FILES, "")]
    command = " ".join(state.path)
    found = [(kind, "") for kind in kinds if kind.islower() and kind.startswith(typed)]
    names: CompletionNames | None = None
    for kind in kinds:
        prefix, colon, bare = kind.rpartition(":")  # fork:BRANCH
        if not bare.isupper() or not typed.startswith(prefix + colon):
            continue
        names = names or CompletionNames(Home(home_directory(environ)), os.getcwdb(), state.selectors)
        meant = _SPECIAL.get((command, bare), bare)
        rest = typed[len(prefix + colon) :]
        found += [(f"{prefix}{colon}{name}", "") for name in names.of(meant, rest, archived=state.path in _ARCHIVED)]
    return found[:MOST]


def split(line: str) -> list[str]:
    """The words of a line as bash reads them, up to the cursor; the last one may be unfinished, or empty."""
    words, word, quote, escaped = [""], "", "", False
    for char in line:
        if escaped:
            word, escaped = word + char, False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "'\"":
            quote = char
        elif char.isspace():
            words, word = ([*words[:-1], word, ""], "") if word else (words, word)
        else:
            word += char
        words[-1] = word
    return words


def _cut(typed: str, breaks: str) -> int:
    """The length of the part that bash has split off as separate words: it only replaces what follows the last break."""
    return max((typed.rfind(char) + 1 for char in breaks if char not in " \t\n"), default=0)
