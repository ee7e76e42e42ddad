"""The files that `provisioner env --write` keeps up to date in a checkout, such as ``.env.local``.

Which files these are is in ``provisioner/env-files`` of the repository's common directory: a line each, with the format
and the path below the top, which is the same in every worktree. Which repositories have such a list is in
``<home>/env-files/<app id>``, so that a change to the app reaches all of them, those cloned from it included.

A file follows every change of its content, whatever the cause: `refresh` brings one checkout up to date (post-checkout,
`exec`), `refresh_app` and `refresh_all` every checkout of an app or of a home (daemon, worker, commands). If the branch
has no connected database, the block holds only the reason: it never keeps the variables of another branch.

Light: `exec` imports it for checkouts with such files.
"""

from __future__ import annotations

import os

from provisioner.core.errors import ProvisionerError, UsageError, WrongHome, summary
from provisioner.core.ids import AppId
from provisioner.environment import env_block
from provisioner.environment.formats import FORMATS, Variables
from provisioner.environment.resolve import Environ, Selectors, app_of_checkout, resolve
from provisioner.git.worktree import Checkout, find_checkout, worktree_tops
from provisioner.system.home import Home
from provisioner.system.looking import starting_nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_LIST = b"provisioner/env-files"


class Entry:
    """A file to keep up to date: its format, its context (None: the timeline's own), its path below the top."""

    __slots__ = ("context", "format_name", "relative")

    def __init__(self, format_name: str, context: str | None, relative: str) -> None:
        self.format_name = format_name
        self.context = context
        self.relative = relative

    @classmethod
    def parse(cls, line: str) -> Entry:
        how, _, relative = line.partition(" ")
        format_name, _, context = how.partition(":")
        return cls(format_name, context or None, relative)

    def __str__(self) -> str:
        return f"{self.format_name}{f':{self.context}' if self.context else ''} {self.relative}"


def entries(common_dir: bytes) -> list[Entry]:
    """The files to keep up to date in the worktrees of a repository; usually none."""
    try:
        with open(os.path.join(common_dir, _LIST), "rb") as file:
            lines = os.fsdecode(file.read()).split("\n")
    except OSError:
        return []
    return [entry for line in lines if line and (entry := Entry.parse(line)).format_name in env_block.WRITABLE]


def remember(home: Home, checkout: Checkout, path: str, format_name: str, context: str | None = None) -> None:
    """Keep this file up to date from now on, in every worktree at the same path."""
    relative = place(checkout, path)
    kept = [entry for entry in entries(checkout.common_dir) if entry.relative != relative]
    _write_list(checkout.common_dir, [*kept, Entry(format_name, context, relative)])
    _register(home, checkout)


def place(checkout: Checkout, path: str) -> str:
    """The path below the top of the checkout of a file that is to be kept up to date.

    Raises `UsageError` if the file, or the target of its link, is not among the checkout's files or is tracked by git: the
    content of a branch must not direct a write elsewhere, nor get credentials into a commit.
    """
    from provisioner.git.tracking import is_tracked

    if checkout.top is None:
        raise UsageError("a bare repository has no files to keep up to date", "Run it in a checkout")
    top = os.path.realpath(os.fsdecode(checkout.top))
    lexical = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
    candidates = [os.path.relpath(candidate, top) for candidate in dict.fromkeys((lexical, os.path.realpath(path)))]
    for relative in candidates:
        parts = relative.lower().split(os.sep)
        if parts[0] == os.pardir or ".git" in parts:
            raise UsageError(
                f"{path} is outside of the checkout's files and cannot be kept up to date",
                "Use a file in the checkout, such as .env.local, or write it once: --branch NAME",
            )
    if "\n" in lexical:
        raise UsageError(f"{path!r} has a line break in its name", "Use a file such as .env.local")
    for relative in candidates:
        if is_tracked(checkout, relative):
            link = "" if relative == candidates[0] else f" (it links to {relative})"
            raise UsageError(
                f"{path} is tracked by git{link}: credentials in it would be committed",
                "Use a file that git ignores, such as .env.local, or stop tracking it: git rm --cached",
            )
    return candidates[0]


