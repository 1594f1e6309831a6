"""Has moto answer a request: the service is imported when it is first asked for, and its state comes back from disk.

Everything here but `status` is called on the worker's thread.
"""

from __future__ import annotations

import importlib
import io
import logging
import mmap
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final, Protocol
from urllib.parse import parse_qs, unquote, unquote_to_bytes

from botocore.exceptions import ClientError
from botocore.model import OperationNotFoundError

from lambdad_neighbours import errors, seams
from lambdad_neighbours.catalogue import SERVICES, changes_state, is_unknown_to_moto
from lambdad_neighbours.long_polling import EmptyReceive, ReceiveSeam

logger = logging.getLogger(__name__)

SERVICE_HEADER: Final = "x-lambdad-service"
REQUEST_ID_HEADER: Final = "x-lambdad-request-id"
_FORM: Final = "application/x-www-form-urlencoded"
# The account of a request, for moto.
_MOTO_ACCOUNT: Final = "HTTP_X_MOTO_ACCOUNT_ID"
# A first action parameter is looked for in so much of a body.
_ACTION_BYTES: Final = 64 * 1024
# These say how the connection is used; the server decides about them. `status` is a header of moto's own.
_DROPPED_HEADERS: Final = frozenset({"connection", "content-length", "status", "transfer-encoding", "keep-alive"})


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is all here. `path` and `query` are as sent, header names are lower case."""

    service: str
    account_id: str
    region: str
    request_id: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: IO[bytes]
    body_bytes: int

    @property
    def operation(self) -> str:
        """The name of the operation, from the target header or the query protocol; "" where neither has it."""
        target = self.headers.get("x-amz-target")
        if target is not None:
            return target.rpartition(".")[2]
        if SERVICES[self.service].protocol in {"rest-json", "rest-xml"}:
            return ""
        text = self.query
        if self.headers.get("content-type", "").startswith(_FORM):
            text = self.body.read(_ACTION_BYTES).decode("latin-1")
            self.body.seek(0)
        return parse_qs(text).get("Action", [""])[0]


@dataclass(slots=True)
class Answer:
    """`length` of a body that is not bytes, or of one that HEAD leaves out; None when it is not known."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | IO[bytes] | Iterable[bytes] = b""
    length: int | None = None
    empty: EmptyReceive | None = None
    """What ReceiveMessage has found empty."""


class Persistence(Protocol):
    """Keeps what services know: see `lambdad_neighbours.persistence`. Names are those of moto's packages."""

    def install(self) -> None:
        """Once, before any backend is imported."""

    def restore(self, moto_service: str) -> None:
        """After a backend has been imported, before its first use."""

    def changed(self, moto_service: str) -> None:
        """After a request that may have changed something. Raises OSError when the disk refuses it."""

    def checkpoint_if_due(self) -> None: ...

    def close(self) -> None: ...

    def status(self) -> dict[str, dict[str, Any]]: ...


@dataclass(slots=True)
class _Loaded:
    routes: list[tuple[re.Pattern[str], Callable[..., Any]]]
    requests: int = field(default=0)


