"""Names of apps, timelines, and databases: made here, once, and never parsed back.

Branch names are bytes, because git's are. A timeline's name is what ``DENO_TIMELINE`` holds.
"""

from __future__ import annotations

import os

from provisioner.core.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provisioner.core.ids import AppId

PRODUCTION = b"production"
BRANCH_PREFIX = b"git-branch/"
PREVIEW_PREFIX = b"preview/"
NAME_LIMIT = 63  # bytes; what PostgreSQL keeps of an identifier
HASH_DIGITS = 25
SHORT_REVISION = 12
APP_SLUG_LIMIT = 40
INSTANCE_LIMIT = 10  # of an instance's slug in the name of a database
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SAFE = frozenset(_DIGITS)


def timeline_name(branch: bytes, *, production: bool, preview: bool = False) -> bytes:
    """``production`` or ``git-branch/<branch>``, raw as git has it, or ``preview/<revision>``."""
    if production:
        return PRODUCTION
    return (PREVIEW_PREFIX if preview else BRANCH_PREFIX) + branch


def slug(text: str, limit: int) -> str:
    """`text` in lowercase ASCII letters, digits, and single inner dashes; empty if nothing of it is left."""
    kept = "".join(char if char in _SAFE else "-" for char in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:limit].rstrip("-")


def database_name(app_slug: str, app_id: AppId, timeline: bytes, instance: tuple[str, str] | None = None) -> str:
    """The name of a timeline's database: readable in front, distinct by its hash, at most 63 bytes.

    `instance` is the slug and the id of the database's instance, None if the app was assigned that one first: two
    databases of a timeline have different names. The hash has 129 bits and is never cut, so no one can find a branch whose
    database has another's name; it includes the app's id, because another app may have the slug later. The part in
    front of it is for people only.
    """
    from hashlib import sha256  # costs more to import than all of `provisioner exec` may

    hashed = [app_id.encode(), timeline, *([instance[1].encode()] if instance else [])]
    digest = sha256(b"\0".join(hashed)).digest()  # no branch has a NUL in its name
    end = f"-{instance[0][:INSTANCE_LIMIT].rstrip('-')}-{_digits(digest)}" if instance else f"-{_digits(digest)}"
    if timeline == PRODUCTION:
        what = "-production"
    elif timeline.startswith(PREVIEW_PREFIX):
        what = f"-preview-{slug(os.fsdecode(timeline.removeprefix(PREVIEW_PREFIX)), SHORT_REVISION)}"
    else:
        whole = slug(os.fsdecode(timeline.removeprefix(BRANCH_PREFIX)), NAME_LIMIT)
        room = NAME_LIMIT - len(end) - len("--")
        branch = whole[: max(room // 2, room - len(app_slug))].rstrip("-")
        what = f"--{branch}" if branch else "-"
    return f"{app_slug[: NAME_LIMIT - len(what) - len(end)].rstrip('-')}{what}{end}"


def _digits(digest: bytes) -> str:
    """As many digits of a number system with 36 as hold 129 bits: eight fewer than hexadecimal ones."""
    left = int.from_bytes(digest)
    digits = []
    for _ in range(HASH_DIGITS):
        left, digit = divmod(left, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def parse_slug(text: str, what: str) -> str:
    """`text` if it is a slug, else an error that proposes one."""
    if text and slug(text, APP_SLUG_LIMIT) == text:
        return text
    proposal = slug(text, APP_SLUG_LIMIT) or "shop"
    raise UsageError(
        f"{text!r} cannot be the name of {what}: use lowercase letters, digits, and single dashes, at most {APP_SLUG_LIMIT}",
        f"Try {proposal!r}",
    )


def slug_of_repository(git_dir: bytes) -> str:
    """A slug for a repository by its path: ``/srv/Shop.git`` and ``~/code/Shop/.git`` are both ``shop``."""
    path = os.fsdecode(git_dir).rstrip("/")
    head, tail = os.path.split(path)
    if tail == ".git":
        tail = os.path.basename(head)
    return slug(tail.removesuffix(".git"), APP_SLUG_LIMIT) or "app"


def shown(raw: bytes | str) -> str:
    """A name, or a text with names in it, on one line of a terminal: control characters and invalid UTF-8 are escaped.

    Git allows what terminals obey: U+009B begins an escape sequence as ESC [ does, U+202E turns the line around.
    """
    encoded = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    text = encoded.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
