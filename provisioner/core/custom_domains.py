"""Custom domains, which lead to a timeline's app, for example ``www.example.com``: their form, and what is known of one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.core.errors import UsageError
from provisioner.core.host_names import DOMAIN, is_host_name
from provisioner.core.ids import AppId, TimelineId

CHALLENGE = "_provisioner"
"""The label below a domain whose TXT record shows that the domain is the claimant's."""

_EXAMPLE = "Use a name such as www.example.com"
_HYPHENS = re.compile(r"..--")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class CustomDomain:
    """A domain and the one timeline that claims it. Times are milliseconds since 1970.

    ``proof`` is the value of its TXT record. It has requests from ``verified_at`` until ``ended_at``, which is set when the
    timeline's data is archived or the app is removed. An ended one leads nowhere until a person adds it again.
    ``verified_by`` is ``dns``, or ``operator`` for a person's word.
    """

    name: str
    app_id: AppId
    timeline_id: TimelineId
    proof: str
    created_at: int
    verified_at: int | None = None
    verified_by: str = ""
    ended_at: int | None = None

    @property
    def routed(self) -> bool:
        """Do requests for it go to its timeline's app?"""
        return self.verified_at is not None and self.ended_at is None

    @property
    def record(self) -> str:
        """The name of its TXT record."""
        return f"{CHALLENGE}.{self.name}"


def parse_domain(text: str) -> str:
    """A domain as DNS has it: in lowercase, and in ASCII (IDNA 2008). Raises UsageError for anything else."""
    name = text.strip().removesuffix(".")
    if "://" in name or "/" in name:
        raise UsageError(f"{text!r} is a URL, not a domain", _EXAMPLE)
    if "*" in name:
        raise UsageError(f"{text!r} is a wildcard, and a domain belongs to one timeline", "Add each name")
    if ":" in name:
        raise UsageError(f"{text!r} has a port, or is an address", _EXAMPLE)
    name = _ascii(name, text)
    labels = name.split(".")
    if not is_host_name(name) or len(labels) < 2:
        raise UsageError(f"{text!r} is not a domain", _EXAMPLE)
    if _NUMBER.fullmatch(labels[-1]):  # browsers take it for an IPv4 address, in any of its forms
        raise UsageError(f"{text!r} is an address, not a domain", _EXAMPLE)
    if is_below(name, DOMAIN):
        raise UsageError(f"{text!r} is a name of this machine alone", "The URLs in localhost need no domain")
    return name


def is_below(name: str, domain: str) -> bool:
    """Is it this domain, or a name in it?"""
    return f".{name}".endswith(f".{domain}")


def _ascii(name: str, text: str) -> str:
    """With its labels in the form of DNS; those that have it already are checked."""
    name = name.lower() if name.isascii() else name
    if name.isascii() and not any(_HYPHENS.match(label) for label in name.split(".")):
        return name
    try:
        import idna
    except ImportError as error:
        hint = "Run: pip install 'timeline-provisioner[previews]'"
        raise UsageError(f"{text!r} has other letters than ASCII, which needs the package idna", hint) from error
    try:
        encoded: bytes = idna.encode(name, uts46=True, std3_rules=True)
        if name.isascii():
            idna.decode(encoded)
        return encoded.decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise UsageError(f"{text!r} is not a domain: {error}", _EXAMPLE) from error
