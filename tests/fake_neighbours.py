"""A program with the face of `lambdad_neighbours`, for tests of what stands before it: it does what a path says."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

PART = b"x" * 65536


async def echo(request: web.Request) -> web.StreamResponse:
    """The request, as a document."""
    digest, size = hashlib.sha256(), 0
    async for part in request.content.iter_any():
        digest.update(part)
        size += len(part)
    document = {
        "method": request.method,
        "target": request.raw_path,
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "size": size,
        "sha256": digest.hexdigest(),
        "pid": os.getpid(),
    }
    return web.json_response(document, headers={"X-Amz-Thing": "kept", "Keep-Alive": "dropped"})


async def parts(request: web.Request) -> web.StreamResponse:
    """So many bytes, a part at a time; `length` says how many there will be."""
    size = int(request.query["size"])
    response = web.StreamResponse()
    if "length" in request.query:
        response.content_length = size
    await response.prepare(request)
    if request.method != "HEAD":
        while size > 0:
            await response.write(PART[:size])
            size -= len(PART)
    return response


async def status(request: web.Request) -> web.StreamResponse:
    return web.Response(status=int(request.match_info["status"]))


async def early(request: web.Request) -> web.StreamResponse:
    """An answer that does not wait for the request's body."""
    return web.Response(status=404, text="early")


async def hang(request: web.Request) -> web.StreamResponse:
    """Never answer; what happens to the request is written down."""
    notes = Path(request.query["notes"])
    notes.write_text("begun")
    try:
        await asyncio.Event().wait()
    finally:
        notes.write_text("ended")
    raise AssertionError


async def die(request: web.Request) -> web.StreamResponse:
    os._exit(3)


async def inspect(request: web.Request) -> web.StreamResponse:
    if not request.raw_path.startswith("/_lambdad/"):  # the router has decoded it
        return await echo(request)
    what = request.match_info["what"]
    if what != "double":
        return web.json_response({"message": f"there is no inspection {what!r}"}, status=404)
    return web.json_response(2 * (await request.json())["number"])


async def report(request: web.Request) -> web.StreamResponse:
    s3 = {"loaded": True, "last_checkpoint": 1795268256.25, "dirty": True}
    return web.json_response({"services": {"s3": s3}})


def application() -> web.Application:
    application = web.Application(client_max_size=2**40)
    application.router.add_get("/_lambdad/status", report)
    application.router.add_post("/_lambdad/inspect/{what}", inspect)
    for path, handler in {"/early": early, "/hang": hang, "/die": die, "/parts": parts}.items():
        application.router.add_route("*", path, handler)
    application.router.add_route("*", "/status/{status}", status)
    application.router.add_route("*", "/{rest:.*}", echo)
    return application


async def serve(options: argparse.Namespace) -> None:
    if options.state is not None:
        (options.state / "starts").open("a").write(f"{os.getpid()} {options.account_id} {options.region}\n")
        if (options.state / "die at once").exists():
            sys.exit("told to die at once")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.run_in_executor(None, lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)))
    runner: Any = web.AppRunner(application(), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, options.socket).start()
    print(json.dumps({"ready": True}), flush=True)
    print("a word on standard output", flush=True)
    print("a word on standard error", file=sys.stderr, flush=True)
    await ended.wait()
    if options.state is not None:
        if (options.state / "slow to end").exists():
            await asyncio.sleep(1.0)
        (options.state / "checkpoint").write_text(str(os.getpid()))
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--state", type=Path)
    for name in ("--account-id", "--region", "--endpoint-url"):
        parser.add_argument(name, required=True)
    asyncio.run(serve(parser.parse_args()))
