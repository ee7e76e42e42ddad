"""`config.toml` in the home: defaults for the options of `up`, `serve`, and `watch`, and for colors."""

from __future__ import annotations

import os
from typing import Any

from provisioner.core.errors import UsageError

NAME = "config.toml"
COLOR = "color"


def path_of(home: str) -> str:
    return os.path.join(home, NAME)


def color_of(home: str) -> str | None:
    """The file's setting for colors; None if it has none, or cannot be read: no command is refused because of a color."""
    if not os.path.exists(path_of(home)):
        return None
    try:
        found = table(path_of(home)).get(COLOR)
    except UsageError:
        return None
    return found if isinstance(found, str) else None


def table(path: str) -> dict[str, Any]:
    """What is in the file; nothing if there is none. Raises UsageError."""
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "Make it readable, or remove it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "Correct it, or remove it") from error
