"""The cookie of a session, and what the router takes out of the cookies of requests and of apps' answers.

The patterns are Go's (RE2), whose ``\\s`` is the white space of ASCII; Python's ``re`` with ``re.ASCII`` means the same by them.
"""

from __future__ import annotations

from provisioner.hosting.router.options import RouterOptions

COOKIE = "provisioner_preview"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Over TLS. With this prefix, browsers accept it only from the host itself: no other preview can set it."""

_NAME = rf"(?:__[Hh][Oo][Ss][Tt]-)?{COOKIE}"
VALUE = r"([0-9a-f]{64})\.([0-9]{1,11})"
_SPACE = r"[\x00-\x20]*"

IN_REQUEST = rf"(?i)^(?:{_SPACE}{_NAME}{_SPACE}=[^;]*(?:;{_SPACE}|$))+|;{_SPACE}{_NAME}{_SPACE}=[^;]*"
"""Our cookies with what separates them from the others, which stay as they are."""

SET_OURS = rf"(?i)^{_SPACE}{_NAME}{_SPACE}(?:=.*)?$"
"""A Set-Cookie of an app that would replace a session."""

SET_DOMAIN = rf"(?i);{_SPACE}domain{_SPACE}(?:=[^;]*)?"
"""What makes a cookie one of a whole domain, other previews included. It is the host's own without it."""


def cookie_name(*, encrypted: bool) -> str:
    return SECURE_COOKIE if encrypted else COOKIE


def cookie_pattern(options: RouterOptions) -> str:
    """Finds a session in the header of a request: its secret and the time (s) at which it ends."""
    names = [COOKIE, SECURE_COOKIE] if options.trusted_proxies else [cookie_name(encrypted=options.encrypted)]
    return rf"(?:^|;)\s*(?:{'|'.join(names)})={VALUE}\s*(?:;|$)"
