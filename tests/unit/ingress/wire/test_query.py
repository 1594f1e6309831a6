"""Query: forms that botocore and shell scripts send, and XML that botocore reads."""

from __future__ import annotations

import contextlib
import gzip
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambdad.domain.errors import (
    InvalidParameterValueException,
    NotImplementedException,
    RequestEntityTooLargeException,
    SerializationException,
    ServiceError,
    ServiceException,
    UnknownOperationException,
    ValidationException,
)
from lambdad.domain.metric_data import InvalidParameterValue
from lambdad.ingress.messages import Request
from lambdad.ingress.wire import compression
from lambdad.ingress.wire.scalars import UnmodelledOutput
from lambdad.ingress.wire.service import Service
from unit.ingress.wire import shape_strategies
from unit.ingress.wire.requests import from_botocore, request, to_botocore

SERVICES = ("cloudwatch", "sns", "sdb")
A_FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def spoken(service: str) -> tuple[Any, Service]:
    """A service without its constraints, in this protocol, for botocore and for us."""
    model = shape_strategies.unconstrained(service)
    model.metadata["protocol"] = "query"
    return model, Service(model)


def pruned(value: Any) -> Any:
    """Without what is empty, which a form cannot tell from nothing."""
    if isinstance(value, dict):
        return {key: one for key, one in ((key, pruned(one)) for key, one in value.items()) if one not in ({}, [])}
    if isinstance(value, list):
        return [one for one in map(pruned, value) if one not in ({}, [])]
    return value


def in_xml(value: Any) -> Any:
    if isinstance(value, dict):
        return {in_xml(key): in_xml(one) for key, one in value.items()}
    if isinstance(value, list):
        return [in_xml(one) for one in value]
    return NOT_IN_XML.sub("\ufffd", value) if isinstance(value, str) else value


def with_form(form: str | bytes, **headers: str) -> tuple[Request, bytes]:
    """A form whose body is here, as the gateway hands it on."""
    body = form.encode() if isinstance(form, str) else form
    asked = request("POST", "/", {**FORM, **headers})
    asked.body.feed(body)
    asked.body.finish()
    return asked, body


def parsed(form: str) -> dict[str, Any]:
    asked, body = with_form(form)
    service = Service.load("cloudwatch").spoken_in(asked)
    return service.parse(service.match(asked), asked, body)


@pytest.mark.parametrize(
    ("service", "operation"),
    [(service, operation) for service in SERVICES for operation in sorted(spoken(service)[0].operation_names)],
)
def test_botocore_and_we_understand_each_other(service: str, operation: str) -> None:
    model, ours = spoken(service)
    described = model.operation_model(operation)

    def values(shape: Any, milliseconds: bool) -> st.SearchStrategy[dict[str, Any]]:
        return st.just({}) if shape is None else shape_strategies.structures(shape, milliseconds)

    @A_FEW
    @given(params=values(described.input_shape, True), output=values(described.output_shape, True))
    def round_trip(params: dict[str, Any], output: dict[str, Any]) -> None:
        sent, body = from_botocore(model, operation, params)
        sent.body.feed(body)
        sent.body.finish()
        route = ours.match(sent)
        assert route.operation == operation
        assert pruned(ours.parse(route, sent, body)) == pruned(params)
        answer = to_botocore(model, operation, ours.render(operation, output, "0123-abcd"))
        assert answer.pop("ResponseMetadata") == {
            "RequestId": "0123-abcd",
            "HTTPStatusCode": 200,
            "HTTPHeaders": {"x-amzn-requestid": "0123-abcd", "content-type": "text/xml"},
        }
        assert pruned(answer) == pruned(in_xml(output))

    round_trip()


def test_lists_are_in_the_order_of_their_numbers() -> None:
    numbers = (10, 9, 1000, 1)
    form = "&".join(f"Statistics.member.{number}=s{number}" for number in numbers)
    _, ours = spoken("cloudwatch")
    asked, body = with_form(f"Action=GetMetricStatistics&{form}")
    assert ours.parse(ours.match(asked), asked, body) == {"Statistics": ["s1", "s9", "s10", "s1000"]}


def test_a_request_may_be_in_the_query() -> None:
    asked = request("GET", "/?Action=ListMetrics&Namespace=a%20b+c&Version=2010-08-01")
    asked.body.finish()
    service = Service.load("cloudwatch").spoken_in(asked)
    assert service.parse(service.match(asked), asked, b"") == {"Namespace": "a b c"}


