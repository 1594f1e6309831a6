"""The yardstick: read a body and send it back, with aiohttp as its documentation shows it."""

import asyncio
import sys
from pathlib import Path

from aiohttp import web


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/json")


async def main(ready: Path) -> None:
    application = web.Application(client_max_size=16 * 1024 * 1024)
    application.router.add_post("/{path:.*}", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    unfinished = ready.with_suffix(".part")
    unfinished.write_text(str(runner.addresses[0][1]))
    unfinished.rename(ready)
    await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1])))
