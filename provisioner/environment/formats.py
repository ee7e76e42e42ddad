"""Variables written down for a shell, a tool or a file, quoted as its reader unquotes.

Each writer takes the variables and returns text that ends in a newline. A value that a format cannot hold is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from provisioner.core.connection import STRAY, strays
from provisioner.core.errors import UsageError

Variables = dict[str, str]
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:@%+,")


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _shell_quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def shell(variables: Variables) -> str:
    """For ``eval`` in sh, bash, zsh, ksh."""
    unset = [f"unset {' '.join(strays(variables))}"]
    return _lines(unset + [f"export {name}={_shell_quoted(value)}" for name, value in variables.items()])


def fish(variables: Variables) -> str:
    """For ``| source`` in fish, where a backslash and a quote are escaped inside single quotes."""
    unset = [f"set -e {name}" for name in strays(variables)]
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in variables.items()}
    return _lines(unset + [f"set -gx {name} '{value}'" for name, value in quoted.items()])


def powershell(variables: Variables) -> str:
    """For ``| Out-String | Invoke-Expression``; PowerShell ends a string at any of five single quotes."""
    unset = [f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in strays(variables)]
    doubled = {name: "".join(c * 2 if c in "'‘’‚‛" else c for c in value) for name, value in variables.items()}
    return _lines(unset + [f"$env:{name} = '{value}'" for name, value in doubled.items()])


def dotenv(variables: Variables) -> str:
    """For files read by ``deno --env-file``, ``node --env-file``, python-dotenv and ``.`` in sh.

    Single quotes where the value allows it, which all of them take literally but for what python-dotenv expands there:
    ``${NAME}``, and a backslash in front of another or of the quote. A value with a single quote goes into double
    quotes, where they agree only as long as nothing in it is special to one of them: a backslash is literal before some
    characters and for some readers. Any other value is an error: some reader would take it for another, and sh might even
    run a part of it.
    """
    return _lines(f"{name}={_dotenv_quoted(name, value)}" for name, value in variables.items())


def _dotenv_quoted(name: str, value: str) -> str:
    if value and all(char in _PLAIN for char in _utf8(name, value)):
        return value
    if not any(part in value for part in ("'", "${", "\\\\", "\r")) and not value.endswith("\\"):
        return f"'{value}'"
    if not any(char in value for char in '"$`\\\r'):
        return f'"{value}"'
    raise UsageError(
        f"the value of {name} cannot be written so that all readers of .env files agree on it: {value!r}",
        "Use another format, such as shell or json, or 'provisioner exec'",
    )


def json(variables: Variables) -> str:
    from json import dumps

    return dumps(variables, indent=2) + "\n"


def docker(variables: Variables) -> str:
    """For ``docker run --env-file``: nothing is unquoted there, so a line break cannot be written."""
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise UsageError(f"the value of {name} has a line break, which a docker env-file cannot hold", "Use json")
    return _lines(f"{name}={_utf8(name, value)}" for name, value in variables.items())


def github(variables: Variables) -> str:
    """For ``>> "$GITHUB_ENV"``; stray variables of the job are emptied, since they cannot be unset there.

    Except for some of libpq's variables, which cause an error when they are empty.
    """
    blocks = []
    for name, value in [*((name, "") for name in STRAY if name not in variables), *variables.items()]:
        end = "PROVISIONER_END"
        while end in value:
            end += "_"
        blocks.append(f"{name}<<{end}\n{_utf8(name, value)}\n{end}")
    return _lines(blocks)


def systemd(variables: Variables) -> str:
    """For ``EnvironmentFile=``: double quotes, in which a backslash escapes ``"``, ``\\``, ``$`` and a backquote."""
    lines = []
    for name, value in variables.items():
        escaped = "".join(f"\\{char}" if char in '"\\$`' else char for char in _utf8(name, value))
        lines.append(f'{name}="{escaped}"')
    return _lines(lines)


def _utf8(name: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the value of {name} is not UTF-8, which this format demands", "Use shell or exec") from error
    return value


FORMATS: dict[str, Callable[[Variables], str]] = {
    "shell": shell,
    "fish": fish,
    "powershell": powershell,
    "dotenv": dotenv,
    "json": json,
    "docker": docker,
    "github": github,
    "systemd": systemd,
}
