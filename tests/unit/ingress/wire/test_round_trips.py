"""What botocore writes we read, and what we write botocore reads, for every operation of the services that we serve."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from botocore.model import ServiceModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambdad.domain.errors import ServiceError
from lambdad.ingress.wire.service import Service
from unit.ingress.wire import shape_strategies
from unit.ingress.wire.requests import from_botocore, request, to_botocore

SERVICES = ("lambda", "logs")
A_FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def unconstrained(service: str) -> tuple[ServiceModel, Service]:
    model = shape_strategies.unconstrained(service)
    return model, Service(model)


def operations() -> list[Any]:
    return [
        pytest.param(service, operation, id=f"{service}-{operation}")
        for service in SERVICES
        for operation in sorted(Service.load(service).operation_names)
    ]


def as_sent(shape: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Without what HTTP cannot tell from nothing: an empty list in the query, and an empty payload."""
    payload = shape.serialization.get("payload") if shape is not None else None
    return {
        name: value
        for name, value in params.items()
        if not (shape.members[name].serialization.get("location") == "querystring" and value == [])
        and not (name == payload and value in (b"", {}))
    }


@pytest.mark.parametrize(("service", "operation"), operations())
def test_we_read_what_botocore_writes(service: str, operation: str) -> None:
    model, ours = unconstrained(service)
    shape = model.operation_model(operation).input_shape
    strategy = shape_strategies.structures(shape, milliseconds=False) if shape is not None else st.just({})

    @A_FEW
    @given(params=strategy)
    def round_trip(params: dict[str, Any]) -> None:
        sent, body = from_botocore(model, operation, params)
        route = ours.match(sent)
        assert route.operation == operation
        assert as_sent(shape, ours.parse(route, sent, body)) == as_sent(shape, params)

    round_trip()


@pytest.mark.parametrize(("service", "operation"), operations())
def test_botocore_reads_what_we_write(service: str, operation: str) -> None:
    model, ours = unconstrained(service)
    operation_model = model.operation_model(operation)
    shape = operation_model.output_shape
    if shape is not None and shape.event_stream_name:
        assert operation in {"InvokeWithResponseStream", "StartLiveTail", "GetLogObject"}
        return
    strategy = shape_strategies.structures(shape, milliseconds=True) if shape is not None else st.just({})
    expected_status = operation_model.http.get("responseCode", 200)

    @A_FEW
    @given(output=strategy)
    def round_trip(output: dict[str, Any]) -> None:
        response = ours.render(operation, output, "0123-abcd")
        parsed = to_botocore(model, operation, response)
        metadata = parsed.pop("ResponseMetadata")
        assert metadata["RequestId"] == "0123-abcd"
        status_members = {name for name, m in members.items() if m.serialization.get("location") == "statusCode"}
        assert metadata["HTTPStatusCode"] == next((output[n] for n in status_members if n in output), expected_status)
        seen = {name: value for name, value in parsed.items() if name in output or value not in (b"", response.status)}
        assert seen == output

    members = shape.members if shape is not None else {}
    round_trip()


@pytest.mark.parametrize("service", SERVICES)
def test_every_error_of_the_model_is_understood(service: str) -> None:
    ours = Service.load(service)
    operation = {"lambda": "GetFunction", "logs": "PutLogEvents"}[service]
    for shape in ours.model.error_shapes:
        kind = type(shape.name, (ServiceError,), {"code": shape.name, "status": 499})
        parsed = to_botocore(ours.model, operation, ours.render_error(kind("It is so."), "0123-abcd", operation))
        assert parsed["Error"]["Code"] == shape.name
        assert parsed["Error"]["Message"] == "It is so."
        assert parsed["ResponseMetadata"]["RequestId"] == "0123-abcd"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


def garbage(shape: Any) -> st.SearchStrategy[bytes]:
    """Bodies of any bytes, of any JSON, and of the right members with the wrong values."""
    members = (
        st.dictionaries(st.sampled_from(sorted(shape.members)), JSON, max_size=6) if shape.members else st.just({})
    )
    documents = (JSON | members).map(lambda value: json.dumps(value).encode())
    return st.binary(max_size=40) | documents


FED_WITH_GARBAGE = {
    "lambda": ("CreateFunction", "CreateEventSourceMapping", "TagResource", "StopDurableExecution"),
    "logs": ("PutLogEvents", "PutTransformer", "StartQuery"),
}


@pytest.mark.parametrize(
    ("service", "operation"), [(s, one) for s, several in FED_WITH_GARBAGE.items() for one in several]
)
def test_garbage_is_answered_and_never_breaks_us(service: str, operation: str) -> None:
    ours = Service.load(service)
    operation_model = ours.model.operation_model(operation)
    path = operation_model.http["requestUri"].replace("{", "").replace("}", "")
    target = f"{ours.model.metadata.get('targetPrefix')}.{operation}"

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=garbage(operation_model.input_shape))
    def sent(body: bytes) -> None:
        asked = request(operation_model.http["method"], path, {"x-amz-target": target})
        route = ours.match(asked)
        assert route.operation == operation
        try:
            found = ours.parse(route, asked, body)
        except ServiceError as error:
            response, message = ours.render_error(error, "0123-abcd", operation), error.message
        else:
            assert isinstance(found, dict)
            return
        assert response.status == 400
        assert to_botocore(ours.model, operation, response)["Error"]["Message"] == message

    sent()
