"""The names that complete a word: read from the registry's file and from git's. Nothing is written, started or migrated."""

from __future__ import annotations

import os

from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX, PRODUCTION
from provisioner.environment.resolve import Selectors
from provisioner.git.worktree import find_checkout, origin_directory
from provisioner.registry import fast_sqlite
from provisioner.system.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 200
_BUSY_SECONDS = 0.05


class CompletionNames:
    """What there is, of the app whose checkout `directory` is, or of the one that is named."""

    def __init__(self, home: Home, directory: bytes, selectors: Selectors) -> None:
        self._home = home
        self._checkout = find_checkout(directory)
        self._selectors = selectors
        self._registry = _opened(home.registry)
        self._archived = False

    def of(self, kind: str, beginning: str, *, archived: bool = False) -> list[str]:
        """The names of a kind that begin so, in their order, `MOST` at most. `archived`: of timelines, only such."""
        self._archived = archived
        found = _KINDS[kind](self, beginning) if kind in _KINDS else []
        return [name for name in dict.fromkeys(found) if name.startswith(beginning)][:MOST]

    def _apps(self, _: str) -> list[str]:
        return self._ask("select slug from app where removed_at is null order by slug")

    def _instances(self, _: str) -> list[str]:
        return self._ask("select slug from instance where deleted_at is null order by slug")

    def _deleted(self, _: str) -> list[str]:
        return self._ask("select slug from instance where deleted_at is not null order by slug")

    def _branches(self, beginning: str) -> list[str]:
        """Of git here; else of the registry."""
        if self._selectors.app is None and self._checkout is not None:
            return _local_branches(self._checkout.common_dir, beginning)
        known = "select branch from timeline where app_id = ? and not preview and gone_at is null order by branch"
        return self._ask(known, self._app())

    def _timelines(self, _: str) -> list[str]:
        found = []
        for production, preview, branch in self._rows(
            "select production, preview, branch from timeline where app_id = ? and gone_at is null"
            " order by not production, branch",
            self._app(),
        ):
            prefix = PREVIEW_PREFIX if preview else BRANCH_PREFIX
            found.append(os.fsdecode(PRODUCTION if production else prefix + branch))
        return found

    def _targets(self, beginning: str) -> list[str]:
        app, colon, rest = beginning.partition(":")
        if colon:
            self._selectors = Selectors(app)
            return [f"{app}:{name}" for name in self._targets(rest)]
        name, at, moment = beginning.partition("@{")
        if at:
            return [f"{name}@{{{each}}}" for each in ("parent", *self._moments(name)) if each.startswith(moment)]
        if self._archived:
            return self._archived_timelines()
        timelines = self._timelines(beginning)
        if not beginning.startswith("git-"):
            timelines = [each for each in timelines if not each.startswith("git-branch/")]
        return ["@", *self._branches(beginning), *timelines]

    def _archived_timelines(self) -> list[str]:
        rows = self._rows(
            "select distinct timeline.production, preview, branch from timeline join database"
            " on timeline_id = timeline.id where timeline.app_id = ? and status = 'archived' order by branch",
            self._app(),
        )
        found = (PRODUCTION if row[0] else PREVIEW_PREFIX + row[2] if row[1] else row[2] for row in rows)
        return [os.fsdecode(name) for name in found]

    def _moments(self, name: str) -> list[str]:
        """Labels and ids of the snapshots of a target."""
        every = name in ("", "@")
        branch = os.fsencode(name).removeprefix(BRANCH_PREFIX)
        rows = self._rows(
            "select snapshot.label, substr(snapshot.id, 1, 8) from snapshot join database on database.id = database_id"
            " join timeline on timeline.id = timeline_id where timeline.app_id = ?"
            " and (? or iif(?, timeline.production, timeline.branch = ?)) order by snapshot.created_at desc",
            *(self._app(), every, branch == PRODUCTION, branch.removeprefix(PREVIEW_PREFIX)),
        )
        return [*(row[0] for row in rows if row[0]), *(row[1] for row in rows)]

    def _snapshots(self, _: str) -> list[str]:
        return self._moments(self._selectors.branch or self._selectors.timeline or "")

    def _previews(self, _: str) -> list[str]:
        known = "select branch from timeline where app_id = ? and preview and gone_at is null order by created_at desc"
        return self._ask(known, self._app())

    def _tokens(self, _: str) -> list[str]:
        return self._ask("select id from token where revoked_at is null order by created_at desc")

    def _variables(self, _: str) -> list[str]:
        return self._ask("select distinct name from variable where app_id = ? order by name", self._app())

    def _app(self) -> object:
        """The id of the app that is meant; None if there is none, which matches nothing."""
        if self._selectors.app is not None:
            rows = self._rows("select id from app where slug = ? and removed_at is null", self._selectors.app)
            return rows[0][0] if rows else None
        if self._checkout is None:
            return None
        here = self._checkout.common_dir
        for place in (here, origin_directory(here)):
            rows = self._rows("select id from app where git_dir = ? and removed_at is null", place)
            if rows:
                return rows[0][0]
        return None

    def _ask(self, question: str, *values: object) -> list[str]:
        return [each if isinstance(each, str) else os.fsdecode(each) for (each,) in self._rows(question, *values)]

    def _rows(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        if self._registry is None:
            return []
        rows: list[tuple[Any, ...]] = self._registry.execute(f"{question} limit 5000", values).fetchall()
        return rows


_KINDS = {
    "APP": CompletionNames._apps,
    "INSTANCE": CompletionNames._instances,
    "DELETED": CompletionNames._deleted,
    "BRANCH": CompletionNames._branches,
    "TIMELINE": CompletionNames._timelines,
    **dict.fromkeys(("TARGET", "FROM", "TO", "A", "B"), CompletionNames._targets),
    "SNAPSHOT": CompletionNames._snapshots,
    "PREVIEW": CompletionNames._previews,
    "TOKEN": CompletionNames._tokens,
    "VARIABLE": CompletionNames._variables,
}


def _opened(path: str) -> Any:
    """The registry, to be read as it is now; None if there is none."""
    if not os.path.isfile(path):
        return None
    from urllib.parse import quote

    waiting = os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal") > 0
    alone = "" if waiting else "&immutable=1"  # so that SQLite makes no file beside it
    return fast_sqlite.connect(f"file:{quote(path)}?mode=ro{alone}", uri=True, timeout=_BUSY_SECONDS)


def _local_branches(common_dir: bytes, beginning: str) -> list[str]:
    """The local branches whose names begin so, by git: a repository may keep its refs in several ways."""
    from provisioner.git.command import git

    patterns = [f"refs/heads/{beginning}*", f"refs/heads/{beginning}*/**"]
    listed = git(common_dir, "for-each-ref", "--format=%(refname:lstrip=2)", f"--count={MOST}", *patterns)
    return os.fsdecode(listed).splitlines()