class Services:
    """The services of this process."""

    def __init__(self, outside: seams.Outside, make_persistence: Callable[[], Persistence]) -> None:
        self._outside = outside
        self._make_persistence = make_persistence
        self._persistence: Persistence
        self._loaded: dict[str, _Loaded] = {}
        self._seen: set[str] = set()
        self._receive = ReceiveSeam()
        self._request: Callable[[dict[str, Any]], Any]

    def install(self) -> None:
        """Import and change what all services of moto share; before anything else. Raises ImportError and OSError."""
        seams.install(self._outside)
        self._persistence = self._make_persistence()
        from moto.core.base_backend import BackendDict
        from moto.core.request import Request

        class Received(Request):  # type: ignore[misc]
            @property
            def want_form_data_parsed(self) -> bool:
                # An object may have the content type of a form, and is not one: only a POST to a bucket is.
                return self.method != "PUT" and bool(super().want_form_data_parsed)

            @property
            def data(self) -> Any:
                # A large object is in a file, and goes from there to where it is kept without being in memory at once.
                body = self.environ["wsgi.input"]
                if self.method == "PUT" and not isinstance(body, io.BytesIO):
                    return memoryview(mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ))
                return super().data

        self._request = Received
        self._persistence.install()
        of_account = BackendDict.__getitem__

        def watched(backends: Any, account_id: str) -> Any:
            self._prepare(backends.backend.__module__.split(".")[1])
            return of_account(backends, account_id)

        BackendDict.__getitem__ = watched

    def answer(self, call: Call) -> Answer:
        """Have moto answer, and what has changed written. Raises nothing that a request can bring about."""
        try:
            return self._answer(call)
        except NotImplementedError as error:
            logger.info("%s %s: %s", call.service, call.operation or call.path, error)
            return self._failure(call, errors.not_implemented(call.operation or f"{call.method} {call.path}"))
        except ModuleNotFoundError as error:
            logger.warning("%s %s: %s", call.service, call.operation or call.path, error)
            what = f"{call.operation or call.service} needs the Python package {error.name}, without which it"
            return self._failure(call, errors.not_implemented(what))
        except OperationNotFoundError:
            return self._failure(call, errors.INVALID_ACTION)
        except OSError:
            logger.exception("%s %s could not be stored", call.service, call.operation or call.path)
            return self._failure(call, errors.NOT_STORED)
        except Exception as error:  # whatever moto raises, the client gets an answer, and the next request is served
            # Mostly the request is at fault, which the daemon finds out: one line for people, the rest for who looks.
            named = call.operation or f"{call.method} {call.path}"
            logger.warning("%s %s has failed: %s: %s", call.service, named, type(error).__name__, error)
            logger.info("where it has failed", exc_info=True)
            return self._failure(call, _failure_for(call, error))

    def checkpoint(self) -> None:
        """Between requests, and at least every second."""
        self._persistence.checkpoint_if_due()

    def close(self) -> None:
        """Write everything. Raises OSError."""
        self._persistence.close()

    def execution_ended(self) -> None:
        """A state machine's execution has ended on a thread of its own."""
        try:
            self._persistence.changed("stepfunctions")
        except OSError:  # nobody waits for this; the next change of the service writes it too
            logger.exception("the end of an execution could not be stored")

    def status(self) -> dict[str, dict[str, Any]]:
        """What is loaded, for people. From any thread."""
        stored = self._persistence.status() if self._loaded else {}
        return {
            name: {
                "loaded": True,
                "requests": loaded.requests,
                "last_checkpoint": stored.get(SERVICES[name].package, {}).get("last_checkpoint"),
                "dirty": stored.get(SERVICES[name].package, {}).get("dirty", False),
            }
            for name, loaded in dict(self._loaded).items()
        }

    def _answer(self, call: Call) -> Answer:
        loaded = self._loaded.get(call.service) or self._load(call.service)
        loaded.requests += 1
        if call.service == "s3" and is_unknown_to_moto(call.path, call.query):
            raise NotImplementedError(f"{call.path}?{call.query}")
        self._receive.empty = None
        answer = self._dispatch(call, loaded)
        answer.empty = self._receive.take()
        found_nothing = answer.empty is not None
        if answer.status < 400 and not found_nothing and changes_state(call.operation, call.method):
            self._persistence.changed(SERVICES[call.service].package)
        return answer

    def _load(self, service: str) -> _Loaded:
        package = SERVICES[service].package
        importlib.import_module(f"moto.{package}.models")
        urls = importlib.import_module(f"moto.{package}.urls")
        self._prepare(package)
        self._persistence.restore(package)
        routes = [(re.compile(path.format("")), handler) for path, handler in urls.url_paths.items()]
        return self._loaded.setdefault(service, _Loaded(routes))

    def _prepare(self, package: str) -> None:
        """Change a package of moto's before its first use, which may be another service's: a stack makes a bucket."""
        if package in self._seen:
            return
        models = sys.modules.get(f"moto.{package}.models")
        if models is None or getattr(models.__spec__, "_initializing", False):
            return
        self._seen.add(package)
        seams.after_import(package, self._outside)
        if package == "sqs":
            self._receive.install()
        elif package == "sns":
            from lambdad_neighbours import topics

            topics.install()

    def _dispatch(self, call: Call, loaded: _Loaded) -> Answer:
        from moto.core.exceptions import HTTPException

        handler = next((handler for pattern, handler in loaded.routes if pattern.match(call.path)), None)
        if handler is None:
            raise NotImplementedError(f"{call.method} {call.path}")
        request = self._request(_environ(call))
        try:
            result = handler(request, request.raw_url, request.headers)
        except HTTPException as error:
            result = error.code, dict(error.get_headers()), error.get_body()
        except ClientError as error:
            result = 400, {}, error.response["Error"]["Message"]
        status, headers, body = result if isinstance(result, tuple) and len(result) == 3 else (200, {}, result)
        return _answer_of(call, int(status), headers, body)

    def _failure(self, call: Call, failure: errors.Failure) -> Answer:
        rendered = errors.render(failure, SERVICES[call.service].protocol, call.headers, call.request_id)
        return Answer(rendered.status, rendered.headers, rendered.body)


