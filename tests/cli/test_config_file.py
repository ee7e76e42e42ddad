"""config.toml in the home has defaults for what runs a server: an option wins over the environment, that over the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support import daemon, free_port, ok, provisioner, shop

from provisioner.cli.commands.serve import serve, up
from provisioner.cli.commands.watch import watch
from provisioner.cli.common_options import Settings, add_common_options
from provisioner.cli.options.config_file import finding
from provisioner.core.errors import UsageError


@pytest.fixture
def config(home: Path) -> Path:
    home.mkdir(mode=0o700, exist_ok=True)
    return home / "config.toml"


def options(command: Any, *words: str) -> Mapping[str, Any]:
    return dict(command.make_context(command.name, list(words)).params)


def test_an_option_wins_over_the_environment_that_over_the_file_and_that_over_the_default(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROVISIONER_PREVIEW_PORT", raising=False)
    assert (options(up)["port"], options(up)["host"], options(up)["log_format"]) == (4512, "127.0.0.1", "text")
    config.write_text('port = 5000\nhost = "::1"\naccess-log = true\nlog-format = "json"\npreview-port = 6000\n')
    assert (options(up)["port"], options(up)["host"], options(up)["preview_port"]) == (5000, "::1", 6000)
    assert (options(serve)["port"], options(serve)["access_log"]) == (5000, True)
    assert options(watch)["log_format"] == "json"
    monkeypatch.setenv("PROVISIONER_PORT", "5001")
    assert (options(up)["port"], options(up)["host"]) == (5001, "::1")
    assert options(up, "--port", "5002")["port"] == 5002


@pytest.mark.parametrize(
    "name", ["HOST", "PORT", "PREVIEW_PORT", "PUBLIC_URL", "DOMAIN", "TLS_CERT", "TLS_KEY", "LOG_FORMAT"]
)
def test_the_environment_has_each_of_these_options(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    value = "json" if name == "LOG_FORMAT" else "7"
    monkeypatch.setenv(f"PROVISIONER_{name}", value)
    assert str(options(up)[name.lower()]) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("prot = 1\n", "has an unknown option 'prot'. Did you mean port? See: "),
        ("beside = true\n", "has an unknown option 'beside'"),
        ("port = 70000\n", "port: 70000 is not in the range 0<=x<=65535. Correct it"),
        ("port = true\n", "port takes one value, not True"),
        ('access-log = "yes"\n', "access-log takes true or false, not 'yes'"),
        ("[up]\nport = 1\n", "has an unknown option 'up'"),
        ("port = \n", "is not TOML: Invalid value (at line 1, column 8)"),
        ('log-format = "xml"\n', "log-format: 'xml' is not one of 'text', 'json'"),
        ('color = "blue"\n', "color takes auto, always, or never, not 'blue'. Correct it"),
        ("color = true\n", "color takes auto, always, or never, not True"),
        ("port = 80.5\n", "port takes a whole number, not 80.5"),
    ],
)
def test_what_the_file_cannot_have_is_named_and_starts_nothing(
    tmp_path: Path, config: Path, text: str, why: str
) -> None:
    config.write_text(text)
    for command in (up, serve):
        with pytest.raises(UsageError, match=re.escape(str(config))) as refused:
            options(command)
        assert why in str(refused.value)
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


def test_a_duration_of_the_file_is_checked_and_a_number_alone_is_seconds(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for text, why in (
        ('"soon"', "'soon' is not a duration"),
        ("1.5", "'1.5' is not a duration"),
        ("true", "one value"),
    ):
        config.write_text(f"keep-router = {text}\n")
        with pytest.raises(UsageError, match=re.escape(why)):
            options(up)
        assert [well for _, well, _ in finding(str(config.parent), up)] == [False], text
    config.write_text("keep-router = 30\n")
    assert [text for _, _, text in finding(str(config.parent), up)] == [f"{config} has 1 option"]
    assert capfd.readouterr().err == ""
    assert options(up)["keep_router"] == "30"
    assert "--keep-router 30 is now --keep-router 30s" in capfd.readouterr().err


def test_a_wrong_file_is_one_line_with_exit_code_2_and_no_reason_to_show_no_help(tmp_path: Path, config: Path) -> None:
    config.write_text("prot = 1\n")
    refused = provisioner(tmp_path, "watch")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused
    assert "[env var: PROVISIONER_PORT; default: 4512; 0<=x<=65535]" in " ".join(ok(tmp_path, "up", "--help").split())


def test_a_server_listens_where_the_file_says_and_doctor_checks_the_file(
    tmp_path: Path, config: Path, home: Path
) -> None:
    repo = shop(tmp_path / "shop")
    port = free_port()
    config.write_text(f"port = {port}\n")
    with daemon(home, "provisioner", "serve", announced="server"):
        url = json.loads(ok(repo, "env", "--format", "json"))["DENO_KV_DEFAULT_PATH"]
    assert url.startswith(f"http://127.0.0.1:{port}/")
    assert "ok   config: " in provisioner(repo, "doctor").stdout
    config.write_text("port = x\n")
    assert "FAIL config: " in provisioner(repo, "doctor").stdout
    assert ok(repo, "status")  # which needs nothing from it


def test_the_color_of_the_file_is_no_default_of_the_option_and_goes_after_no_color(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    config.write_text('color = "always"\n')
    with_color = add_common_options(serve)
    context = with_color.make_context("serve", [], obj=Settings())
    assert (context.find_object(Settings).color, context.color) == (None, None)  # type: ignore[union-attr]
    assert [text for _, _, text in finding(str(config.parent), serve)] == [f"{config} has 1 option"]


def test_the_file_turns_colors_on_and_off(tmp_path: Path, config: Path) -> None:
    repo = shop(tmp_path / "shop")
    assert "\x1b[" not in ok(repo, "status")
    config.write_text('color = "always"\n')
    assert "\x1b[" in ok(repo, "status")
    assert "\x1b[" not in ok(repo, "status", add={"PROVISIONER_COLOR": "never"})
    config.write_text("color = \n")
    assert "\x1b[" not in ok(repo, "status")
