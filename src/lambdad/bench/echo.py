"""The yardsticks of the warm path: HTTP servers that send a request's body back.

The bars are against aiohttp as its documentation shows it, on asyncio's own loop. lambdad does not depend on it; where
it is not installed there is a smaller one on asyncio's streams, which answers about twice as many requests a second.

Run as a program (with `aiohttp` or `streams` as its argument) it prints its port, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from typing import Final

AIOHTTP: Final = "aiohttp"
STREAMS: Final = "streams"
_BODY_BYTES: Final = 16 * 1024 * 1024
_HOST: Final = "127.0.0.1"


def best() -> str:
    """The yardstick that the bars are against, if it is installed."""
    return AIOHTTP if importlib.util.find_spec("aiohttp") else STREAMS


async def _aiohttp() -> int:
    from aiohttp import web

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), content_type="application/json")

    application = web.Application(client_max_size=_BODY_BYTES)
    application.router.add_post("/{path:.*}", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, _HOST, 0).start()
    return int(runner.addresses[0][1])


async def _streams() -> int:
    server = await asyncio.start_server(_echo, _HOST, 0, limit=_BODY_BYTES)
    return int(server.sockets[0].getsockname()[1])


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readline()
            headers: dict[str, str] = {}
            while line := (await reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
            if "content-length" not in headers:
                break
            body = await reader.readexactly(int(headers["content-length"]))
            answer = {"Content-Type": headers.get("content-type", "text/plain"), "Content-Length": str(len(body))}
            lines = "".join(f"{name}: {value}\r\n" for name, value in answer.items())
            writer.write(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("latin-1") + body)
            await writer.drain()
    writer.close()


async def serve(kind: str) -> None:
    """Answer until standard input ends."""
    port = await (_aiohttp() if kind == AIOHTTP else _streams())
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
