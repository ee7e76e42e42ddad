"""What was typed into a form whose session had ended, carried through the login in two hidden fields of the login form.

After the login it is shown again, in a form with the token of the new session, and done only when that is sent. So a page of
another site gains nothing by sending it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

TYPED: Final = "typed"
_NOT_TYPED: Final = ("csrf", "answer", "asked", TYPED)
"""Fields of the session that has ended: its token, and an answer to a question that will be shown again."""


def packed(form: Mapping[str, str]) -> str:
    """The fields of a form, or those that it already carries."""
    before = unpacked(form)
    fields = form if before is None else before
    return json.dumps({name: value for name, value in fields.items() if name not in _NOT_TYPED})


def unpacked(form: Mapping[str, str]) -> dict[str, str] | None:
    """What a form carries; None if it carries nothing."""
    try:
        found = json.loads(form[TYPED])
    except (KeyError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return None
    return {name: value for name, value in found.items() if name not in _NOT_TYPED}
