"""The daemon, put together: adapters into services, services behind the ingress; and its start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import platform
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from lambdad import __version__
from lambdad.adapters.clock import SystemClock
from lambdad.adapters.data_dir import DataDir
from lambdad.adapters.file_blobs import FileBlobs
from lambdad.adapters.memory_gauge import SystemMemoryGauge
from lambdad.adapters.process_sandbox import end_leftovers
from lambdad.adapters.runtime_commands import LocalRuntimeCommands
from lambdad.adapters.runtime_discovery import RuntimeDiscovery
from lambdad.adapters.sandboxes import open_driver
from lambdad.adapters.sqlite_logs import SqliteLogStore
from lambdad.adapters.sqlite_store import SqliteStore
from lambdad.adapters.unpacked_code import UnpackedCode
from lambdad.adapters.zip_packages import inspect
from lambdad.domain.arns import FunctionKey
from lambdad.domain.logs import ServiceUnavailableException
from lambdad.domain.settings import Settings
from lambdad.ingress.gateway import Gateway
from lambdad.ingress.http import HttpServer
from lambdad.ingress.internal import InternalPages
from lambdad.ingress.invocations import Invocations
from lambdad.ingress.lambda_api import LambdaServices
from lambdad.ingress.lambda_api import operations as lambda_operations
from lambdad.ingress.logs_api import operations as logs_operations
from lambdad.ingress.runtime_api import RuntimeListener
from lambdad.ports.sandbox import SandboxDriver
from lambdad.services.aliases import AliasesService
from lambdad.services.code import CodeService
from lambdad.services.concurrency import ConcurrencyService
from lambdad.services.function_log import FunctionLogs
from lambdad.services.functions import FunctionsService
from lambdad.services.invoke import InvokeService, Targets
from lambdad.services.logs import LogsService
from lambdad.services.pool import HostParts, LocalHost
from lambdad.services.tags import TagsService

logger = logging.getLogger("lambdad")

EXPIRE_LOGS_S = 60.0
_SANDBOX_FACTS = ("driver", "isolated", "programs", "limits", "fallbacks", "network")


class Daemon:
    """Everything that runs, from `start` to `stop`."""

    def __init__(self, settings: Settings, data_dir: DataDir, driver: SandboxDriver) -> None:
        self.settings = settings
        self._data_dir = data_dir
        self._started = time.time()
        self._tasks: list[asyncio.Task[None]] = []
        self.endpoint_url = ""
        self.port = settings.port

        clock = SystemClock()
        directory = data_dir.path
        self.runtimes = RuntimeDiscovery.of(settings, directory)
        self._store = SqliteStore(directory / "lambdad.db")
        self._log_store = SqliteLogStore(directory)
        self._logs = LogsService(self._log_store, clock)
        self._function_logs = FunctionLogs(self._logs)
        blobs = FileBlobs(directory / "blobs")
        end_leftovers(directory / "unpacked")
        unpacked = UnpackedCode(directory / "unpacked", blobs)
        self.host = LocalHost(
            HostParts(
                clock=clock,
                driver=driver,
                code=unpacked,
                commands=LocalRuntimeCommands(self.runtimes),
                listener=RuntimeListener,
                log_sink=self._function_logs.open,
                endpoint_url=lambda: self.endpoint_url,
                serve_endpoint=lambda listener: self._server.accept_on(listener),
                memory=SystemMemoryGauge(),
                memory_reserve_mb=settings.memory_reserve_mb,
                idle_s=settings.idle_timeout,
                processors=os.cpu_count() or 1,
            )
        )
        self._targets = Targets(self._store)
        self._concurrency = ConcurrencyService(self._store, self._function_changed)
        self._code = CodeService(self._store, blobs, unpacked, inspect, self.host.unused)
        self._functions = FunctionsService(
            self._store,
            self._code,
            self.host,
            self.runtimes,
            clock,
            created=self._targets.remember,
            changed=self._function_changed,
        )
        self._invoke = InvokeService(self._targets, self._concurrency, self.host, clock)
        services = LambdaServices(
            functions=self._functions,
            aliases=AliasesService(self._store, self._function_changed),
            concurrency=self._concurrency,
            tags=TagsService(self._store),
            endpoint_url=lambda: self.endpoint_url,
        )
        internal = InternalPages({"health": self._health, "info": self._info}, self._functions)
        gateway = Gateway(
            handlers={"lambda": lambda_operations(services), "logs": logs_operations(self._logs)},
            invocations=Invocations(self._invoke),
            internal=internal,
            account_id=settings.account_id,
            region=settings.region,
        )
        self._server = HttpServer(gateway)

    async def start(self) -> None:
        """Listen, and begin the work in the background. Raises OSError when the address cannot be had."""
        host, port = await self._server.listen(self.settings.host, self.settings.port)
        self.port = port
        reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        self.endpoint_url = f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.host.reap()),
            loop.create_task(self._function_logs.run()),
            loop.create_task(self._expire_logs()),
            loop.create_task(self._code.collect()),
        ]

    async def stop(self) -> None:
        """Finish what is running, within the time that the settings give it, and put everything on disk."""
        await self._server.stop(self.settings.drain_timeout)
        for task in self._tasks:
            task.cancel()
        await self.host.drain(0.0)
        await self._code.settle()
        try:
            await self._logs.close()
        except ServiceUnavailableException as error:
            logger.error("The last logs cannot be written: %s", error.message)
        await self._log_store.close()
        await self._store.close()
        self._data_dir.release()

    def _function_changed(self, key: FunctionKey) -> None:
        self._targets.forget(key)
        self._concurrency.recount(key)
        self._invoke.expect(key)

    async def _expire_logs(self) -> None:
        while True:
            try:
                await self._logs.expire()
            except ServiceUnavailableException as error:
                logger.error("Logs that have expired cannot be removed: %s", error.message)
            await asyncio.sleep(EXPIRE_LOGS_S)

    async def _health(self) -> Mapping[str, Any]:
        status = self.host.status()
        document: dict[str, Any] = {
            "status": "running",
            "version": __version__,
            "sandbox": {name: status[name] for name in _SANDBOX_FACTS if name in status},
            "services": {"lambda": "running", "logs": "running"},
        }
        if not status["isolated"]:
            which = "functions" if status["driver"] == "process" else "functions that are not Python"
            document["warning"] = f"{which} are not isolated: they run as plain processes"
        return document

    async def _info(self) -> Mapping[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "python": platform.python_version(),
            "endpoint_url": self.endpoint_url,
            "data_dir": str(self._data_dir.path),
            "region": self.settings.region,
            "account_id": self.settings.account_id,
            "started": self._started,
            "uptime_s": round(time.time() - self._started, 3),
            "invocations_running": self._concurrency.running(),
            "host": dict(self.host.status()),
        }


def raise_open_files_limit() -> None:
    """As many descriptors as the system lets us have: each environment and each client takes some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle_memory() -> None:
    """What is loaded now stays: the collector need not look at it again, nor come at every 700 log records.

    Measured: 40 microseconds of processor time an invocation without this, 32 with it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def serve(settings: Settings, data_dir: DataDir, ready: Any) -> None:
    """Run a daemon until SIGTERM or SIGINT; `ready(daemon)` is called when it answers."""
    raise_open_files_limit()

    async def run() -> None:
        driver = await open_driver(
            settings.sandbox,
            network=settings.network,
            endpoint_port=lambda: daemon.port,
            hidden=(data_dir.path, Path.home()),
        )
        daemon = Daemon(settings, data_dir, driver)
        await daemon.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        settle_memory()
        ready(daemon)
        await stop.wait()
        logger.info("stopping")
        await daemon.stop()

    uvloop.run(run())
