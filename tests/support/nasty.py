"""Values that are hard to quote, and a shell's own word on what it took them for."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import strategies as st

NASTY = [
    "plain",
    "",
    " both ends ",
    "it's",
    'say "hi"',
    "$HOME",
    "${HOME}",
    "$(id)",
    "`id`",
    "a\\b",
    "a\\nb",
    "a\\\\b",
    "ends\\",
    "two\nlines",
    "\n",
    "tab\there",
    "cr\rhere",
    "# no comment",
    "a # b",
    "a=b",
    "'",
    '"',
    "\\",
    "it's \\ x",
    "it's \\n",
    "it's\ntwo",
    "it's $HOME",
    'it\'s "q"',
    "it's `id`",
    "é 日本語 🌱",
    "é'ü",
    "!history",
    "%PATH%",
    'git-branch/it\'s-"$HOME"-`id`',
    "\u2018curly\u2019",
    "PROVISIONER_END",
    "a\nPROVISIONER_END\nb",
]
TEXTS = st.lists(st.text("ab '\"$\\`\n\t{}#=!é🌱", max_size=12), min_size=1, max_size=6)


def named(values: list[str]) -> dict[str, str]:
    return {f"V{number}": value for number, value in enumerate(values)}


def sourced(shell: str, path: Path, names: list[str]) -> list[bytes]:
    shown = " ".join(f'"x${{{name}-unset}}"' for name in names)
    script = f". \"$0\"; printf '%s\\0' {shown}"
    result = subprocess.run([shell, "-c", script, str(path)], capture_output=True, check=True)
    return [value[1:] for value in result.stdout.split(b"\0")[:-1]]
