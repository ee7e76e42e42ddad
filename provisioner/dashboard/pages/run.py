"""The page of one run of a command: its facts, its outcome, and its log, one piece at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from provisioner.core.ids import RunId
from provisioner.core.model import RunState
from provisioner.dashboard.pages.suggest import timeline_of
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.registry import queries
from provisioner.registry.redaction import mask
from provisioner.runs.process import log_path

PIECE: Final = 65_536  # bytes
_COLOURS: Final = re.compile("\x1b\\[[0-9;:]*m")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some lines of a log, as a range of its bytes; `older` and `newer` are where the next pieces end."""

    text: str
    start: int
    end: int
    size: int

    @property
    def older(self) -> int | None:
        return self.start or None

    @property
    def newer(self) -> int | None:
        return min(self.end + PIECE, self.size) if self.end < self.size else None


def page(visit: PageContext) -> Response:
    app, timeline = timeline_of(visit)
    run = queries.run_of(visit.registry, timeline, RunId(visit.parameter("run_id")))
    if run is None:
        raise Missing("this run no longer exists", "The last 20 runs of each timeline are kept")
    given = visit.query("before")
    before = int(given) if given.isdecimal() and len(given) < 12 else None
    hide = mask(visit.registry, app).text
    return visit.page(
        "run.html",
        app=app,
        timeline=timeline,
        run=run,
        running=run.state is RunState.RUNNING,
        before=before,
        mask=hide,
        log=read(log_path(visit.shared.home, run.id), before, hide),
    )


def size(path: str) -> int:
    """The size of a log in bytes; 0 if there is none yet."""
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def read(path: str, before: int | None, hide: Callable[[str], str]) -> Piece:
    """The lines that end before this byte, or the last ones: about `PIECE` bytes of them."""
    whole = size(path)
    end = whole if before is None else min(before, whole)
    start = max(0, end - PIECE - 1)
    try:
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(end - start)
    except OSError:
        data = b""
    if start:
        cut = data.find(b"\n") + 1  # 0: it is all one line
        start, data = start + cut, data[cut:]
    if end < whole and (left := len(data) - data.rfind(b"\n") - 1) < len(data):
        end, data = end - left, data[: len(data) - left]
    return Piece(hide(_plain(data)), start, end, whole)


def _plain(data: bytes) -> str:
    """The text without colors and with spaces for tabs; the template escapes all other control characters."""
    text = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return _COLOURS.sub("", text).expandtabs(8)
