"""The word that a person types to confirm the loss of production's data."""

from __future__ import annotations

from provisioner.core.errors import NotConfirmed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provisioner.core.model import App, Timeline


def name_to_type(app: App, timeline: Timeline) -> str:
    """The app's name for production; empty for other timelines, whose loss is confirmed by a yes."""
    return app.slug if timeline.production else ""


def must_match(answer: str, word: str) -> None:
    """Raises NotConfirmed if another word was typed."""
    if answer != word:
        raise NotConfirmed(f"{answer[:64]!r} is not {word!r}", "Nothing was changed")
