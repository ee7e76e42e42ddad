"""The pages of the documentation: the commands in them, what they say that these print, and what they really print."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from paths import ROOT

END = "== end of a command =="
ANY_LINES = "…\n"
"""A line of a page that stands for any number of lines. Inside of a line, … stands for any text."""
ANY = r"(?:[^\n]*\n)*"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"(?:#|//) file: (\S+)\n")
"""The first line of a block that is a file of the page's example."""
STEP = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
LONGEST_OUTPUT = 14  # lines that a page shows of an output that is filled in


def pages() -> list[Path]:
    found = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    return [ROOT / "README.md", *sorted(found)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a page, and what the page says that it prints."""

    command: str
    output: str


def steps(page: Path) -> list[Step]:
    return [Step(*found) for block in BLOCK.findall(page.read_text()) for found in STEP.findall(block)]


def _script(page: Path) -> str:
    """Runs the commands of a page, with a mark after each, and writes its files, in their order on the page."""
    lines = ["exec 2>/dev/fd/1", "set -eu"]
    for kind, block in FENCED.findall(page.read_text()):
        if kind == "console":
            lines += [f"{command}\nprintf '\\n%s\\n' '{END}'" for command, _ in STEP.findall(block)]
        elif found := FILE.match(block):
            lines.append(f"cat > {found[1]} <<'{END}'\n{block[found.end() :]}{END}")
    return "\n".join(lines)


def run(page: Path, where: Path) -> list[str]:
    """What each command of a page prints, all of them in one shell. Raises AssertionError if one fails."""
    script = _script(page)
    done = subprocess.run(["sh", "-c", script], cwd=where, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [text.removesuffix("\n") + "\n" if text else "" for text in done.stdout.split(f"\n{END}\n")[:-1]]


# What a page shows instead of what every run has another of.
SHOWN = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:4512"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "5b1c09fe-7d10-4a52-9e3f-9f2c4e1b7a3d"),
    (re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "2026-01-02T03:04:05.678Z"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "9f2c4e1b7a3d5068c1e2f4a6b8d0931e5f7a2c4b"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{12}\b"), "9f2c4e1b7a3d"),
    (re.compile(r"\bpt([dks])_[\w-]+"), r"pt\1_…"),
    (re.compile(r"\bpv(\w?)_[0-9a-f]{8}_[0-9a-f]{32}\b"), r"pv\1_…"),
)
# What differs and is shown as it was in the run that has filled in the page.
VARYING = (
    (re.compile(r"\b(?:\d+|\d+\.\d+) (?:ms|s|min|h|d)\b"), "TIME"),
    (re.compile(r"\b[\d.]+ [kMGT]?B\b|\b\d+ bytes\b"), "SIZE"),
    (re.compile(r"-[0-9a-z]{25}\b"), "-HASH"),
    (re.compile(r"(?<=-)(?:\d{8}T\d{6}-)?(?=[a-f]*\d)[0-9a-f]{8}(?=[./])|(?<=\bpvo_)[0-9a-f]{8}"), "ID"),
    (re.compile(r"\b(?=[a-f]*\d)(?:[0-9a-f]{16}|[0-9a-f]{20})\b"), "ID"),
    (re.compile(r" +"), " "),
)
# Lines that depend on how busy the machine is, or on its disk.
PROGRESS = re.compile(
    r"provisioner: .*: (?:still |pre-deploy|waiting|copying|creating)|ok   (?:space|copies): |[\w-]+: \d+ of \d+, .* left$"
)


def as_shown(text: str, where: Path, home: str) -> str:
    """An output as a page shows it: with the paths of a user, and without what differs from run to run."""
    for path, shown in ((home, "/home/ann/.local/share/provisioner"), (str(where), "/home/ann")):
        text = text.replace(os.path.realpath(path), shown).replace(path, shown)
    for pattern, word in SHOWN:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def agrees(said: str, printed: str, where: Path, home: str) -> bool:
    """Whether an output is what the page says. How wide the columns are does not count."""
    said, printed = (_steady(as_shown(text, where, home)) for text in (said, printed))
    lines = said.splitlines(keepends=True)
    pattern = "".join(ANY if line == ANY_LINES else re.escape(line).replace("…", r"[^\n]*") for line in lines)
    return re.fullmatch(pattern, printed) is not None


def _steady(text: str) -> str:
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


def fill_in(page: Path, printed: list[str], where: Path, home: str) -> None:
    """Write into a page what its commands print, where it says something else."""
    outputs = iter(printed)

    def with_output(found: re.Match[str]) -> str:
        output = next(outputs)
        return (
            found[0]
            if agrees(found[2], output, where, home)
            else f"$ {found[1]}\n{_short(as_shown(output, where, home))}"
        )

    def with_outputs(block: re.Match[str]) -> str:
        return f"```console\n{STEP.sub(with_output, block[1])}```"

    page.write_text(BLOCK.sub(with_outputs, page.read_text()))


def _short(output: str) -> str:
    lines = [ANY_LINES if PROGRESS.match(line) else line for line in output.splitlines(keepends=True)]
    lines = [
        line for before, line in zip(["", *lines], lines, strict=False) if line != ANY_LINES or before != ANY_LINES
    ]
    return "".join(lines if len(lines) <= LONGEST_OUTPUT else [*lines[: LONGEST_OUTPUT - 2], ANY_LINES])


def differences(page: Path, printed: list[str], where: Path, home: str) -> list[str]:
    """Each command that prints something else than the page says."""
    return [
        f"$ {step.command}\nthe page says:\n{step.output}it prints:\n{output}"
        for step, output in zip_longest(steps(page), printed)
        if not agrees(step.output, output, where, home)
    ]