def warning(checkout: Checkout, relative: str) -> str:
    """A warning about a file that `git add` would add; empty if git ignores it."""
    from provisioner.git.tracking import is_ignored

    if is_ignored(checkout, relative):
        return ""
    return f"{relative} holds credentials and git does not ignore it. Ignore it: echo '/{relative}' >> .gitignore"


def refresh(
    home: Home, cwd: bytes, environ: Environ, known: Variables | None = None, *, every: bool = False
) -> list[str]:
    """Bring the files of the checkout in `cwd` up to date. Returns lines for its user: one for each change.

    `known`: the variables of its branch, if they have been resolved already. `every`: also a line for each unchanged file.
    """
    checkout = find_checkout(cwd)
    if checkout is None or checkout.top is None:
        return []
    listed = entries(checkout.common_dir)
    if not listed or not _keeps_up(home, checkout, known):
        return []
    said = [line for entry in listed if (line := _refresh(home, checkout, environ, entry, known, every))]
    if said:
        from provisioner.git.hook_repair import put_back

        _register(home, checkout)
        if repaired := put_back(checkout, home.path):
            said.append(repaired)
    return said


def refresh_app(home: Home, app_id: AppId, git_dir: bytes) -> list[str]:
    """Bring the files of every checkout of an app up to date. Returns a line for each change, and for each checkout whose
    files could not be. Starts no server."""
    with starting_nothing():
        return _lines(git_dir, lambda: _refresh_app(home, app_id, git_dir))


def _refresh_app(home: Home, app_id: AppId, git_dir: bytes) -> Iterator[str]:
    for common_dir in _common_dirs(home, app_id, git_dir):
        yield from _lines(common_dir, lambda place=common_dir: _refresh_worktrees(home, place))  # type: ignore[misc]


def _refresh_worktrees(home: Home, common_dir: bytes) -> Iterator[str]:
    for top in worktree_tops(common_dir):
        yield from _lines(top, lambda top=top: refresh(home, top, {}))  # type: ignore[misc]


def _lines(place: bytes, step: Callable[[], Iterable[str]]) -> list[str]:
    """What a step for one place has to say, a failure of any kind included, which is none of the other places'."""
    said: list[str] = []
    try:
        said += step()
    except Exception as error:
        said.append(f"the env files of {os.fsdecode(place)} ARE LEFT AS THEY WERE, perhaps outdated: {summary(error)}")
    return said


def refresh_all(home: Home) -> list[str]:
    """The same for every app of a home that has such files: after a change that may affect any of them.

    Does nothing in a home that cannot be opened, because the content of the files is then unknown.
    """
    if not os.path.isdir(_directory(home)):
        return []
    from provisioner.registry.store import Registry

    said = []
    try:
        with Registry.open(home) as registry:
            apps = [(app_id, registry.app(app_id)) for app_id in map(AppId, os.listdir(_directory(home)))]
    except ProvisionerError:
        return []
    for app_id, app in apps:
        if app is not None:
            said += refresh_app(home, app_id, app.git_dir)
        else:
            said += _lines(os.fsencode(app_id), lambda gone=app_id: _forgotten(home, gone))  # type: ignore[misc]
    return said


def _forgotten(home: Home, app_id: AppId) -> list[str]:
    return [f"{path} is no longer connected" for path in forget_app(home, app_id, None)]


def forget_app(home: Home, app_id: AppId, git_dir: bytes | None) -> list[str]:
    """Remove the blocks from the files of every checkout of a removed app. Returns the paths of the files."""
    removed = []
    for common_dir in _common_dirs(home, app_id, git_dir):
        for top in worktree_tops(common_dir):
            checkout = find_checkout(top)
            for entry in entries(common_dir) if checkout else []:
                path = os.path.join(os.fsdecode(top), entry.relative)
                if checkout is not None and _may_be_written(checkout, path) and env_block.remove(path):
                    removed.append(path)
        os.unlink(os.path.join(common_dir, _LIST))
    if os.path.exists(_registration(home, app_id)):
        os.unlink(_registration(home, app_id))
    return removed


def forget_all(home: Home) -> None:
    """Stop updating files, and leave all of them as they are: they belong to the home that this is a copy of."""
    from shutil import rmtree

    rmtree(_directory(home), ignore_errors=True)


