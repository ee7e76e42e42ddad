"""`provisioner env` for the branch that is checked out, without click: shells run it at each prompt or change of directory."""

from __future__ import annotations

import os
import sys

from provisioner.cli import standard_output
from provisioner.cli.quick.exec import resolved, selected
from provisioner.environment.formats import FORMATS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never


def print_environment(words: list[str]) -> None:
    """Run ``[SELECTORS] [--format FORMAT | --json]``. Returns only where the words are not that: then click takes them."""
    as_json = words[-1:] == ["--json"]
    given = {} if as_json else {"--format": "shell"}
    parsed = selected(words[:-1] if as_json else words, given)
    format_name = given.get("--format", "json")
    if parsed is None or parsed[1] or format_name not in FORMATS:
        return
    try:
        standard_output.guard()
        _, values = resolved(parsed[0], dict(os.environ))
        standard_output.write(FORMATS[format_name](values).encode("utf-8", "surrogateescape"))
    except (Exception, KeyboardInterrupt) as error:
        _failed(error)
    sys.exit(0)


def _failed(error: BaseException) -> Never:
    from provisioner.cli.main import run

    def fail(_: object) -> int:
        raise error

    run(fail)
