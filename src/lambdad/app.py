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
from lambdad.adapters.aes_gcm_cipher import AesGcmCipher
from lambdad.adapters.backends import NeighbourBackends, embedded_services
from lambdad.adapters.clock import SystemClock
from lambdad.adapters.data_dir import DataDir
from lambdad.adapters.file_blobs import FileBlobs
from lambdad.adapters.memory_gauge import SystemMemoryGauge
from lambdad.adapters.neighbour_process import NeighbourCommand, NeighbourProcess
from lambdad.adapters.neighbours import AwsNeighbours
from lambdad.adapters.package_signatures import FilePackageSignatures
from lambdad.adapters.process_sandbox import end_leftovers
from lambdad.adapters.runtime_commands import LocalRuntimeCommands
from lambdad.adapters.runtime_discovery import RuntimeDiscovery
from lambdad.adapters.sandboxes import open_driver
from lambdad.adapters.secret_key import secret_key
from lambdad.adapters.sqlite_events import SqliteEventStore
from lambdad.adapters.sqlite_logs import SqliteLogStore
from lambdad.adapters.sqlite_metrics import SqliteMetricStore
from lambdad.adapters.sqlite_store import SqliteStore
from lambdad.adapters.unpacked_code import UnpackedCode
from lambdad.adapters.web import HttpWeb
from lambdad.adapters.zip_packages import inspect
from lambdad.domain.arns import FunctionKey
from lambdad.domain.credentials import CredentialIssuer
from lambdad.domain.logs import ServiceUnavailableException
from lambdad.domain.neighbour_services import NATIVE
from lambdad.domain.settings import Settings, neighbour_endpoints
from lambdad.domain.tags import CODE_SIGNING_CONFIG, EVENT_SOURCE_MAPPING
from lambdad.event_sources import EventSources, Surroundings
from lambdad.ingress.cloudwatch_api import operations as cloudwatch_operations
from lambdad.ingress.code_links import CodeLinks
from lambdad.ingress.event_pages import event_pages
from lambdad.ingress.function_urls import FunctionUrls
from lambdad.ingress.gateway import Gateway
from lambdad.ingress.http import HttpServer
from lambdad.ingress.internal import InternalPages
from lambdad.ingress.invocations import Invocations
from lambdad.ingress.lambda_api import LambdaServices
from lambdad.ingress.lambda_api import operations as lambda_operations
from lambdad.ingress.logs_api import operations as logs_operations
from lambdad.ingress.logs_api.subscriptions import operations as subscription_operations
from lambdad.ingress.metric_pages import metric_pages
from lambdad.ingress.neighbour_exchanges import Exchanges
from lambdad.ingress.runtime_api import RuntimeListener
from lambdad.ports.sandbox import SandboxDriver
from lambdad.ports.store import StoreUnavailable
from lambdad.services import code_signing as code_signing_configs
from lambdad.services import event_source_mappings
from lambdad.services.aliases import AliasesService
from lambdad.services.asynchronous import AsynchronousInvocations
from lambdad.services.attempts import Attempts
from lambdad.services.code import CodeService
from lambdad.services.code_signing import CodeSigningService
from lambdad.services.concurrency import ConcurrencyService
from lambdad.services.deliveries import Deliveries
from lambdad.services.destination_check import DestinationCheck
from lambdad.services.dispatch_attempts import DispatchAttempts
from lambdad.services.dispatcher import Dispatcher
from lambdad.services.environment_encryption import EnvironmentEncryption
from lambdad.services.event_invoke_configs import EventInvokeConfigsService
from lambdad.services.event_queue import EventQueue, QueueLimits
from lambdad.services.function_log import FunctionLogs
from lambdad.services.function_urls import FunctionUrlsService
from lambdad.services.functions import FunctionsService
from lambdad.services.identities import Identities
from lambdad.services.invoke import InvokeService, Targets
from lambdad.services.launching import LaunchParts
from lambdad.services.layers import LayersService
from lambdad.services.log_subscriptions import LogSubscriptions
from lambdad.services.logs import LogsService
from lambdad.services.metric_data import MetricData
from lambdad.services.metrics import Metrics
from lambdad.services.package_objects import PackageObjects
from lambdad.services.permissions import PermissionsService
from lambdad.services.pool import HostParts, LocalHost
from lambdad.services.provisioned_concurrency import ProvisionedConcurrencyService
from lambdad.services.runtime_management import RuntimeManagementService
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

        self._clock = SystemClock()
        self.runtimes = RuntimeDiscovery.of(settings, data_dir.path)
        self._open_stores(data_dir.path)
        self._code_directories = UnpackedCode(data_dir.path / "unpacked", self._blobs)
        self._open_neighbours(data_dir.path / "neighbours")
        self._environments = EnvironmentEncryption(AesGcmCipher(data_dir.path), self._neighbours)
        self._issuer = CredentialIssuer(secret_key(data_dir.path / "credentials.key"))
        self.host = self._local_host(driver)
        self._metrics = Metrics(self._metric_store, self._clock)
        self._targets = Targets(self._store)
        self._concurrency = ConcurrencyService(self._store, self._function_changed)
        self._permissions = PermissionsService(self._store, self._function_changed)
        self._function_urls = FunctionUrlsService(self._store, self._clock, lambda: self.endpoint_url)
        self._provisioned = ProvisionedConcurrencyService(
            self._store, self.host, self._concurrency, self._clock, self._function_changed
        )
        self._invoke = InvokeService(self._targets, self._concurrency, self.host, self._clock, self._metrics)
        self._web = HttpWeb()
        self._queue = self._event_queue()
        payload_bytes = settings.async_payload_kb * 1024
        self._events = AsynchronousInvocations(self._queue, self._invoke, self._metrics, self._clock, payload_bytes)
        self._sources = self._event_sources(data_dir.path)
        self._server = HttpServer(self._gateway())

    def _open_stores(self, directory: Path) -> None:
        self._store = SqliteStore(directory / "lambdad.db")
        self._event_store = SqliteEventStore(directory / "events.db")
        self._metric_store = SqliteMetricStore(directory / "metrics.db")
        self._log_store = SqliteLogStore(directory)
        self._logs = LogsService(self._log_store, self._clock)
        self._function_logs = FunctionLogs(self._logs)
        self._blobs = FileBlobs(directory / "blobs")
        end_leftovers(directory / "unpacked")

    def _open_neighbours(self, directory: Path) -> None:
        settings, embedded = self.settings, embedded_services()
        endpoints = neighbour_endpoints(settings.neighbour)
        command = NeighbourCommand(
            directory, settings.ephemeral, settings.account_id, settings.region, lambda: self.endpoint_url
        )
        self._backends = NeighbourBackends(endpoints, NeighbourProcess(command), embedded)
        self._neighbours = AwsNeighbours(endpoints, own=(*embedded, *NATIVE), own_url=lambda: self.endpoint_url)

    def _local_host(self, driver: SandboxDriver) -> LocalHost:
        return LocalHost(
            HostParts(
                LaunchParts(
                    clock=self._clock,
                    driver=driver,
                    code=self._code_directories,
                    commands=LocalRuntimeCommands(self.runtimes),
                    listener=RuntimeListener,
                    log_sink=self._function_logs.open,
                    variables=self._environments.open,
                    credentials=self._issuer,
                    endpoint_url=lambda: self.endpoint_url,
                    serve_endpoint=lambda listener: self._server.accept_on(listener),
                ),
                memory=SystemMemoryGauge(),
                memory_reserve_mb=self.settings.memory_reserve_mb,
                idle_s=self.settings.idle_timeout,
                processors=_processors(),
            )
        )

    def _event_queue(self) -> EventQueue:
        payload_bytes, delay_scale = self.settings.async_payload_kb * 1024, self.settings.retry_delay_scale
        deliveries = Deliveries(self._neighbours, payload_bytes)
        dispatches = DispatchAttempts(self._neighbours, self._web, self._clock, delay_scale)
        attempts = Attempts(
            self._invoke, deliveries, dispatches, self._metrics, self._clock, delay_scale, payload_bytes
        )
        limits = QueueLimits(2 * _processors(), self.settings.event_history, delay_scale)
        return EventQueue(self._event_store, attempts, self._clock, limits)

    def _event_sources(self, directory: Path) -> EventSources:
        return EventSources(
            Surroundings(
                directory=directory,
                store=self._store,
                clock=self._clock,
                logs=self._logs,
                permissions=self._permissions,
                backends=self._backends,
                neighbours=self._neighbours,
                dispatcher=Dispatcher(self._queue, self._events, self._permissions, self._clock),
                invoke=self._invoke,
                endpoint_url=lambda: self.endpoint_url,
            )
        )

    def _gateway(self) -> Gateway:
        settings, clock, changed = self.settings, self._clock, self._function_changed
        destinations = DestinationCheck(self._neighbours, self._store)
        self._code = CodeService(self._store, self._blobs, self._code_directories, inspect, self.host.unused)
        signatures = FilePackageSignatures(self._data_dir.path)
        code_signing = CodeSigningService(self._store, signatures, self._code.read, self._metrics, clock)
        layers = LayersService(self._store, self._code, code_signing, clock)
        functions = FunctionsService(
            self._store,
            self._code,
            self.host,
            self.runtimes,
            clock,
            destinations,
            self._environments,
            layers,
            code_signing,
            created=self._targets.remember,
            changed=changed,
        )
        self._subscriptions = LogSubscriptions(
            self._log_store, self._logs, self._permissions, self._events, clock, settings.async_payload_kb * 1024
        )
        link_key = secret_key(self._data_dir.path / "link.key")
        code_links = CodeLinks(functions, layers, clock, link_key, lambda: self.endpoint_url)
        services = LambdaServices(
            functions=functions,
            aliases=AliasesService(self._store, changed),
            code_signing=code_signing,
            concurrency=self._concurrency,
            event_invoke_configs=EventInvokeConfigsService(self._store, clock, destinations, changed),
            event_source_mappings=self._sources.mappings,
            events=self._events,
            function_urls=self._function_urls,
            layers=layers,
            permissions=self._permissions,
            provisioned_concurrency=self._provisioned,
            runtime_management=RuntimeManagementService(self._store, self.runtimes, self.host, changed),
            tags=TagsService(
                self._store,
                {CODE_SIGNING_CONFIG: code_signing_configs.exists, EVENT_SOURCE_MAPPING: event_source_mappings.exists},
            ),
            packages=PackageObjects(self._backends),
            code_links=code_links,
        )
        identities = Identities(self._issuer, self._backends, clock, settings.account_id)
        namespace = settings.account_id, settings.region
        internal = InternalPages(
            {"health": self._health, "info": self._info},
            event_pages(self._queue, clock, *namespace),
            metric_pages(self._metrics, clock, *namespace),
            self._sources.pages,
        )
        return Gateway(
            handlers={
                "lambda": lambda_operations(services),
                "logs": logs_operations(self._logs) | subscription_operations(self._subscriptions),
                "cloudwatch": cloudwatch_operations(MetricData(self._metric_store, self._metrics, clock), clock),
                **self._sources.handlers,
            },
            invocations=Invocations(self._invoke, self._events, self._permissions),
            internal=internal,
            function_urls=FunctionUrls(self._function_urls, self._invoke, self._permissions, identities, clock),
            exchanges=Exchanges(self._backends, [code_links, *self._sources.observers]),
            account_id=settings.account_id,
            region=settings.region,
        )

    async def start(self) -> None:
        """Listen, and begin the work in the background. Raises OSError when the address cannot be had."""
        sealed = await self._environments.seal_old(self._store)
        if sealed:
            logger.info("the environment variables of %d versions were in clear text; they are encrypted now", sealed)
        await self._subscriptions.start()
        recovered = await self._queue.recover()
        if recovered:
            logger.info("%d events were in flight when the last daemon died; they are taken up again", recovered)
        await self._sources.start()
        host, port = await self._server.listen(self.settings.host, self.settings.port)
        self.port = port
        reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        self.endpoint_url = f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.host.reap()),
            loop.create_task(self._function_logs.run()),
            loop.create_task(self._subscriptions.run()),
            loop.create_task(self._expire_logs()),
            loop.create_task(self._code.collect()),
            loop.create_task(self._metrics.run()),
            loop.create_task(self._queue.forget_endings()),
            loop.create_task(self._queue.expire()),
            *(loop.create_task(work) for work in self._sources.tasks()),
        ]
        for task in self._tasks:
            task.add_done_callback(_tell_of_death)
        await self._queue.start()
        await self._provisioned.start()

    async def stop(self) -> None:
        """Finish what is running, within the time that the settings give it, and put everything on disk."""
        drain_s = self.settings.drain_timeout
        ends = self._clock.monotonic() + drain_s
        await asyncio.gather(self._server.stop(drain_s), self._queue.stop(drain_s), self._sources.stop(drain_s))
        await self._subscriptions.close()
        await self._provisioned.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sources.close()
        await self.host.drain(max(ends - self._clock.monotonic(), 0.0))
        await self._queue.close()
        await self._web.close()
        await self._neighbours.close()
        await self._backends.close(drain_s)
        await self._code.settle()
        try:
            await self._logs.close()
        except ServiceUnavailableException as error:
            logger.error("The last logs cannot be written: %s", error.message)
        try:
            await self._metrics.close()
        except StoreUnavailable as error:
            logger.error("The last metrics cannot be written: %s", error)
        await self._metric_store.close()
        await self._log_store.close()
        await self._store.close()
        self._data_dir.release()

    def _function_changed(self, key: FunctionKey) -> None:
        self._targets.forget(key)
        self._concurrency.recount(key)
        self._invoke.expect(key)
        self._queue.hasten(key)
        self._function_urls.forget(key)
        self._provisioned.function_changed(key)

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
            "services": dict.fromkeys(NATIVE, "running"),
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
            "neighbours": dict(await self._backends.describe()),
            "neighbour_process": dict(self._backends.process()),
            "log_events_discarded": self._logs.discarded_events,
            "log_events_undelivered": self._subscriptions.dropped_events,
        }


def _processors() -> int:
    return os.cpu_count() or 1


def _tell_of_death(task: asyncio.Task[None]) -> None:
    """What runs for ever has ended: that is a fault of ours, and not to pass unseen."""
    if not task.cancelled() and task.exception() is not None:
        logger.error("work in the background has failed", exc_info=task.exception())


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
