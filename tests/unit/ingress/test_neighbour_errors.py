"""Errors that lambdad answers in the name of other services, as botocore reads them."""

from __future__ import annotations

import pytest
from botocore.session import Session

from lambdad.domain.neighbour_services import SERVICES
from lambdad.ingress.neighbour_errors import render
from unit.ingress.wire.requests import to_botocore


@pytest.mark.parametrize("service", SERVICES)
def test_a_client_reads_what_went_wrong(service: str) -> None:
    model = Session().get_service_model(service)
    headers = [("Retry-After", "1")]
    message = "Please <try> again & again: ü"
    response = render(SERVICES[service].protocol, "ServiceUnavailable", message, 503, "the-id", headers)
    assert response.status == 503
    assert ("Retry-After", "1") in response.headers
    parsed = to_botocore(model, model.operation_names[0], response)
    assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == ("ServiceUnavailable", message)
    metadata = parsed["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 503
    assert metadata["RequestId"] == "the-id"
