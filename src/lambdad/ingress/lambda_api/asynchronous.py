"""InvokeAsync, which AWS has deprecated in favour of Invoke with the invocation type Event."""

from __future__ import annotations

from typing import Protocol

from lambdad.domain.arns import FunctionReference, parse_foreign_name
from lambdad.ingress.operations import Call, Output, Params
from lambdad.ingress.payloads import check_json
from lambdad.services.permissions import PermissionsService

ACCEPTED = 202


class Acceptor(Protocol):
    """Takes events for functions that will run later."""

    async def accept(
        self, reference: FunctionReference, request_id: str, payload: bytes, trace: str | None = None
    ) -> object:
        """Put an event on disk. Raises ServiceError for a function that there is not, or an event that is too large."""


async def invoke_async(events: Acceptor, permissions: PermissionsService, call: Call, params: Params) -> Output:
    reference = parse_foreign_name(params["FunctionName"], call.account_id, call.region)
    await permissions.check_account(reference, call.account_id, call.operation, call.client)
    check_json(params["InvokeArgs"])
    await events.accept(reference, call.request_id, params["InvokeArgs"], call.trace)
    return {"Status": ACCEPTED}