@pytest.mark.parametrize("form", ["", "Action=", "Action=Unheard", "Version=2010-08-01", "action=ListMetrics"])
def test_an_operation_that_does_not_exist(form: str) -> None:
    asked, _ = with_form(form)
    service = Service.load("cloudwatch").spoken_in(asked)
    with pytest.raises(UnknownOperationException) as caught:
        service.match(asked)
    answer = service.render_error(caught.value, "1", None)
    assert (answer.status, b"<Code>UnknownOperationException</Code>" in answer.body) == (404, True)


@pytest.mark.parametrize(
    "form",
    [
        "Namespace.x=1",
        "Namespace=a&MetricData.member.1.Value=1_0",
        "Namespace=a&MetricData.member.1.Value=ten",
        "Namespace=a&MetricData.member.1.Timestamp=yesterday",
        "Namespace=a&MetricData.member.1.Value.member.1=4",
        "Namespace=a&StrictEntityValidation=yes",
        "EntityMetricData.member.1.Entity.KeyAttributes.entry.1.key=a",
        ".".join("a" * 65) + "=1",
    ],
)
def test_what_cannot_be_read_is_refused(form: str) -> None:
    with pytest.raises(SerializationException):
        parsed(f"Action=PutMetricData&{form}")


def test_constraints_are_those_of_the_model() -> None:
    with pytest.raises(ServiceError, match="Value null at 'namespace' failed to satisfy constraint: Member must not"):
        parsed("Action=PutMetricData&MetricData.member.1.MetricName=a")


def test_a_form_may_be_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    form = gzip.compress(b"Action=PutMetricData&Namespace=a")
    asked, body = with_form(form, **{"content-encoding": "gzip"})
    service = Service.load("cloudwatch").spoken_in(asked)
    assert service.parse(service.match(asked), asked, body) == {"Namespace": "a"}
    for broken in (form[:-9], b"", b"Action=PutMetricData"):
        asked, body = with_form(broken, **{"content-encoding": "gzip"})
        with pytest.raises(SerializationException):
            service.match(asked)
    monkeypatch.setattr(compression, "PLAIN_BYTES_MAX", 31)
    asked, body = with_form(form, **{"content-encoding": "gzip"})
    with pytest.raises(RequestEntityTooLargeException):
        service.match(asked)


@pytest.mark.parametrize(
    ("error", "code", "status", "fault"),
    [
        (InvalidParameterValue("<&>\x00\r"), "InvalidParameterValue", 400, "Sender"),
        (InvalidParameterValueException("<&>\x00\r"), "InvalidParameterValue", 400, "Sender"),
        (NotImplementedException("<&>\x00\r"), "NotImplementedException", 501, "Receiver"),
        (ServiceException("<&>\x00\r"), "ServiceException", 500, "Receiver"),
    ],
)
def test_errors(error: ServiceError, code: str, status: int, fault: str) -> None:
    model, ours = spoken("cloudwatch")
    seen = to_botocore(model, "ListMetrics", ours.render_error(error, "0123-abcd", "ListMetrics"))
    assert seen["Error"] == {"Code": code, "Message": "<&>\ufffd\r", "Type": fault}
    assert seen["ResponseMetadata"]["HTTPStatusCode"] == status
    assert seen["ResponseMetadata"]["RequestId"] == "0123-abcd"


def test_members_of_errors_are_sent() -> None:
    class Gone(ServiceError):
        code = "ResourceNotFoundException"
        status = 404

    _, ours = spoken("cloudwatch")
    answer = ours.render_error(Gone("Gone.", ResourceType="Alarm", ResourceId="a"), "1", "TagResource")
    assert (answer.status, b"<ResourceType>Alarm</ResourceType><ResourceId>a</ResourceId>" in answer.body) == (
        404,
        True,
    )


def test_what_the_model_does_not_have_is_a_mistake_of_ours() -> None:
    _, ours = spoken("cloudwatch")
    for operation, output in (
        ("ListMetrics", {"Unheard": 1}),
        ("ListMetrics", {"Metrics": "text"}),
        ("ListMetrics", {"NextToken": 1}),
        ("PutMetricData", {"Metrics": []}),
    ):
        with pytest.raises(UnmodelledOutput):
            ours.render(operation, output, "1")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "Namespace",
                    "MetricData",
                    "MetricData.member",
                    "MetricData.member.1",
                    "MetricData.member.1.Values.member.2",
                    "MetricData.member.²",
                    "..",
                    "",
                ]
            ),
            st.text(max_size=5),
        ),
        max_size=6,
    )
)
def test_odd_forms_are_answered(fields: list[tuple[str, str]]) -> None:
    form = "&".join(f"{name}={value}" for name, value in fields)
    with contextlib.suppress(SerializationException, ValidationException):
        assert "Namespace" in parsed(f"Action=PutMetricData&{form}")
