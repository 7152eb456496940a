"""MLServer, with a limit on the bodies of HTTP requests, for which it has no setting.

python server.py FOLDER_OF_SETTINGS MAX_BYTES
"""

import asyncio
import sys

from fastapi import HTTPException
from mlserver import MLServer
from mlserver.cli.serve import load_settings


class LimitedBodies:
    """Refuses longer bodies while they arrive, and compressed ones at once."""

    def __init__(self, app, max_bytes):
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope, receive, send):
        received = 0

        async def checked():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, f"more than {self._max_bytes} bytes")
            if any(name == b"content-encoding" for name, _ in scope["headers"]):
                raise HTTPException(415, "compressed bodies are not read")
            return message

        await self._app(scope, checked if scope["type"] == "http" else receive, send)


async def main(folder, max_bytes):
    settings, models = await load_settings(folder)
    server = MLServer(settings)
    server._rest_server._app.add_middleware(LimitedBodies, max_bytes=int(max_bytes))
    await server.start(models)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
