"""Names of apps, timelines and databases: made here, once, and never parsed back.

Branch names are bytes, because git's are. A timeline's name is what ``DENO_TIMELINE`` holds.
"""

from __future__ import annotations

import os

from provisioner.core.errors import UsageError

PRODUCTION = b"production"
BRANCH_PREFIX = b"git-branch/"
PREVIEW_PREFIX = b"preview/"
NAME_LIMIT = 63  # bytes; what PostgreSQL keeps of an identifier
HASH_DIGITS = 12
SHORT_REVISION = 12
APP_SLUG_LIMIT = 40
INSTANCE_LIMIT = 12  # of an instance's slug in the name of a database
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


def timeline_name(branch: bytes, *, production: bool, preview: bool = False) -> bytes:
    """``production`` or ``git-branch/<branch>``, raw as git has it, or ``preview/<revision>``."""
    if production:
        return PRODUCTION
    return (PREVIEW_PREFIX if preview else BRANCH_PREFIX) + branch


def slug(text: str, limit: int) -> str:
    """`text` in lowercase ASCII letters, digits and single inner dashes; empty where nothing of it is left."""
    kept = "".join(char if char in _SAFE else "-" for char in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:limit].rstrip("-")


def database_name(app_slug: str, timeline: bytes, instance: tuple[str, str] | None = None) -> str:
    """The name of a timeline's database: readable in front, distinct by its hash, at most 63 bytes.

    `instance` is the slug and the id of the database's instance, None if the app was assigned that one first: two
    databases of a timeline have different names. The hash is always there and is never cut, so no branch name can be chosen that
    equals another's database name; the slugs in front of it are for people only.
    """
    from hashlib import sha256  # costs more to import than all of `provisioner exec` may

    hashed = [app_slug.encode(), timeline, *([instance[1].encode()] if instance else [])]
    digest = sha256(b"\0".join(hashed)).hexdigest()[:HASH_DIGITS]  # no branch has a NUL in its name
    app = app_slug[:24].rstrip("-")
    end = f"-{instance[0][:INSTANCE_LIMIT].rstrip('-')}-{digest}" if instance else f"-{digest}"
    if timeline == PRODUCTION:
        return f"{app}-production{end}"
    if timeline.startswith(PREVIEW_PREFIX):
        return f"{app}-preview-{slug(os.fsdecode(timeline.removeprefix(PREVIEW_PREFIX)), SHORT_REVISION)}{end}"
    branch = slug(os.fsdecode(timeline.removeprefix(BRANCH_PREFIX)), NAME_LIMIT - len(app) - len(end) - len("--"))
    return f"{app}--{branch}{end}" if branch else f"{app}-{end}"


def parse_slug(text: str, what: str) -> str:
    """`text` where it is a slug already, else an error that proposes one."""
    if text and slug(text, APP_SLUG_LIMIT) == text:
        return text
    proposal = slug(text, APP_SLUG_LIMIT) or "shop"
    raise UsageError(
        f"{text!r} cannot be the name of {what}: lowercase letters, digits and single dashes, at most {APP_SLUG_LIMIT}",
        f"Try {proposal!r}",
    )


def slug_of_repository(git_dir: bytes) -> str:
    """A slug from where a repository lies: ``/srv/Shop.git`` and ``~/code/Shop/.git`` are both ``shop``."""
    path = os.fsdecode(git_dir).rstrip("/")
    head, tail = os.path.split(path)
    if tail == ".git":
        tail = os.path.basename(head)
    return slug(tail.removesuffix(".git"), APP_SLUG_LIMIT) or "app"


def shown(raw: bytes | str) -> str:
    """A name, or a text with names in it, on one line of a terminal: what would steer it, or is not UTF-8, is escaped.

    Git allows what terminals obey: U+009B begins an escape sequence as ESC [ does, U+202E turns the line around.
    """
    encoded = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    text = encoded.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
