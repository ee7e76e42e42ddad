"""What the documents tell a user to type works, and what they name exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import click
import pytest
from documents import differences, fill_in, name_of, pages, steps
from documents import run as run_document
from english import python_passages
from kv_server import Served
from paths import ROOT
from support import daemon, repository, run

from provisioner.cli.main import cli
from provisioner.operations.instance.names import parse_name

DOCUMENTS = pages()
FILL_IN = bool(os.environ.get("DOCS_OUTPUTS"))  # write what the commands print into the pages: make docs-outputs


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if steps(path)], ids=name_of)
def test_the_commands_of_a_document_run_and_print_what_it_says(
    document: Path, tmp_path: Path, home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = document.read_text()
    if '"$URL"' in text:
        monkeypatch.setenv("URL", request.getfixturevalue("pg").url())
    where = tmp_path / "work"
    where.mkdir()
    if "npm install" in text:
        (where / "node_modules").symlink_to(request.getfixturevalue("node_modules"))
    start = (
        repository(where / "shop") if document.name == "README.md" else where
    )  # it starts in a repository with a commit
    server = ("provisioner", "serve", "--port", "0")
    with daemon(home, *server, announced="server") if "With a server up" in text else nullcontext():
        printed = run_document(document, start)
    if FILL_IN:
        fill_in(document, printed, where, str(home))
    assert differences(document, printed, where, str(home)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_the_files_that_a_document_links_to_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def _named(document: Path) -> Iterator[list[str]]:
    """The words of each command of ours that a document names, in a sentence or a block; not behind what ends it."""
    text = document.read_text()
    inline = re.findall(r"(?<!`)`(provisioner [^`]+)`(?!`)", text)
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    for line in [*inline, *lines]:
        for part in re.findall(
            r"(?:^|[|&;(] *|\$ )(provisioner [^|&;()]+)",
            re.sub(r"[A-Za-z]\|[A-Za-z]|\s+|'[^'\n]* [^'\n]*'", _one, line),
        ):
            yield re.sub(r"""['"]""", "", part.partition(" # ")[0]).split()[1:]


def _one(found: re.Match[str]) -> str:
    """Alternatives are one word, as a quoted argument is, which may be a command of another program. Else: a space."""
    if found[0].startswith("'"):
        return "ARGUMENT"
    return found[0] if "|" in found[0] else " "


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_the_commands_that_a_document_names_exist(document: Path) -> None:
    for words in _named(document):
        command: click.Command = cli
        names = list(words)
        while names and isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z|-]*", names[0]):
            alternatives = [command.get_command(click.Context(command), each) for each in names.pop(0).split("|")]
            assert None not in alternatives, words
            command = alternatives[0]  # type: ignore[assignment]
        if "--" in names:
            names = names[: names.index("--")]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name in names:
            if name.startswith("--"):
                assert set(re.split("[|=]", name.rstrip(".,:"))[:1]) <= options | {"--help", "--version"}, (words, name)
        if words[:2] == ["instance", "add"] and len(words) > 2 and re.fullmatch(r"[a-z].*", words[2]):
            assert parse_name(words[2]) == words[2]


def test_the_demo_does_what_it_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "demo" / "demo.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "archived" in done.stdout


def test_the_systemd_unit_is_one_and_starts_a_daemon(tmp_path: Path, home: Path) -> None:
    text = (ROOT / "docs" / "provisioner.service").read_text()
    found = re.search(r"^ExecStart=(\S+) (.*)$", text, re.MULTILINE)
    assert found is not None
    executable = shutil.which("provisioner")
    assert executable is not None
    unit = tmp_path / "provisioner.service"
    unit.write_text(text.replace(found[1], executable))
    verified = run(tmp_path, "systemd-analyze", "verify", unit)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    with daemon(home, executable, *found[2].split(" ")) as running:
        assert running.stop() == 0


def test_the_programs_of_the_document_on_key_values_run(
    tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = server.database()
    monkeypatch.setenv("PROVISIONER_KV_URL", made.url)
    monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", made.token)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "kv.md").read_text(), re.DOTALL)
    assert len(blocks) > 8
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_messages_of_the_page_on_troubleshooting_exist() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text()
    quoted = [
        text for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for text in re.findall(r"`([^`]+)`", row)
    ]
    assert len(quoted) > 15
    package = [path for path in (ROOT / "provisioner").rglob("*.py") if "_pb2" not in path.name]
    said = [" ".join(passage.text.split()) for path in package for passage in python_passages(path)]
    for text in quoted:
        pattern = re.compile(".*".join(map(re.escape, text.split("…"))))
        assert any(pattern.search(message) for message in said), text
