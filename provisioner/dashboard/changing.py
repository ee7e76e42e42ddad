"""Changes by forms: what is asked for is checked, asked back where it takes something away, and done.

A form is sent once to ask, and again, from the page that asks back, with the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from starlette.responses import Response

from provisioner.dashboard.sessions import Offer
from provisioner.dashboard.visiting import Missing, Page, Visit
from provisioner.dashboard.works import Undo
from provisioner.errors import ProvisionerError
from provisioner.operations.proposal import NOBODY, Proposal, Told
from provisioner.registry.store import Registry

PATIENCE_SECONDS: Final = 0.7
DETAILS: Final = 100


def _none(_: Registry) -> Offer | None:
    return None


@dataclass(frozen=True, slots=True)
class Asked:
    """`title` says what it is while it is being done, `back` is the page to go on to, `undo` tells how to take it back."""

    title: str
    proposal: Proposal
    back: str
    undo: Undo = _none


Propose = Callable[[Visit, Told], Asked]
Form = Callable[[Visit, ProvisionerError], Response]
"""The page of a form once more, with what was typed and what is wrong with it."""


def change(propose: Propose, form: Form | None = None) -> Page:
    """The page that a form is sent to. Raises ProvisionerError where that cannot be."""

    def page(visit: Visit) -> Response:
        try:
            asked = propose(visit, NOBODY)
            wrong = _unanswered(visit, asked.proposal)
        except Missing:
            raise
        except ProvisionerError as error:
            if form is None:
                raise
            return form(visit, error)
        if wrong is not None:
            return _ask(visit, asked, wrong)
        return _done(visit, propose, asked)

    return page


def _unanswered(visit: Visit, proposal: Proposal) -> str | None:
    """Why the question has to be asked, "" where it was not yet; None where there is none, or it was answered."""
    answer = visit.form.get("answer", "")
    if not proposal.question or (not proposal.typed and answer == "yes"):
        return None
    if not answer or not proposal.typed:
        return ""
    try:
        proposal.answered(answer)
    except ProvisionerError as error:
        return str(error)
    return None


def _ask(visit: Visit, asked: Asked, wrong: str) -> Response:
    proposal = asked.proposal
    return visit.page(
        "confirm.html",
        status=409 if wrong else 200,
        asked=asked,
        question=proposal.question,
        details=proposal.details[:DETAILS],
        left_out=max(0, len(proposal.details) - DETAILS),
        wrong=wrong,
        path=visit.request.url.path,
        fields={name: value for name, value in visit.form.items() if name not in ("csrf", "answer")},
    )


def _done(visit: Visit, propose: Propose, asked: Asked) -> Response:
    works = visit.shared.works

    def proposed(registry: Registry, told: Told) -> Proposal:
        return propose(replace(visit, registry=registry), told).proposal

    work = works.begin(visit.session, asked.title, visit.now, proposed, asked.undo)
    if not work.over.wait(PATIENCE_SECONDS) and works.leave(work):
        return visit.go(asked.back)
    if work.trouble is not None and not work.lines:
        raise work.trouble
    visit.session.tell(work.note)
    return visit.go(asked.back)
