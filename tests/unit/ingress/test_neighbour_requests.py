"""Which service and operation a request means, as botocore sends it, signed and not."""

from __future__ import annotations

from functools import cache

import pytest
from botocore.model import ServiceModel
from botocore.session import Session

from lambdad.domain.neighbour_services import SERVICES, Protocol
from lambdad.ingress.messages import Request
from lambdad.ingress.neighbour_requests import FORM, Meaning, find, may_be_form, protocol_of, scope_of
from unit.ingress.wire.requests import from_botocore, request

SAYS_OPERATION = (Protocol.JSON, Protocol.QUERY, Protocol.EC2, Protocol.CBOR)
SIGNATURE = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/%s/aws4_request, SignedHeaders=host, Signature=0"


@cache
def model_of(service: str) -> ServiceModel:
    return Session().get_service_model(service)


def operations(service: str) -> list[str]:
    """Those whose path has nothing to be filled in."""
    model = model_of(service)
    return [name for name in model.operation_names if "{" not in model.operation_model(name).http["requestUri"]]


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "s3"])
def test_a_signed_request_is_found(service: str) -> None:
    for operation in operations(service):
        sent, body = from_botocore(model_of(service), operation, {})
        found = find(sent, SERVICES[service].signing_name, body if may_be_form(sent, "") else b"")
        assert found.service == service, operation
        if SERVICES[service].protocol in SAYS_OPERATION:
            assert found.operation == operation


@pytest.mark.parametrize("service", [name for name in SERVICES if SERVICES[name].protocol in SAYS_OPERATION])
def test_an_unsigned_request_is_found_when_it_says_its_operation(service: str) -> None:
    for operation in operations(service):
        sent, body = from_botocore(model_of(service), operation, {})
        found = find(sent, "", body if may_be_form(sent, "") else b"")
        assert (found.service, found.operation) == (service, operation)


@pytest.mark.parametrize(
    ("method", "target", "headers", "service", "operation"),
    [
        ("GET", "/photos/cat.jpg", {}, "s3", "GetObject"),
        ("HEAD", "/photos/cat.jpg", {}, "s3", "HeadObject"),
        ("PUT", "/photos/a/b%20c?partNumber=1&uploadId=u", {}, "s3", "UploadPart"),
        ("GET", "/photos", {}, "s3", "ListObjects"),
        ("GET", "/?Action=ConfirmSubscription&TopicArn=t&Token=k", {}, "sns", "ConfirmSubscription"),
        ("GET", "/?Action=Unsubscribe&SubscriptionArn=s", {}, "sns", "Unsubscribe"),
        ("PUT", "/cloudformation_us-east-1/cfnresponse?stack=nonsense", {}, "", ""),
        ("OPTIONS", "/photos/cat.jpg", {"origin": "http://a"}, "s3", ""),
        ("POST", "/photos", {"content-type": "multipart/form-data; boundary=x"}, "s3", "PostObject"),
        ("GET", "/cat.jpg", {"host": "photos.s3.localhost:4566"}, "s3", "GetObject"),
        ("GET", "/cat.jpg", {"host": "photos.localhost:4566"}, "s3", "GetObject"),
        ("GET", "/", {"host": "photos.s3.localhost:4566"}, "s3", "ListObjects"),
        ("GET", "/", {"host": "s3.us-east-1.amazonaws.com"}, "s3", "ListBuckets"),
        ("GET", "/", {}, "", ""),
        ("GET", "/x", {}, "", ""),
        ("GET", "/.well-known/x", {}, "", ""),
        ("POST", "/photos/cat.jpg", {}, "", ""),
        ("POST", "/", {}, "", ""),
        ("POST", "/", {"x-amz-target": "Nobody_20200101.Nothing"}, "", ""),
        ("POST", "/photos", {"content-type": "application/x-amz-json-1.0"}, "", ""),
        (
            "POST",
            "/",
            {"host": "sqs.eu-west-1.localhost", "x-amz-target": "AmazonSQS.SendMessage"},
            "sqs",
            "SendMessage",
        ),
        ("GET", "/?Action=ListQueues&Version=2012-11-05", {}, "sqs", "ListQueues"),
        ("GET", "/123456789012/queue?Action=SendMessage&MessageBody=a", {}, "sqs", "SendMessage"),
        ("GET", "/123456789012/key", {}, "s3", "GetObject"),
        ("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", {}, "sts", "GetCallerIdentity"),
        ("GET", "/?Action=ListTopics", {"host": "sns.localhost"}, "sns", "ListTopics"),
        ("GET", "/restapis", {"host": "apigateway.us-east-1.amazonaws.com"}, "apigateway", ""),
        ("GET", "/v2/apis", {"host": "apigateway.us-east-1.amazonaws.com"}, "apigatewayv2", ""),
        ("GET", "/2015-03-31/functions", {}, "lambda", ""),
        ("GET", "/2015-02-01/file-systems", {}, "efs", ""),
    ],
)
def test_unsigned_requests(method: str, target: str, headers: dict[str, str], service: str, operation: str) -> None:
    found = find(request(method, target, headers), "", b"")
    assert (found.service, found.operation) == (service, operation)


