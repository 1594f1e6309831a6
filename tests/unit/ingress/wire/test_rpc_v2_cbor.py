"""Smithy RPC v2 CBOR: what botocore writes and reads, and bodies that are no CBOR."""

from __future__ import annotations

import contextlib
import gzip
from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambdad.domain.errors import (
    NotImplementedException,
    SerializationException,
    ServiceError,
    UnknownOperationException,
    ValidationException,
)
from lambdad.ingress.messages import Request
from lambdad.ingress.wire.scalars import UnmodelledOutput
from lambdad.ingress.wire.service import Service
from unit.ingress.wire import shape_strategies
from unit.ingress.wire.requests import from_botocore, request, to_botocore

A_FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
SPOKEN = {"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor"}
PATH = "/service/GraniteServiceVersion20100801/operation/{}"


def spoken(service: str = "cloudwatch") -> tuple[Any, Service]:
    """A service without its constraints, in this protocol, for botocore and for us."""
    model = shape_strategies.unconstrained(service)
    model.metadata["protocol"] = "smithy-rpc-v2-cbor"
    return model, Service(model)


def asked_for(operation: str, **headers: str) -> Request:
    return request("POST", PATH.format(operation), {**SPOKEN, **headers})


def parsed(body: bytes, operation: str = "PutMetricData") -> dict[str, Any]:
    asked = asked_for(operation)
    service = Service.load("cloudwatch").spoken_in(asked)
    return service.parse(service.match(asked), asked, body)


OPERATIONS = [
    (service, name) for service in ("cloudwatch", "kms") for name in sorted(spoken(service)[0].operation_names)
]


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_botocore_and_we_understand_each_other(service: str, operation: str) -> None:
    model, ours = spoken(service)
    described = model.operation_model(operation)

    def values(shape: Any) -> st.SearchStrategy[dict[str, Any]]:
        return st.just({}) if shape is None else shape_strategies.structures(shape, milliseconds=True)

    @A_FEW
    @given(params=values(described.input_shape), output=values(described.output_shape))
    def round_trip(params: dict[str, Any], output: dict[str, Any]) -> None:
        sent, body = from_botocore(model, operation, params)
        route = ours.match(sent)
        assert (route.operation, ours.parse(route, sent, body)) == (operation, params)
        answer = to_botocore(model, operation, ours.render(operation, output, "0123-abcd"))
        metadata = answer.pop("ResponseMetadata")
        assert metadata["HTTPStatusCode"] == 200
        if described.output_shape is not None:  # else botocore does not look for it
            assert metadata["RequestId"] == "0123-abcd"
        assert answer == output

    round_trip()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PATH.format("Unheard")),
        ("POST", PATH.format("")),
        ("POST", "/"),
        ("GET", PATH.format("ListMetrics")),
        ("POST", "/service/a/b/operation/ListMetrics"),
    ],
)
def test_an_operation_that_does_not_exist(method: str, path: str) -> None:
    asked = request(method, path, SPOKEN)
    service = Service.load("cloudwatch").spoken_in(asked)
    with pytest.raises(UnknownOperationException) as caught:
        service.match(asked)
    answer = service.render_error(caught.value, "1", None)
    assert isinstance(answer.body, bytes)
    assert cbor2.loads(answer.body) == {
        "__type": "UnknownOperationException",
        "message": "The operation that the path names does not exist.",
    }
    assert answer.status == 404
    assert dict(answer.headers)["smithy-protocol"] == "rpc-v2-cbor"


def test_the_protocol_is_that_of_the_request() -> None:
    service = Service.load("cloudwatch")
    form = {"content-type": "application/x-www-form-urlencoded"}
    in_json = service.spoken_in(request("POST", "/", {"x-amz-target": "GraniteServiceVersion20100801.ListMetrics"}))
    in_query = service.spoken_in(request("POST", "/", form))
    in_cbor = service.spoken_in(asked_for("ListMetrics"))
    assert len({id(in_json), id(in_query), id(in_cbor)}) == 3
    assert in_json is service.spoken_in(request("POST", "/", {"x-amz-target": ""}))
    assert in_query is service.spoken_in(request("GET", "/?Action=ListMetrics"))
    alone = Service.load("lambda")
    assert alone.spoken_in(request("POST", "/", form)) is alone


def test_an_empty_body_is_an_empty_input() -> None:
    assert parsed(b"", "ListMetrics") == {}
    assert parsed(b"\xa0", "ListMetrics") == {}