def _common_dirs(home: Home, app_id: AppId, git_dir: bytes | None) -> list[bytes]:
    """The repositories with such files: the app's own, and its clones that are known."""
    registered = _registered(home, app_id)
    own = [] if git_dir is None or git_dir in registered or not entries(git_dir) else [git_dir]
    checkouts = [checkout for path in own if (checkout := find_checkout(path)) and not _is_anothers(home, checkout)]
    found = (*(checkout.common_dir for checkout in checkouts), *registered)
    return [path for path in dict.fromkeys(found) if entries(path)]


def _keeps_up(home: Home, checkout: Checkout, known: Variables | None) -> bool:
    """Whether this home keeps the files of the checkout up to date. They may belong to another home."""
    app_id = AppId(known["DENO_DEPLOY_APP_ID"]) if known else None
    if app_id is None:
        try:
            app = app_of_checkout(home, checkout)
        except ProvisionerError:
            return False
        if app is None:
            return False
        app_id = app.id
    return checkout.common_dir in _registered(home, app_id) or not _is_anothers(home, checkout)


def _is_anothers(home: Home, checkout: Checkout) -> bool:
    """Whether git's hooks there lead to another home."""
    from provisioner.git.hooks import HookState, status

    try:
        found = status(checkout.common_dir, checkout.top, home.path)
    except (ProvisionerError, OSError):
        return False
    return any(hook.state is HookState.OTHER_HOME for hook in found)


def _refresh(
    home: Home, checkout: Checkout, environ: Environ, entry: Entry, known: Variables | None, every: bool
) -> str:
    assert checkout.top is not None  # noqa: S101
    path = os.path.join(os.fsdecode(checkout.top), entry.relative)
    if not os.path.isdir(os.path.dirname(path)):
        return ""
    try:
        values = known if known is not None and entry.context is None else None
        if values is None:
            _, values = resolve(home, Selectors(context=entry.context), checkout.top, environ, patient=False)
        text = FORMATS[entry.format_name](values)
        crlf = env_block.takes_crlf(entry.format_name, values)
        said = f"{entry.relative} is connected to {values['DENO_TIMELINE']}"
    except WrongHome:  # the file belongs to another home
        return ""
    except ProvisionerError as error:
        text = "".join(f"# not connected: {line}\n" for line in str(error).splitlines())
        crlf = True
        said = f"{entry.relative} is not connected: {error}"
    current = env_block.holds(path, text)
    if current and not every:
        return ""
    try:
        place(checkout, path)
        if not current:
            env_block.write(path, text, crlf=crlf)
        unignored = warning(checkout, entry.relative)
    except ProvisionerError as error:
        return f"{entry.relative} IS LEFT AS IT WAS, perhaps connected to another branch: {error}"
    return f"{said}. {unignored}" if unignored else said


def _may_be_written(checkout: Checkout, path: str) -> bool:
    try:
        place(checkout, path)
    except ProvisionerError:
        return False
    return True


def _write_list(common_dir: bytes, listed: list[Entry]) -> None:
    from provisioner.system.atomic_file import replace_file

    path = os.path.join(common_dir, _LIST)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    replace_file(os.fsdecode(path), os.fsencode("".join(f"{entry}\n" for entry in listed)), 0o644)


def _directory(home: Home) -> str:
    return os.path.join(home.path, "env-files")


def _registration(home: Home, app_id: AppId) -> str:
    return os.path.join(_directory(home), app_id)


def _registered(home: Home, app_id: AppId) -> list[bytes]:
    """The common directories of an app's repository and of its clones that have such files."""
    try:
        with open(_registration(home, app_id), "rb") as file:
            return [line for line in file.read().split(b"\n") if line]
    except FileNotFoundError:
        return []


def _register(home: Home, checkout: Checkout) -> None:
    from provisioner.system.atomic_file import replace_file
    from provisioner.system.home import DIRECTORY_MODE, FILE_MODE

    app = app_of_checkout(home, checkout)
    if app is None or b"\n" in checkout.common_dir or checkout.common_dir in (known := _registered(home, app.id)):
        return
    os.makedirs(_directory(home), DIRECTORY_MODE, exist_ok=True)
    there = [path for path in (*known, checkout.common_dir) if os.path.isdir(path)]
    replace_file(_registration(home, app.id), b"".join(path + b"\n" for path in there), FILE_MODE)
