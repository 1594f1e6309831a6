"""Other AWS services, called with botocore: at the endpoints that the settings name, else at the daemon's own.

botocore's session is imported with the first call: a daemon that sends nothing does not pay for it. It is made without
the user's AWS configuration, which is about other accounts than lambdad's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from lambdad.domain.settings import NeighbourEndpoint
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable

CALLS_AT_ONCE: Final = 32
CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 10.0
CLIENTS: Final = 64
"""Clients that are kept, one for each service, region and account: about 0.1 MB each, after the first of a service."""

SECRET_KEY: Final = "lambdad"
"""What requests are signed with that have no other key."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429
_PASSING_CODES: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""What AWS's SDKs take for a throttle, or for an error that passes, whatever its status."""


class AwsNeighbours:
    """`Neighbours` by their AWS API. A call has the endpoint's access key, or the account on whose behalf it is made.

    Each call has a thread of its own, `CALLS_AT_ONCE` at most. They are daemons, and not of an executor, whose threads
    the interpreter waits for at its exit: a service that hangs shall not keep the daemon from stopping.
    """

    def __init__(
        self,
        endpoints: Mapping[str, NeighbourEndpoint],
        *,
        own: Collection[str] = (),
        own_url: Callable[[], str] = str,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """`own` are the services that the daemon answers for itself, at `own_url`: it is asked when one is called."""
        self._endpoints = dict(endpoints)
        self._own = frozenset(own) - endpoints.keys()
        self._own_url = own_url
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(CALLS_AT_ONCE))
        self._session: Any = None
        self._clients: OrderedDict[tuple[str, str, str], Any] = OrderedDict()
        self._making_clients = threading.Lock()
        self._trace = threading.local()
        self._closed = False

    def has(self, service: str) -> bool:
        return service in self._endpoints or service in self._own

    def describe(self) -> Mapping[str, str]:
        return {service: self._endpoint(service).url for service in (*self._endpoints, *sorted(self._own))}

    async def call(
        self,
        service: str,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        account_id: str,
        region: str,
        trace: str = "",
    ) -> Mapping[str, Any]:
        if not self.has(service):
            raise NeighbourUnavailable(f"{service} has no endpoint")
        await self._slots[service].acquire()
        if self._closed:
            self._slots[service].release()
            raise NeighbourUnavailable("lambdad is stopping")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Mapping[str, Any]] = loop.create_future()

        def work() -> None:
            result: Mapping[str, Any] | BaseException
            try:
                result = self._call(service, operation, parameters, (account_id, region, trace))
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
                result = error
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it those who waited
                loop.call_soon_threadsafe(self._finish, service, answer, result)

        try:
            threading.Thread(target=work, name=f"neighbour-{service}", daemon=True).start()
        except RuntimeError as error:
            self._slots[service].release()
            raise NeighbourUnavailable(f"the system gives no thread to call {service}: {error}") from error
        return await answer

    async def close(self) -> None:
        """Begin no more calls. Those that hang are left to themselves."""
        self._closed = True

    def _finish(
        self, service: str, answer: asyncio.Future[Mapping[str, Any]], result: Mapping[str, Any] | BaseException
    ) -> None:
        self._slots[service].release()
        if answer.cancelled():
            return
        if isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def _call(
        self, service: str, operation: str, parameters: Mapping[str, Any], caller: tuple[str, str, str]
    ) -> Mapping[str, Any]:
        from botocore import exceptions, xform_name
        from botocore.parsers import ResponseParserError

        account_id, region, self._trace.header = caller
        try:
            method = getattr(self._client(service, region, account_id), xform_name(operation))
            result: Mapping[str, Any] = method(**parameters)
        except exceptions.ClientError as error:
            raise _answered(service, error.response) from error
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            raise NeighbourUnavailable(f"{service} does not answer: {_one_line(error)}") from error
        except (ResponseParserError, LookupError) as error:  # the second for a document that is another's
            raise NeighbourUnavailable(f"what answers at {self._endpoint(service).url} is not {service}") from error
        except exceptions.BotoCoreError as error:  # parameters, a region or a name that no service can have
            raise NeighbourRefused(type(error).__name__, _one_line(error), 400) from error
        return result

    def _endpoint(self, service: str) -> NeighbourEndpoint:
        return self._endpoints.get(service) or NeighbourEndpoint(self._own_url())

    def _client(self, service: str, region: str, account_id: str) -> Any:
        key = (service, region, account_id)
        with self._making_clients:
            client = self._clients.pop(key, None) or self._make_client(service, region, account_id)
            self._clients[key] = client
            if len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
            return client

    def _make_client(self, service: str, region: str, account_id: str) -> Any:
        from botocore.config import Config
        from botocore.session import Session

        if self._session is None:
            nothing = (None, None, os.devnull, None)
            self._session = Session(
                session_vars={
                    "config_file": nothing,
                    "credentials_file": nothing,
                    "profile": (None, None, None, None),
                }
            )
        endpoint = self._endpoint(service)
        client = self._session.create_client(
            service,
            region_name=endpoint.region or region,
            endpoint_url=endpoint.url,
            aws_access_key_id=endpoint.access_key or account_id,
            aws_secret_access_key=endpoint.secret_key or SECRET_KEY,
            config=Config(
                connect_timeout=self._connect_timeout_s,
                read_timeout=self._read_timeout_s,
                retries={"total_max_attempts": 1},
                max_pool_connections=CALLS_AT_ONCE,
                proxies={} if urlsplit(endpoint.url).hostname in _LOOPBACK else None,
                use_fips_endpoint=False,
                use_dualstack_endpoint=False,
                # What stands in for S3 seldom knows names of buckets in its own name, nor the newest checksums.
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        client.meta.events.register("before-call", self._add_trace)
        return client

    def _add_trace(self, params: dict[str, Any], **_: Any) -> None:
        """Called by botocore, in the thread of the call."""
        if self._trace.header:
            params["headers"]["X-Amzn-Trace-Id"] = self._trace.header


def _answered(service: str, response: Mapping[str, Any]) -> NeighbourUnavailable | NeighbourRefused:
    """What an answer other than success means for the same call later."""
    details = response.get("Error", {})
    code = str(details.get("Code") or "UnknownError")
    message = " ".join(str(details.get("Message") or "").split())
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", _SERVER_ERROR))
    if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS or code in _PASSING_CODES:
        return NeighbourUnavailable(f"{service} answered {status} {code}: {message}")
    return NeighbourRefused(code, message, status)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