def test_null_is_nothing_and_what_the_model_has_not_is_ignored() -> None:
    body = cbor2.dumps({"Namespace": "a", "MetricData": None, "Unheard": [1]})
    assert parsed(body) == {"Namespace": "a"}


def test_moments_are_tagged_or_plain_numbers() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC)
    for sent in (cbor2.CBORTag(1, moment.timestamp()), moment.timestamp()):
        datum = {"MetricName": "m", "Timestamp": sent}
        assert parsed(cbor2.dumps({"Namespace": "a", "MetricData": [datum]}))["MetricData"][0]["Timestamp"] == moment


def test_a_body_may_be_compressed() -> None:
    asked = asked_for("PutMetricData", **{"content-encoding": "gzip"})
    service = Service.load("cloudwatch").spoken_in(asked)
    body = gzip.compress(cbor2.dumps({"Namespace": "a"}))
    assert service.parse(service.match(asked), asked, body) == {"Namespace": "a"}
    with pytest.raises(SerializationException, match="Content-Encoding"):
        service.parse(service.match(asked), asked, body[:-1])
    asked = asked_for("ListMetrics", **{"content-encoding": "gzip"})
    with pytest.raises(SerializationException, match="not CBOR"):  # only the operations that the model says may be
        service.parse(service.match(asked), asked, body)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\xa1",
        b"\x81" * 5000 + b"\x01",
        b"\xbb" + b"\xff" * 8,
        b"\xa1\x61\xff\x01",
        b"\xa1\x80\x01",
        b"{}",
        cbor2.dumps([]),
        cbor2.dumps("text"),
        cbor2.dumps({"Namespace": b"a"}),
        cbor2.dumps({"Namespace": {"a": 1}}),
        cbor2.dumps({"Namespace": "a", "MetricData": {}}),
        cbor2.dumps({"Namespace": "a", "MetricData": [{"MetricName": "m", "Value": "1"}]}),
        cbor2.dumps({"Namespace": "a", "MetricData": [{"MetricName": "m", "Timestamp": "now"}]}),
        cbor2.dumps({"Namespace": "a", "MetricData": [{"MetricName": "m", "StorageResolution": 2**40}]}),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(SerializationException):
        parsed(body)


def test_constraints_are_reported_as_cloudwatch_does() -> None:
    asked = asked_for("PutMetricData")
    service = Service.load("cloudwatch").spoken_in(asked)
    with pytest.raises(ValidationException) as caught:
        parsed(cbor2.dumps({"Namespace": ""}))
    answer = service.render_error(caught.value, "1", "PutMetricData")
    assert isinstance(answer.body, bytes)
    assert cbor2.loads(answer.body)["__type"] == "InvalidParameterValueException"
    assert (answer.status, dict(answer.headers)["x-amzn-query-error"]) == (400, "InvalidParameterValue;Sender")


def test_every_error_of_the_model_is_understood() -> None:
    ours = Service.load("cloudwatch").spoken_in(asked_for("ListMetrics"))
    for shape in ours.model.error_shapes:
        kind = type(shape.name, (ServiceError,), {"code": shape.name, "status": 499})
        if shape.name == "ValidationException":
            continue
        seen = to_botocore(ours.model, "ListMetrics", ours.render_error(kind("It is so."), "1", "ListMetrics"))
        assert seen["Error"]["Code"] == shape.error_code
        assert seen["Error"]["QueryErrorCode"] == shape.name
        assert seen["Error"]["Message"] == "It is so."
    seen = to_botocore(ours.model, "ListMetrics", ours.render_error(NotImplementedException("No."), "1", None))
    assert (seen["Error"]["Code"], seen["ResponseMetadata"]["HTTPStatusCode"]) == ("NotImplementedException", 501)


def test_what_the_model_does_not_have_is_a_mistake_of_ours() -> None:
    _, ours = spoken()
    for operation, output in (
        ("ListMetrics", {"Metrics": 1}),
        ("PutMetricData", {"a": 1}),
        ("GetMetricStatistics", {"Datapoints": [{"Timestamp": "now"}]}),
    ):
        with pytest.raises(UnmodelledOutput):
            ours.render(operation, output, "1")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_answered(body: bytes) -> None:
    with contextlib.suppress(SerializationException, ValidationException):
        assert "Namespace" in parsed(body)
