"""A change that a person has requested: checked, stated as a question, and done after the answer is yes.

The command line and the dashboard have their own prompts for the same questions and the same changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from provisioner.core.confirmation import must_match
from provisioner.core.model import App
from provisioner.reconcile.apply.step_result import Progress

STEPS = {"ensure": "provisioned", "archive": "archived", "purge": "deleted"}
"""A reconcile's actions on databases, in words for people."""


class ProgressReporter(Protocol):
    """A reporter of progress."""

    def say(self, line: str) -> None: ...

    def stopping(self) -> bool:
        """Whether to end commands that take long. The next process starts them again."""
        ...

    def reconciling(self, app: App, *, steps: bool) -> AbstractContextManager[Progress | None]:
        """Reports an app's steps inside the block; with `steps` it reports every step, for example to a log."""
        ...


class NullReporter:
    """A reporter that discards everything."""

    def say(self, line: str) -> None:
        pass

    def stopping(self) -> bool:
        return False

    def reconciling(self, app: App, *, steps: bool) -> AbstractContextManager[Progress | None]:
        return nullcontext()


NULL_REPORTER = NullReporter()


class Warned(str):
    """A line with a warning about a change that was made."""

    __slots__ = ()


Doing = Callable[[ProgressReporter], Iterator[str]]
"""Does it while it is iterated; yields lines for people about what was done. Raises ProvisionerError, even after lines."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`question` states the effect as a question; empty if no confirmation is needed.

    `details` precede the question. If `typed` is not empty, that word must be typed instead of yes. An answer is valid
    for one question: `about` identifies it if its words change each time, as a time does.
    """

    do: Doing
    question: str = ""
    details: tuple[str, ...] = ()
    typed: str = ""
    about: str = ""

    @property
    def mark(self) -> str:
        """A token for this question; empty if there is none."""
        return (
            sha256((self.about or self.question).encode("utf-8", "surrogateescape")).hexdigest()
            if self.question
            else ""
        )

    def answered(self, text: str) -> None:
        """Raises NotConfirmed if another word was typed."""
        must_match(text, self.typed)
