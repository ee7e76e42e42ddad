"""The server's granian with a handler that reads a body and answers what a file holds.

`python idle_server.py FILE` prints its URL.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvloop

from provisioner.connect.server.listener import http_server, listening
from provisioner.connect.server.options import Options


async def main() -> None:
    body = Path(sys.argv[1]).read_bytes()
    headers = [("content-type", "application/x-protobuf")]

    async def handler(_: Any, protocol: Any) -> None:
        await protocol()
        protocol.response_bytes(200, headers, body)

    listener = listening(Options(port=0))
    options = Options(port=listener.getsockname()[1])
    server = http_server(handler, options, listener)
    serving = asyncio.create_task(server.serve())
    while True:
        try:
            _, writer = await asyncio.open_connection(options.host, options.port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            break
    print(options.url, flush=True)
    await serving


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
