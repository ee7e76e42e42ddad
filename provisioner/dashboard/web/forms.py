"""Changes by forms: a request is checked, confirmed if it deletes or replaces something, and done.

A form is sent once to ask, and again, with the answer, from the confirmation page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.dashboard.web import carried, places
from provisioner.dashboard.web.background_tasks import Undo
from provisioner.dashboard.web.context import Missing, Page, PageContext
from provisioner.dashboard.web.sessions import Offer
from provisioner.operations.proposal import NULL_REPORTER, ProgressReporter, Proposal
from provisioner.registry.store import Registry

PATIENCE_SECONDS: Final = 0.7
MOST_PATIENCE_SECONDS: Final = 60
_WAIT: Final = re.compile(r"wait\s*=\s*([0-9]{1,3})", re.ASCII)
DETAILS: Final = 100
_OTHER: Final = "this changed while you were deciding, and nothing was done. Review it again"
MOST_GIVEN: Final = 1000  # characters of an address for a field


def _none(_: Registry) -> Offer | None:
    return None


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice that belongs to the answer: a field, its label, and the values with their labels. The first is the
    default."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RequestedChange:
    """`title` describes the change, `back` is the page that follows, `undo` returns the way to undo it.

    `meanwhile` is the page that follows if the change is still in progress, if it is another one.
    """

    title: str
    proposal: Proposal
    back: str
    undo: Undo = _none
    meanwhile: str = ""
    choices: tuple[Choice, ...] = ()


Propose = Callable[[PageContext, ProgressReporter], RequestedChange]
Form = Callable[[PageContext, ProvisionerError], Response]
"""Shows the form again, with the typed values and the error."""


def change(propose: Propose, form: Form | None = None) -> Page:
    """The page that a form is sent to. Raises ProvisionerError if that fails.

    A form that was sent after its session had ended is shown again; if there is none, the confirmation page is shown.
    """

    def page(visit: PageContext) -> Response:
        if visit.resumed and form is not None:
            return form(visit, LoggedOut())
        try:
            asked = propose(visit, NULL_REPORTER)
            wrong = "" if visit.resumed else _unanswered(visit, asked.proposal)
            return _done(visit, propose, asked, form) if wrong is None else _ask(visit, asked, wrong)
        except Missing:
            raise
        except ProvisionerError as error:
            if form is None:
                raise
            return form(visit, error)

    return page


class LoggedOut(ProvisionerError):  # noqa: N818
    """The session had ended when a form was sent."""

    def __init__(self) -> None:
        super().__init__("the session had ended, so nothing was changed", "Check your input, then send the form again")


class Misfilled(ProvisionerError):  # noqa: N818
    """The value of one field is invalid."""

    def __init__(self, field: str, error: ProvisionerError) -> None:
        super().__init__(error.message, error.hint)
        self.field = field


@contextmanager
def filling(field: str) -> Iterator[None]:
    """Errors in the block are shown beside this field."""
    try:
        yield
    except Misfilled:
        raise
    except ProvisionerError as error:
        raise Misfilled(field, error) from error


@dataclass(frozen=True, slots=True)
class Filled:
    """A form as it was sent, or with its initial values, and its error."""

    values: Mapping[str, str]
    error: ProvisionerError | None = None

    @property
    def status(self) -> int:
        if self.error is None:
            return 200
        return 400 if isinstance(self.error.__cause__ or self.error, UsageError) else 409

    def value(self, field: str, otherwise: str = "") -> str:
        return self.values.get(field, otherwise)

    def wrong(self, field: str) -> str:
        """The error of this field."""
        return str(self.error) if isinstance(self.error, Misfilled) and self.error.field == field else ""

    def elsewhere(self, *fields: str) -> str:
        """The error, if it belongs to none of these fields, which the form shows."""
        return "" if self.error is None or any(map(self.wrong, fields)) else str(self.error)


def form_of(visit: PageContext, error: ProvisionerError | None = None) -> Filled:
    """For the request of a page, the values in its address; for a form that was sent, the typed values."""
    if error is None:
        return Filled({name: value[:MOST_GIVEN] for name, value in visit.request.query_params.items()})
    return Filled(visit.form, error)


def _unanswered(visit: PageContext, proposal: Proposal) -> str | None:
    """Why the question must be shown: "" if it was not yet shown; None if there is none, or it was answered."""
    answer = visit.form.get("answer", "")
    if not proposal.question:
        return None
    if answer and visit.form.get("asked", proposal.mark) != proposal.mark:
        return _OTHER
    if not proposal.typed and answer == "yes":
        return None
    if not answer or not proposal.typed:
        return ""
    try:
        proposal.answered(answer)
    except ProvisionerError as error:
        return str(error)
    return None


def _ask(visit: PageContext, asked: RequestedChange, wrong: str) -> Response:
    proposal = asked.proposal
    asked_here = {"csrf", "answer", "asked", *(choice.name for choice in asked.choices)}
    return visit.page(
        "confirm.html",
        status=409 if wrong else 200,
        asked=asked,
        question=proposal.question,
        details=proposal.details[:DETAILS],
        left_out=max(0, len(proposal.details) - DETAILS),
        wrong=wrong,
        chosen=visit.form,
        path=visit.request.url.path,
        typed=visit.form.get("answer", ""),
        fields={
            **{name: value for name, value in visit.form.items() if name not in asked_here},
            "asked": proposal.mark,
            places.PAGE: places.came_from(visit.request, visit.form),
        },
    )


def _done(visit: PageContext, propose: Propose, asked: RequestedChange, form: Form | None) -> Response:
    works = visit.shared.works

    def proposed(registry: Registry, reporter: ProgressReporter) -> Proposal:
        found = propose(replace(visit, registry=registry), reporter).proposal
        if found.mark != asked.proposal.mark:  # it has waited for other changes
            raise ProvisionerError(_OTHER, "Try again")
        return found

    again = Offer("Back to the form", visit.here, {carried.TYPED: carried.packed(visit.form)}) if form else None
    work = works.begin(visit.session, asked.title, visit.now, proposed, asked.undo, again)
    if not work.over.wait(_patience(visit.request)) and works.leave(work):
        return visit.go(asked.meanwhile or asked.back)
    if work.trouble is not None and not work.lines:
        raise work.trouble
    visit.session.tell(replace(work.note, following=True))
    return visit.go(asked.back)


def _patience(request: Request) -> float:
    """In seconds: that of a person, or what a program asks for by `Prefer: wait=SECONDS` (RFC 7240)."""
    asked = _WAIT.fullmatch(request.headers.get("prefer", "").strip())
    return PATIENCE_SECONDS if asked is None else min(int(asked[1]), MOST_PATIENCE_SECONDS)
