"""What survives of the embedded services when their process ends, however it ends.

Services with little state are written before a change is answered. The state of S3, SQS, DynamoDB and Kinesis is
written in the background, by a fork, so a kill loses what has changed since the last checkpoint.
"""

import contextlib
import gc
import importlib
import io
import logging
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import moto
from moto.core import common_models
from moto.core.base_backend import BackendDict

from lambdad_neighbours import forks, object_files, pickling, s3_objects, snapshots
from lambdad_neighbours.object_files import ObjectStore, Turnover

logger = logging.getLogger(__name__)

# The least time between two checkpoints of a service, and between two looks for changes by side effect.
CHECKPOINT_INTERVAL_S: Final = 5.0
# How long one look for changes may keep requests waiting; what is left is looked at the next time.
SWEEP_BUDGET_S: Final = 0.01
# How often a state is pickled anew that a thread of moto has changed meanwhile.
PICKLE_ATTEMPTS: Final = 3
CHECKPOINTED: Final = frozenset({"s3", "sqs", "dynamodb", "dynamodbstreams", "kinesis"})
# Its state is the daemon's, or only moto's own.
_NEVER: Final = frozenset({"awslambda", "moto_api", "instance_metadata", ""})
# What pickle raises for a state that it cannot write, or that changes under its hands.
_UNPICKLABLE: Final = (pickle.PicklingError, TypeError, AttributeError, RuntimeError, ValueError)
_OBJECTS: Final = "objects"
_BUFFER_BYTES: Final = 64 * 1024


class _Unchanged(Exception):
    """The state is the one on disk."""


@dataclass(slots=True)
class _Service:
    """What is known of a service's state on disk. `dirty`: memory may have what the disk has not; `begun_at`: when the
    last checkpoint was begun, in epoch seconds."""

    digest: bytes = b""
    last_checkpoint: float | None = None
    dirty: bool = False
    fork: forks.Fork | None = None
    begun_at: float = 0.0
    next_fork: float = 0.0
    turnover: Turnover | None = None
    is_refused: bool = False


