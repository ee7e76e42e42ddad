"""Whether a domain is the claimant's: DNS has the claim's value in a TXT record that only its owner can set."""

from __future__ import annotations

from provisioner.core.custom_domains import CustomDomain
from provisioner.core.errors import ProvisionerError, UsageError

SECONDS = 10.0  # for all attempts
_PORT = 53


def proven(domain: CustomDomain, nameserver: str = "") -> str:
    """Why DNS does not show that the domain is the claimant's; empty if it does.

    `nameserver` is the address of a DNS server, with its port if that is another than 53; the empty one means those of the
    system. Raises ProvisionerError if no server answers.
    """
    try:
        from dns import exception, resolver
    except ImportError as error:
        hint = "Run: pip install 'timeline-provisioner[previews]'"
        raise ProvisionerError("looking at DNS needs dnspython, which is not installed", hint) from error
    vouch = f"If you know that it is yours, run: provisioner app domain verify {domain.name} --trust"
    try:
        asked = resolver.Resolver(configure=not nameserver)
        if nameserver:
            asked.nameservers, asked.port = _address(nameserver)
        asked.lifetime = SECONDS
        answer = asked.resolve(f"{domain.record}.", "TXT", search=False)
    except (resolver.NXDOMAIN, resolver.NoAnswer):
        return f"{domain.record} has no TXT record"
    except (exception.DNSException, OSError) as error:
        raise ProvisionerError(f"cannot look up {domain.record}: {error}", vouch) from error
    values = [b"".join(each.strings).decode("utf-8", "replace").strip() for each in answer]
    return "" if domain.proof in values else f"the TXT record of {domain.record} has another value"


def _address(text: str) -> tuple[list[str], int]:
    """Raises UsageError for anything else."""
    import ipaddress

    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "")
    host = host.strip("[]")
    try:
        return [str(ipaddress.ip_address(host))], int(port or _PORT)
    except ValueError as error:
        raise UsageError(f"{text!r} is not the address of a DNS server", "Use, for example, 192.0.2.1") from error