def _failure_for(call: Call, error: Exception) -> errors.Failure:
    """What moto's failure means: of what a path names, it looks for some without asking whether it is there."""
    if isinstance(error, KeyError) and SERVICES[call.service].protocol == "rest-json":
        name = str(error.args[0]) if error.args else ""
        if name in unquote(call.path).split("/"):
            return errors.not_found(call.service, name)
    return errors.OF_REQUESTS.get((call.service, call.operation), errors.INTERNAL)


def _environ(call: Call) -> dict[str, Any]:
    """The request as WSGI has it (PEP 3333), which moto reads."""
    from moto.core.request import (
        PRESERVED_HEADER_NAMES_ENVIRON_KEY,
        environ_key_for_header,
        should_preserve_original_header_name,
    )

    host = call.headers.get("host", "localhost")
    name, _, port = host.partition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(call.path).decode("latin-1"),
        "RAW_URI": f"{call.path}?{call.query}" if call.query else call.path,
        "QUERY_STRING": call.query,
        "SERVER_NAME": name,
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": call.body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    preserved = {}
    for header, value in call.headers.items():
        key = environ_key_for_header(header)
        if should_preserve_original_header_name(header):
            preserved[key] = header
        environ[key] = value
    environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = preserved
    environ["CONTENT_LENGTH"] = str(call.body_bytes)
    environ[_MOTO_ACCOUNT] = call.account_id
    return environ


def _answer_of(call: Call, status: int, headers: Mapping[str, Any], body: Any) -> Answer:
    named = [(name, str(value)) for name, value in headers.items() if name.lower() not in _DROPPED_HEADERS]
    if call.service == "s3":
        named = [("x-amz-request-id" if name == "x-amzn-requestid" else name, value) for name, value in named]
    length = next((int(value) for name, value in headers.items() if name.lower() == "content-length"), None)
    if isinstance(body, str):
        body = body.encode()
    elif isinstance(body, (bytearray, memoryview)):
        body = bytes(body)
    if body is None or call.method == "HEAD" or status in {204, 304}:
        if length is None and isinstance(body, bytes):
            length = len(body)
        return Answer(status, named, b"", length if call.method == "HEAD" else None)
    if isinstance(body, bytes):
        return Answer(status, named, body)
    if length is None and not isinstance(body, (list, tuple)) and hasattr(body, "__len__"):
        length = len(body)
    return Answer(status, named, body, length)