class Persistence:
    """Keeps the states of moto's services, named as its packages are. All but `status` is for the one thread that is in
    moto."""

    def __init__(
        self,
        directory: Path | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Without a `directory` nothing is kept; objects of S3 are then in a temporary one, which `close` removes."""
        self._directory = directory
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._services: dict[str, _Service] = {}
        self._registry = pickling.Registry(self._before_use)
        self._touched: set[str] = set()
        self._sweep: list[str] = []
        self._sweep_due = False
        self._next_sweep = 0.0

    def install(self) -> None:
        """Change moto's core; before any backend is imported, and once in a process. Raises OSError."""
        # moto keeps every instance of every model for ever, for a dashboard that is not here.
        kind: Any = common_models.BaseModel
        kind.__new__ = staticmethod(_new_model)
        _watch(self._registry)
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="lambdad-objects-")
            object_files.use(ObjectStore(Path(self._temporary.name), keep=False))
        else:
            self._directory.mkdir(parents=True, exist_ok=True)
            object_files.use(ObjectStore(self._directory / _OBJECTS, keep=True))

    def restore(self, moto_service: str) -> None:
        """Load a service's state, if there is one and it is not loaded. What cannot be loaded is set aside, and the
        service begins empty. Raises OSError."""
        self._before_use(_package(moto_service))

    def changed(self, moto_service: str) -> None:
        """A request may have changed this service, and others with it: they are on disk when this returns, except those
        in CHECKPOINTED.

        Raises OSError when the disk does not take it. Memory then is ahead of the disk; it is tried again with the next
        change and every CHECKPOINT_INTERVAL_S, so a request that was answered with an error may still take effect."""
        if self._directory is None:
            return
        package = _package(moto_service)
        self._before_use(package)
        # What the request has looked at in other services it may have changed: a topic's queues, a load balancer's
        # network interfaces. A stack has resources of any service.
        reached = (self._services.keys() if package == "cloudformation" else self._touched) - {package}
        self._touched = set()
        self._sweep_due = True
        for name in [package, *sorted(reached)]:
            if name in CHECKPOINTED:
                self._services[name].dirty = True
            elif name in self._services:
                self._write(name)

    def checkpoint_if_due(self) -> None:
        """Begin what is due in the background, and end what has been done. Raises nothing; failures are logged."""
        if self._directory is None:
            return
        self._touched = set()
        now = self._monotonic()
        for name, service in list(self._services.items()):
            self._end_fork(name, service, wait=False)
            pending = name == "s3" and object_files.store().is_pending()
            if (
                name in CHECKPOINTED
                and (service.dirty or pending)
                and service.fork is None
                and now >= service.next_fork
            ):
                self._begin_fork(name, service, now)
        self._look_for_changes(now)

    def close(self) -> None:
        """Everything is on disk when this returns. Raises OSError for what is not, after all else was written."""
        if self._directory is None:
            if self._temporary is not None:
                self._temporary.cleanup()
            return
        failed: OSError | None = None
        for name, service in list(self._services.items()):
            self._end_fork(name, service, wait=True)
            try:
                if name in CHECKPOINTED:
                    self._checkpoint_now(name, service)
                else:
                    self._write(name)
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed

    def status(self) -> dict[str, dict[str, Any]]:
        """By service that is loaded: `last_checkpoint`, the time in epoch seconds whose state is on disk (None: nothing
        is), and `dirty`, whether memory may be ahead of it. From any thread."""
        return {
            name: {"last_checkpoint": service.last_checkpoint, "dirty": service.dirty or service.fork is not None}
            for name, service in list(self._services.items())
        }

    # Loading.

    def _before_use(self, package: str) -> None:
        self._touched.add(package)
        if package in self._services or package in _NEVER:
            return
        models = importlib.import_module(f"moto.{package}.models")
        if getattr(models.__spec__, "_initializing", False):
            return
        # First, so that what the loading looks at is not loaded again.
        service = self._services[package] = _Service()
        if package == "s3":
            s3_objects.install()
        if self._directory is None:
            return
        path = self._path(package)
        if path.exists():
            self._load(package, path, service)
        if package == "s3":
            orphans = object_files.store().remove_orphans()
            if orphans:
                logger.info("%d files of objects that no checkpoint has were deleted", orphans)

    def _load(self, package: str, path: Path, service: _Service) -> None:
        written_by = ""
        try:
            with path.open("rb") as file, _no_collection():
                written_by, service.digest = snapshots.open_checked(file)
                pickling.load(self._registry, package, file, fill_in=written_by != moto.__version__)
        except OSError:
            # The disk's fault, not the file's: it must not be replaced by an empty state.
            del self._services[package]
            pickling.forget(self._registry, package)
            raise
        except Exception as error:  # noqa: BLE001  a pickle that does not fit raises anything
            pickling.forget(self._registry, package)
            service.digest = b""
            self._set_aside(package, path, written_by, error)
            return
        service.last_checkpoint = path.stat().st_mtime

    def _set_aside(self, package: str, path: Path, written_by: str, error: Exception) -> None:
        mark = f"corrupt-{int(self._wall_clock())}"
        aside = path.with_name(f"{path.name}.{mark}")
        path.rename(aside)
        if package == "s3":
            objects = object_files.store().directory
            objects.rename(objects.with_name(f"{_OBJECTS}.{mark}"))
            object_files.use(ObjectStore(objects, keep=True))
        logger.error(
            "the state of %s (written by moto %s, this is %s) cannot be loaded and is set aside as %s;"
            " the service begins empty: %s: %s",
            *(package, written_by or "?", moto.__version__, aside, type(error).__name__, error),
        )

    # Writing before the answer.

    def _write(self, package: str) -> None:
        service = self._services[package]
        began = self._wall_clock()
        service.dirty = True
        buffer = io.BytesIO()
        digest = self._pickled(package, service, buffer)
        if digest is None:
            return
        if digest != service.digest:
            with self._replacement(package, began) as file:
                file.write(buffer.getbuffer())
        service.digest, service.last_checkpoint, service.dirty = digest, began, False

    @contextlib.contextmanager
    def _replacement(self, package: str, moment: float) -> Iterator[IO[bytes]]:
        """A file that is a service's state once it is written and on disk; it is deleted when that fails. Its time is
        the `moment` that the state is of, which is earlier than that of the writing: see `_load`."""
        path = self._path(package)
        temporary = path.with_suffix(".new")
        try:
            with temporary.open("wb", buffering=_BUFFER_BYTES) as file:
                yield file
                file.flush()
                os.utime(temporary, (moment, moment))
                os.fsync(file.fileno())
            snapshots.replace(temporary, path)
        except BaseException:  # whatever it is, half a file is of no use, and the disk may be full
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _pickled(self, package: str, service: _Service, buffer: io.BytesIO) -> bytes | None:
        """The checksum of the state that is then in the buffer; None when it cannot be pickled, which is logged."""
        for attempt in range(1, PICKLE_ATTEMPTS + 1):
            buffer.seek(0)
            buffer.truncate()
            try:
                with _no_collection():
                    return snapshots.write(
                        buffer, package, moto.__version__, lambda file: pickling.dump(self._registry, package, file)
                    )
            except _UNPICKLABLE as error:
                if attempt == PICKLE_ATTEMPTS:
                    # Once a service: it would be said with every request.
                    if not service.is_refused:
                        logger.exception("the state of %s cannot be written: %s", package, error)
                    service.is_refused = True
        return None

    def _look_for_changes(self, now: float) -> None:
        """Write what services have changed in others by a way that was not seen."""
        if not self._sweep and now >= self._next_sweep and self._sweep_due:
            self._sweep = [name for name in self._services if name not in CHECKPOINTED]
            self._sweep_due, self._next_sweep = False, now + CHECKPOINT_INTERVAL_S
        until = now + SWEEP_BUDGET_S
        while self._sweep and self._monotonic() <= until:
            name = self._sweep.pop()
            try:
                self._write(name)
            except OSError as error:
                self._sweep_due = True
                logger.error("the state of %s could not be written, it is tried again: %s", name, error)

    # Writing in the background.

    def _begin_fork(self, package: str, service: _Service, now: float) -> None:
        service.next_fork = now + CHECKPOINT_INTERVAL_S
        turnover = object_files.store().begin_checkpoint() if package == "s3" else Turnover()
        service.begun_at, service.turnover = self._wall_clock(), turnover
        try:
            service.fork = forks.fork(lambda: {"digest": self._checkpoint(package, service, turnover).hex()})
        except OSError as error:
            object_files.store().checkpoint_failed(turnover)
            logger.error("no process could be forked for a checkpoint of %s, it is tried again: %s", package, error)
            return
        service.dirty = False

    def _checkpoint_now(self, package: str, service: _Service) -> None:
        turnover = object_files.store().begin_checkpoint() if package == "s3" else Turnover()
        service.begun_at = self._wall_clock()
        try:
            service.digest = self._checkpoint(package, service, turnover)
        except _UNPICKLABLE as error:
            logger.error("the state of %s cannot be written: %s: %s", package, type(error).__name__, error)
            return
        service.last_checkpoint, service.dirty = service.begun_at, False
        object_files.store().checkpoint_done(turnover)

    def _checkpoint(self, package: str, service: _Service, turnover: Turnover) -> bytes:
        """Write the state, unless it is the one on disk; its checksum. In the fork, or when this process ends.

        A fork that outlives this process holds the daemon's lock on the directory: no other process reads or writes the
        state until it has ended."""
        with contextlib.suppress(_Unchanged), self._replacement(package, service.begun_at) as file:
            digest = snapshots.write(
                file, package, moto.__version__, lambda target: pickling.dump(self._registry, package, target)
            )
            if digest == service.digest:
                raise _Unchanged
            object_files.store().sync(turnover)
        return digest

    def _end_fork(self, package: str, service: _Service, *, wait: bool) -> None:
        if service.fork is None or service.turnover is None:
            return
        outcome = service.fork.outcome(wait=wait)
        if outcome is None:
            return
        turnover, service.fork, service.turnover = service.turnover, None, None
        if "error" in outcome:
            service.dirty = True
            object_files.store().checkpoint_failed(turnover)
            logger.error("a checkpoint of %s has failed, it is tried again: %s", package, outcome["error"])
            return
        service.digest, service.last_checkpoint = bytes.fromhex(outcome["digest"]), service.begun_at
        if package == "s3":
            object_files.store().checkpoint_done(turnover)

    def _path(self, package: str) -> Path:
        assert self._directory is not None
        return self._directory / f"{package}.state"


def _package(moto_service: str) -> str:
    """moto's package for a service: "cognitoidp" of "cognito-idp"."""
    return moto_service.replace("-", "")


def _new_model(kind: type, *_: Any, **__: Any) -> Any:
    return object.__new__(kind)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Pickling and loading make very many objects, none of them garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _watch(registry: pickling.Registry) -> None:
    """Have every `BackendDict` tell the registry of itself, and before it is looked at."""
    kind: Any = BackendDict
    make = kind.__init__

    def init(backends: Any, *arguments: Any, **named: Any) -> None:
        make(backends, *arguments, **named)
        registry.add(backends)

    kind.__init__ = init
    # Not its length: moto compares these dicts with each other, which asks for it.
    for name in ("__getitem__", "__contains__", "__iter__", "keys", "values", "items", "get", "iter_backends"):
        setattr(kind, name, _telling(registry, getattr(kind, name)))


def _telling(registry: pickling.Registry, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(backends: Any, *arguments: Any) -> Any:
        registry.used(backends)
        return method(backends, *arguments)

    return call