def test_the_answer_of_a_custom_resource_is_for_its_stack() -> None:
    stack = "arn:aws:cloudformation:eu-west-1:111122223333:stack/name/0a1b"
    found = find(request("PUT", f"/cloudformation_eu-west-1/cfnresponse?stack={stack}"), "", b"")
    assert found == Meaning("cloudformation", "", "eu-west-1", "111122223333")


def test_a_signature_wins() -> None:
    headers = {"host": "s3.localhost", "x-amz-target": "AmazonSQS.ListQueues"}
    assert find(request("POST", "/bucket", headers), "kinesis", b"").service == "kinesis"
    assert find(request("GET", "/", {}), "s3", b"").operation == "ListBuckets"
    assert find(request("GET", "/", {}), "execute-api", b"").service == "execute-api"


def test_a_host_may_say_the_region() -> None:
    sent = request("POST", "/", {"host": "sqs.eu-west-1.amazonaws.com"})
    assert find(sent, "", b"Action=ListQueues&Version=2012-11-05").region == "eu-west-1"


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        ("/", {"authorization": SIGNATURE % "sqs"}, ("AKID", "eu-west-1", "sqs")),
        ("/b/k", {"authorization": "AWS AKID:c2ln/c2ln="}, ("AKID", "", "s3")),
        (
            "/b/k?X-Amz-Algorithm=A&X-Amz-Credential=AKID%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature=0",
            {},
            ("AKID", "eu-west-1", "s3"),
        ),
        ("/b/k?AWSAccessKeyId=AKID&Signature=c2ln%3D&Expires=1", {}, ("AKID", "", "s3")),
        ("/b/k?Signature=c2ln", {}, None),
        ("/b/k", {"authorization": "Bearer abc"}, None),
        ("/b/k", {}, None),
    ],
)
def test_who_has_signed(target: str, headers: dict[str, str], expected: tuple[str, str, str] | None) -> None:
    scope = scope_of(request("GET", target, headers))
    assert (None if scope is None else (scope.access_key_id, scope.region, scope.service)) == expected


@pytest.mark.parametrize(
    ("sent", "signed_for", "is_form"),
    [
        (request("POST", "/", {"content-type": f"{FORM}; charset=utf-8"}), "", True),
        (request("POST", "/", {"content-type": FORM}), "sns", True),
        (request("POST", "/b?delete", {"content-type": FORM}), "s3", False),
        (request("PUT", "/", {"content-type": FORM}), "", False),
        (request("POST", "/", {"content-type": "application/json"}), "", False),
        (request("POST", "/2015-03-31/functions", {"content-type": FORM}), "", False),
        (request("POST", "/", {"content-type": FORM, "x-amz-target": "AWSEvents.PutEvents"}), "", False),
    ],
)
def test_which_bodies_are_read_to_find_out(sent: Request, signed_for: str, is_form: bool) -> None:
    assert may_be_form(sent, signed_for) is is_form


@pytest.mark.parametrize(
    ("service", "headers", "protocol"),
    [
        ("s3", {}, Protocol.REST_XML),
        ("s3", {"content-type": FORM}, Protocol.REST_XML),
        ("sqs", {"x-amz-target": "AmazonSQS.ListQueues"}, Protocol.JSON),
        ("sqs", {"content-type": FORM}, Protocol.QUERY),
        ("ec2", {"content-type": FORM}, Protocol.EC2),
        ("cloudwatch", {"smithy-protocol": "rpc-v2-cbor"}, Protocol.CBOR),
        ("apigateway", {"content-type": "application/json"}, Protocol.REST_JSON),
        ("execute-api", {}, Protocol.JSON),
    ],
)
def test_how_the_client_speaks(service: str, headers: dict[str, str], protocol: Protocol) -> None:
    assert protocol_of(service, headers) is protocol
