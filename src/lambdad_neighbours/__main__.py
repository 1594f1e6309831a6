"""`python -m lambdad_neighbours`: serves until the daemon goes away."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from lambdad.ingress.http import HttpServer
from lambdad_neighbours import seams
from lambdad_neighbours.server import NeighbourServer
from lambdad_neighbours.services import Persistence, Services
from lambdad_neighbours.worker import Worker

logger = logging.getLogger("lambdad_neighbours")

# Answers that are under way when the end comes get so long; so does a job of the worker, before the last checkpoint.
FINISH_S: Final = 5.0


def main() -> None:
    """Serve, and end with 0, or with 1 when moto or the state cannot be loaded or written."""
    options = _options()
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    # Ctrl-C goes to the daemon as well, which lets this process end in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = uvloop.run(_serve(options))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of moto's may be waiting for functions; all is written, and nothing is waited for.
    os._exit(status)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lambdad_neighbours", description=__doc__)
    parser.add_argument("--socket", required=True, help="the Unix socket to listen on")
    parser.add_argument("--state", type=Path, help="where the services' state is kept; without it nothing is")
    parser.add_argument("--account-id", default="000000000000", help="the account of requests that name none")
    parser.add_argument("--region", default="us-east-1", help="the region of requests that name none")
    parser.add_argument("--endpoint-url", default="", help="the daemon, for services that call functions and others")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> int:
    if options.state is not None:
        options.state.mkdir(parents=True, exist_ok=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    worker = Worker()
    outside = seams.Outside(options.endpoint_url, worker.step_aside)
    services = Services(outside, partial(_persistence, options.state))
    outside.execution_ended = lambda: worker.post(services.execution_ended)
    server = NeighbourServer(
        services,
        worker,
        defaults=(options.account_id, options.region),
        inspections=_inspections,
        uploads=options.state,
    )
    http = HttpServer(server)
    await http.listen_unix(options.socket)
    _watch_stdin(loop, ended)
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201  what the daemon waits for
    try:
        await worker.run(services.install)
        checkpoints = loop.create_task(server.checkpoints())
        await ended.wait()
        checkpoints.cancel()
    finally:
        server.end()
        await http.stop(FINISH_S)
        with suppress(FileNotFoundError):
            os.unlink(options.socket)
    try:
        await worker.run(services.close)
    except OSError:
        logger.exception("not all of the state could be written")
        return 1
    worker.stop(FINISH_S)
    return 0


def _persistence(directory: Path | None) -> Persistence:
    """Imported by the worker, after the settings that moto reads are made."""
    from lambdad_neighbours import persistence

    return persistence.Persistence(directory)


def _inspections() -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
    """Imported when first asked for: they know moto."""
    from lambdad_neighbours.inspections import INSPECTIONS

    return INSPECTIONS


def _watch_stdin(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """The daemon holds the other end: when it is gone, so are those for whom this process is."""

    def watch() -> None:
        # Not by sys.stdin, whose lock would be held when the interpreter ends.
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, name="stdin", daemon=True).start()


if __name__ == "__main__":
    main()
