"""Operations of the services that speak JSON, called without botocore: many calls can wait at once and cost no thread.

It is for what is asked all the time, such as the long polls of queues. Everything else goes by `ports.neighbours`.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from lambdad.domain.neighbour_services import EMBEDDABLE
from lambdad.ports.backends import Backends, NeighbourRequest
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.services.identifiers import new_request_id

_HOST: Final = "localhost"
_DATE: Final = "20260101"
"""Of a signature that nobody checks: the embedded services see that somebody has signed, a real one gets another."""
_JSON_VERSIONS: Final = {"kinesis": "1.1"}
"""Of the protocol; that of the others is 1.0."""
_PASSING: Final = ("Throttl", "ProvisionedThroughputExceeded", "LimitExceeded", "RequestTimeout", "OverLimit")
_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429
_READ_BYTES_MAX: Final = 64 * 1024 * 1024


class JsonNeighbours:
    """Calls of operations by their names in botocore's models; what comes back is the answer's JSON, not converted."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def call(
        self, service: str, operation: str, parameters: Mapping[str, Any], *, account_id: str, region: str
    ) -> Mapping[str, Any]:
        """Call an operation once. Raises NeighbourUnavailable and NeighbourRefused."""
        known = EMBEDDABLE[service]
        request = NeighbourRequest(
            service=service,
            operation=operation,
            account_id=account_id,
            region=region,
            request_id=new_request_id(),
            method="POST",
            path="/",
            query="",
            headers={
                "host": _HOST,
                "content-type": f"application/x-amz-json-{_JSON_VERSIONS.get(service, '1.0')}",
                "x-amz-target": f"{known.target}.{operation}",
                "authorization": f"AWS4-HMAC-SHA256 Credential={account_id}/{_DATE}/{region}/{known.signing_name}/"
                "aws4_request, SignedHeaders=host, Signature=0",
            },
            body=json.dumps(parameters).encode(),
        )
        answer = await self._backends.forward(request)
        body = answer.body if isinstance(answer.body, bytes) else await _whole(service, answer.body)
        try:
            document = json.loads(body) if body else {}
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise NeighbourUnavailable(f"{service} answered {answer.status} with what is not JSON")
        if not answer.succeeded:
            raise _answered(service, answer.status, document, answer.header("x-amzn-query-error"))
        return document


async def _whole(service: str, parts: Any) -> bytes:
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > _READ_BYTES_MAX:
            raise NeighbourUnavailable(f"{service} answered with more than {_READ_BYTES_MAX} bytes")
    return bytes(body)


def _answered(
    service: str, status: int, document: Mapping[str, Any], query_error: str | None
) -> NeighbourUnavailable | NeighbourRefused:
    """What an answer other than success means for the same call later.

    SQS names an error's older code, which its messages go by, in a header of its own.
    """
    code = (query_error or "").partition(";")[0] or str(document.get("__type") or "UnknownError").rpartition("#")[2]
    message = str(document.get("message") or document.get("Message") or "")
    if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS or any(part in code for part in _PASSING):
        return NeighbourUnavailable(f"{service} answered {status} {code}: {message}")
    return NeighbourRefused(code, message, status)
