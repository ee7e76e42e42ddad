"""What a person sees who asks for help, or mistypes."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from hostile import help_of, leaves
from support import provisioner

from provisioner.cli.main import SECTIONS, cli


def test_help_lists_the_daily_commands_first_and_every_command_under_a_heading(tmp_path: Path) -> None:
    done = provisioner(tmp_path, "--help")
    headings = [line[:-1] for line in done.stdout.splitlines() if line.endswith(":") and line[0].isalpha()]
    assert headings[:3] == ["Options", "Daily", "Data"]
    assert list(SECTIONS["Daily"])[:4] == ["init", "status", "exec", "env"]
    for name in {leaf.split(" ")[0] for leaf in leaves()}:
        assert f"\n  {name} " in done.stdout, name


def test_summaries_fit_a_terminal_of_80_columns() -> None:
    def groups(command: click.Command, path: str) -> list[str]:
        if not isinstance(command, click.Group):
            return []
        context = click.Context(command)
        found = [path] if path else []
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += groups(below, f"{path} {name}".strip())
        return found

    for name in groups(cli, ""):
        listed = help_of(name).partition("\nCommands:\n")[2].splitlines()
        assert not [line for line in listed if line.endswith("...") or line.startswith("   ")], name
    assert all(len(line) <= 80 for line in cli.get_help(click.Context(cli, info_name="provisioner")).splitlines())


@pytest.mark.parametrize("words", [["app"], ["database"], ["database", "snapshot"], []])
def test_a_group_alone_prints_its_help_to_stdout_and_succeeds(tmp_path: Path, words: list[str]) -> None:
    done = provisioner(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: {' '.join(['provisioner', *words])}")
    assert not done.stderr


def test_help_of_a_command_is_its_help_option(tmp_path: Path) -> None:
    for words in (["status"], ["database", "fork"], []):
        asked = provisioner(tmp_path, "help", *words)
        assert (asked.returncode, asked.stdout) == (0, provisioner(tmp_path, *words, "--help").stdout)


@pytest.mark.parametrize(("typed", "meant"), [(["statsu"], "status"), (["database", "dmup"], "dump")])
def test_an_unknown_command_is_a_usage_error_that_names_the_nearest(
    tmp_path: Path, typed: list[str], meant: str
) -> None:
    done = provisioner(tmp_path, *typed)
    assert done.returncode == 2
    assert f"'{meant}'" in done.stderr


@pytest.mark.parametrize("name", leaves())
def test_help_names_values_by_what_they_are(name: str) -> None:
    unclear = re.findall(r"\b(?:INTEGER|FLOAT|TEXT|RANGE|SLUG|REV)\b", help_of(name))
    assert not unclear
