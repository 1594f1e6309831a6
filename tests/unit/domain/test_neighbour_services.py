"""The table of services is what botocore's models say; and requests are told apart by it."""

from __future__ import annotations

import pytest
from botocore.session import Session

from lambdad.domain import neighbour_services
from lambdad.domain.neighbour_services import EMBEDDABLE, SERVICES, NeighbourService, Protocol

SESSION = Session()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_as_its_model_says(name: str) -> None:
    service = SERVICES[name]
    metadata = SESSION.get_service_model(name).metadata
    assert service == NeighbourService(
        name,
        metadata.get("signingName", metadata["endpointPrefix"]),
        metadata["endpointPrefix"],
        Protocol(metadata["protocol"]),
        metadata["apiVersion"],
        metadata.get("targetPrefix", ""),
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_signed_request_is_for_its_service(name: str) -> None:
    service = SERVICES[name]
    uri = SESSION.get_service_model(name).operation_model(SESSION.get_service_model(name).operation_names[0]).http
    found = neighbour_services.of_signing_name(
        service.signing_name,
        target=f"{service.target}.Operation" if service.target else "",
        version=service.version if service.protocol is Protocol.QUERY else "",
        path=uri["requestUri"],
    )
    assert found == name


def test_versions_of_the_query_protocol_are_told_apart() -> None:
    spoken = [name for name in EMBEDDABLE if SERVICES[name].protocol in (Protocol.QUERY, Protocol.EC2)]
    for name in (*spoken, "sqs", "cloudwatch"):
        assert neighbour_services.of_version(SERVICES[name].version) == name
    assert neighbour_services.of_version(SERVICES["kms"].version) == ""


@pytest.mark.parametrize(
    ("signing_name", "target", "version", "path", "expected"),
    [
        ("dynamodb", "DynamoDBStreams_20120810.ListStreams", "", "/", "dynamodbstreams"),
        ("dynamodb", "DynamoDB_20120810.ListTables", "", "/", "dynamodb"),
        ("dynamodb", "", "", "/", "dynamodb"),
        ("elasticloadbalancing", "", "2012-06-01", "/", "elb"),
        ("elasticloadbalancing", "", "2015-12-01", "/", "elbv2"),
        ("apigateway", "", "", "/restapis", "apigateway"),
        ("apigateway", "", "", "/v2/apis", "apigatewayv2"),
        ("ses", "", "2010-12-01", "/", "ses"),
        ("ses", "", "", "/v2/email/identities", "sesv2"),
        ("s3express", "", "", "/bucket", "s3"),
        ("execute-api", "", "", "/", ""),
    ],
)
def test_services_that_sign_alike(signing_name: str, target: str, version: str, path: str, expected: str) -> None:
    found = neighbour_services.of_signing_name(signing_name, target=target, version=version, path=path)
    assert found == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("elasticloadbalancing.us-east-1.amazonaws.com", ("elbv2", "us-east-1")),
        ("email.us-east-1.amazonaws.com", ("ses", "us-east-1")),
        ("sqs.us-east-1.localhost", ("sqs", "us-east-1")),
        ("sqs.localhost:4566", ("sqs", "")),
        ("sqs.eu-west-1.amazonaws.com", ("sqs", "eu-west-1")),
        ("eu-west-1.queue.amazonaws.com", ("sqs", "eu-west-1")),
        ("SQS.EU-WEST-1.LOCALHOST", ("sqs", "eu-west-1")),
        ("sns.us-gov-west-1.localhost.localstack.cloud:4566", ("sns", "us-gov-west-1")),
        ("iam.amazonaws.com", ("iam", "")),
        ("streams.dynamodb.us-east-1.amazonaws.com", ("dynamodbstreams", "us-east-1")),
        ("api.ecr.us-east-1.amazonaws.com", ("ecr", "us-east-1")),
        ("data-ats.iot.us-east-1.amazonaws.com", ("iot-data", "us-east-1")),
        ("a1b2c3-ats.iot.us-east-1.amazonaws.com", ("iot-data", "us-east-1")),
        ("bucket.with.dots.s3.localhost:4566", ("s3", "")),
        ("bucket.s3-eu-west-1.amazonaws.com", ("s3", "")),
        ("s3.localhost", ("s3", "")),
        ("photos.localhost", ("", "")),
        ("localhost:4566", ("", "")),
        ("127.0.0.1:4566", ("", "")),
        ("[::1]:4566", ("", "")),
        ("", ("", "")),
    ],
)
def test_hosts(host: str, expected: tuple[str, str]) -> None:
    assert neighbour_services.of_host(host) == expected
