"""A real ACME authority, pebble, on this machine, and a DNS server that says that every name leads here."""

from __future__ import annotations

import json
import os
import pwd
import socket
import socketserver
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from certificates import certificate
from support import free_port
from threaded_server import threaded

VERSION = "v2.10.3"
PACKAGE = f"github.com/letsencrypt/pebble/v2/cmd/pebble@{VERSION}"


@dataclass(frozen=True, slots=True)
class Authority:
    """Its directory's URL, and the file of what its own server is trusted by. `log` is what it prints."""

    directory: str
    roots: str
    log: Path


def program() -> Path:
    """Pebble, built from the Go module proxy if it was not before."""
    own = pwd.getpwuid(os.getuid()).pw_dir  # each test has another HOME
    where = Path(own) / ".cache/provisioner-tests/pebble" / VERSION
    if not (where / "pebble").exists():
        where.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, "GOBIN": str(where), "HOME": own}
        subprocess.run(["go", "install", PACKAGE], env=environ, check=True, capture_output=True)
    return where / "pebble"


@contextmanager
def authority(
    directory: Path, *, http: int, tls: int, seconds: int = 7_776_000, refused: Sequence[str] = ()
) -> Iterator[Authority]:
    """One that connects to these ports of a host to validate it, whose certificates last `seconds`, and that issues none for
    the `refused` names."""
    made, key = certificate(directory)
    listen, management = free_port(), free_port()
    config = {
        "listenAddress": f"127.0.0.1:{listen}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(made),
        "privateKey": str(key),
        "httpPort": http,
        "tlsPort": tls,
        "domainBlocklist": list(refused),
        "keyAlgorithm": "ecdsa",
        "profiles": {"default": {"description": "the only one", "validityPeriod": seconds}},
    }
    (directory / "pebble.json").write_text(json.dumps({"pebble": config}))
    log = directory / "pebble.log"
    environ = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
    with _names_lead_here() as dns, log.open("w") as output:
        command = [str(program()), "-config", str(directory / "pebble.json"), "-dnsserver", dns]
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
        try:
            while not _listens(listen):
                assert process.poll() is None, log.read_text()
            yield Authority(f"https://localhost:{listen}/dir", str(made), log)
        finally:
            process.kill()
            process.wait()


@contextmanager
def _names_lead_here() -> Iterator[str]:
    import dns.message
    import dns.rdatatype
    import dns.rrset

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while length := int.from_bytes(self.rfile.read(2)):
                asked = dns.message.from_wire(self.rfile.read(length))
                answer = dns.message.make_response(asked)
                if asked.question[0].rdtype == dns.rdatatype.A:
                    answer.answer = [dns.rrset.from_text(asked.question[0].name, 60, "IN", "A", "127.0.0.1")]
                self.wfile.write(answer.to_wire(prepend_length=True))

    with threaded(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer)) as address:  # pebble asks over TCP
        yield address


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
