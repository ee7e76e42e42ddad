"""What somebody wants done: checked, put into a question, and done once the answer is yes.

The command line and the dashboard ask in their own ways; what they ask, and what is done then, is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App
from provisioner.reconcile.apply.applier import Progress

STEPS = {"ensure": "provisioned", "archive": "archived", "purge": "deleted"}
"""What a reconcile does with databases, in the words that people read."""


class ProgressReporter(Protocol):
    """Who is told of what takes a while."""

    def say(self, line: str) -> None: ...

    def stopping(self) -> bool:
        """Shall commands that take long be ended? Whoever comes next begins them anew."""
        ...

    def reconciling(self, app: App, *, steps: bool) -> AbstractContextManager[Progress | None]:
        """Hears of an app's steps inside the block; with `steps` each is of interest, also to who reads it later."""
        ...


class NullReporter:
    """Who is told, and does not listen."""

    def say(self, line: str) -> None:
        pass

    def stopping(self) -> bool:
        return False

    def reconciling(self, app: App, *, steps: bool) -> AbstractContextManager[Progress | None]:
        return nullcontext()


NULL_REPORTER = NullReporter()


class Warned(str):
    """A line that says what somebody should look at, though the change was made."""

    __slots__ = ()


Doing = Callable[[ProgressReporter], Iterator[str]]
"""Does it, as far as one iterates; what was done comes as lines for people. Raises ProvisionerError, also after lines."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`question` says what will happen, with the question mark in it; empty where nothing is taken from anybody.

    `details` come before the question. Where `typed` is not empty, that word is the answer, and not yes. An answer is good
    for one question: `about` says which where its words, as a time does, are others each time that it is asked.
    """

    do: Doing
    question: str = ""
    details: tuple[str, ...] = ()
    typed: str = ""
    about: str = ""

    @property
    def mark(self) -> str:
        """The same for the same question; empty where there is none."""
        return (
            sha256((self.about or self.question).encode("utf-8", "surrogateescape")).hexdigest()
            if self.question
            else ""
        )

    def answered(self, text: str) -> None:
        """Raises ProvisionerError where the word to be typed is another."""
        if text != self.typed:
            raise ProvisionerError(f"{text[:64]!r} is not {self.typed!r}: nothing was done", "Try again")
