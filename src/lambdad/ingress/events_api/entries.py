"""PutEvents."""

from __future__ import annotations

from lambdad.domain.errors import ValidationException
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.event_buses import EventBuses
from lambdad.services.event_router import PutResult


async def put_events(buses: EventBuses, call: Call, params: Params) -> Output:
    if "EndpointId" in params:
        raise ValidationException("EndpointId is not supported: there are no global endpoints.")
    results = await buses.router.put_events(call.account_id, call.region, params["Entries"], call.trace or "")
    return {
        "FailedEntryCount": sum(not result.event_id for result in results),
        "Entries": [_rendered(result) for result in results],
    }


def _rendered(result: PutResult) -> dict[str, str]:
    if result.event_id:
        return {"EventId": result.event_id}
    return {"ErrorCode": result.error_code, "ErrorMessage": result.error_message}
