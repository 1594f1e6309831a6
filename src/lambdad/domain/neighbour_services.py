"""The services beside Lambda that can be embedded, and what tells their requests apart.

Names and facts are those of botocore's models; a test compares them. Nothing of botocore is loaded to route a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Protocol(Enum):
    """How a service is spoken to, which is also how its errors look."""

    JSON = "json"
    REST_JSON = "rest-json"
    REST_XML = "rest-xml"
    QUERY = "query"
    EC2 = "ec2"
    CBOR = "smithy-rpc-v2-cbor"


@dataclass(frozen=True, slots=True)
class NeighbourService:
    """One service. `host` is its endpoint prefix: `<host>.<region>.amazonaws.com`."""

    name: str
    signing_name: str
    host: str
    protocol: Protocol
    version: str
    target: str = ""
    """The prefix of X-Amz-Target, before the dot."""


_J, _R, _Q = Protocol.JSON, Protocol.REST_JSON, Protocol.QUERY
_ELB: Final = "elasticloadbalancing"

_ALL: Final = (
    NeighbourService("apigateway", "apigateway", "apigateway", _R, "2015-07-09"),
    NeighbourService("apigatewayv2", "apigateway", "apigateway", _R, "2018-11-29"),
    NeighbourService("cloudformation", "cloudformation", "cloudformation", _Q, "2010-05-15"),
    NeighbourService(
        "cloudtrail",
        "cloudtrail",
        "cloudtrail",
        _J,
        "2013-11-01",
        "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101",
    ),
    NeighbourService("codecommit", "codecommit", "codecommit", _J, "2015-04-13", "CodeCommit_20150413"),
    NeighbourService(
        "cognito-identity", "cognito-identity", "cognito-identity", _J, "2014-06-30", "AWSCognitoIdentityService"
    ),
    NeighbourService(
        "cognito-idp", "cognito-idp", "cognito-idp", _J, "2016-04-18", "AWSCognitoIdentityProviderService"
    ),
    NeighbourService("dynamodb", "dynamodb", "dynamodb", _J, "2012-08-10", "DynamoDB_20120810"),
    NeighbourService("dynamodbstreams", "dynamodb", "streams.dynamodb", _J, "2012-08-10", "DynamoDBStreams_20120810"),
    NeighbourService("ec2", "ec2", "ec2", Protocol.EC2, "2016-11-15"),
    NeighbourService("ecr", "ecr", "api.ecr", _J, "2015-09-21", "AmazonEC2ContainerRegistry_V20150921"),
    NeighbourService("efs", "elasticfilesystem", "elasticfilesystem", _R, "2015-02-01"),
    NeighbourService("elb", _ELB, _ELB, _Q, "2012-06-01"),
    NeighbourService("elbv2", _ELB, _ELB, _Q, "2015-12-01"),
    NeighbourService("firehose", "firehose", "firehose", _J, "2015-08-04", "Firehose_20150804"),
    NeighbourService("iam", "iam", "iam", _Q, "2010-05-08"),
    NeighbourService("iot", "iot", "iot", _R, "2015-05-28"),
    NeighbourService("iot-data", "iotdata", "data-ats.iot", _R, "2015-05-28"),
    NeighbourService("kinesis", "kinesis", "kinesis", _J, "2013-12-02", "Kinesis_20131202"),
    NeighbourService("kms", "kms", "kms", _J, "2014-11-01", "TrentService"),
    NeighbourService(
        "resourcegroupstaggingapi",
        "tagging",
        "tagging",
        Protocol.CBOR,
        "2017-01-26",
        "ResourceGroupsTaggingAPI_20170126",
    ),
    NeighbourService("s3", "s3", "s3", Protocol.REST_XML, "2006-03-01"),
    NeighbourService("secretsmanager", "secretsmanager", "secretsmanager", _J, "2017-10-17", "secretsmanager"),
    NeighbourService("ses", "ses", "email", _Q, "2010-12-01"),
    NeighbourService("sesv2", "ses", "email", _R, "2019-09-27"),
    NeighbourService("sns", "sns", "sns", _Q, "2010-03-31"),
    NeighbourService("sqs", "sqs", "sqs", _J, "2012-11-05", "AmazonSQS"),
    NeighbourService("ssm", "ssm", "ssm", _J, "2014-11-06", "AmazonSSM"),
    NeighbourService("stepfunctions", "states", "states", _J, "2016-11-23", "AWSStepFunctions"),
    NeighbourService("sts", "sts", "sts", _Q, "2011-06-15"),
)
EMBEDDABLE: Final = {service.name: service for service in _ALL}
"""By name."""

_NATIVE: Final = (
    NeighbourService(
        "cloudwatch", "monitoring", "monitoring", Protocol.CBOR, "2010-08-01", "GraniteServiceVersion20100801"
    ),
    NeighbourService("events", "events", "events", _J, "2015-10-07", "AWSEvents"),
    NeighbourService("lambda", "lambda", "lambda", _R, "2015-03-31"),
    NeighbourService("logs", "logs", "logs", _J, "2014-03-28", "Logs_20140328"),
    NeighbourService("scheduler", "scheduler", "scheduler", _R, "2021-06-30"),
)
SERVICES: Final = EMBEDDABLE | {service.name: service for service in _NATIVE}
"""Those that lambdad is itself, too."""

NATIVE: Final = tuple(service.name for service in _NATIVE)
"""The services that lambdad answers itself."""
FORWARDABLE: Final = ("events", "scheduler")
"""The services of lambdad's own that a real endpoint may stand in for."""
EXTERNAL: Final = tuple(sorted((*EMBEDDABLE, *FORWARDABLE)))
"""The services that may have an endpoint of their own."""

_SIGNING_ALIASES: Final = {"s3express": "s3", "iotdevicegateway": "iotdata"}
_BY_TARGET: Final = {service.target: service.name for service in SERVICES.values() if service.target}
_BY_VERSION: Final = {
    service.version: service.name
    for service in SERVICES.values()
    if service.protocol in (_Q, Protocol.EC2) or service.name in ("sqs", "cloudwatch")
}
"""Of the services that speak, or spoke, the query protocol."""
_BY_HOST: Final = {
    service.host: service.name for service in SERVICES.values() if service.name not in ("apigatewayv2", "elb", "sesv2")
}
_BY_SIGNING_NAME: Final[dict[str, list[str]]] = {}
for _service in SERVICES.values():
    _BY_SIGNING_NAME.setdefault(_service.signing_name, []).append(_service.name)
_V2_PATHS: Final = {"apigateway": "apigatewayv2", "ses": "sesv2"}
_V2: Final = "/v2/"


def of_target(target: str) -> str:
    """The service whose operation X-Amz-Target names, or nothing."""
    return _BY_TARGET.get(target.rpartition(".")[0], "")


def of_version(version: str) -> str:
    """The service of the query protocol that has this version of its API, or nothing."""
    return _BY_VERSION.get(version, "")


def of_signing_name(signing_name: str, *, target: str, version: str, path: str) -> str:
    """The service that a request was signed for; nothing when it is unknown.

    Where several sign alike, they are told by X-Amz-Target, by the `Version` of a form, or by the path.
    """
    signing_name = _SIGNING_ALIASES.get(signing_name, signing_name)
    named = _BY_SIGNING_NAME.get(signing_name, [])
    if len(named) < 2:
        return named[0] if named else ""
    for candidate in (of_target(target), of_version(version)):
        if candidate in named:
            return candidate
    return _V2_PATHS[named[0]] if named[0] in _V2_PATHS and path.startswith(_V2) else named[0]


def of_host(host: str) -> tuple[str, str]:
    """The service and the region that a host name says; nothing for what it does not.

    Such as `sqs.eu-west-1.amazonaws.com`, `eu-west-1.queue.amazonaws.com`, `sqs.localhost`, `sqs.eu-west-1.localhost`
    and `sqs.eu-west-1.localhost.localstack.cloud`. Of services at one host it is the first; names of buckets before
    `s3` are S3's own matter.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.lower()
    for end in (".amazonaws.com.cn", ".amazonaws.com", ".localhost.localstack.cloud", ".localhost"):
        if name.endswith(end):
            labels = name.removesuffix(end).split(".")
            break
    else:
        return "", ""
    if "s3" in labels or any(label.startswith("s3-") for label in labels):
        return "s3", ""
    region = labels.pop() if len(labels) > 1 and labels[-1].count("-") >= 2 else ""
    if labels[-1] == "queue":
        return "sqs", ".".join(labels[:-1]) or region
    service = _BY_HOST.get(".".join(labels), "")
    if not service and labels[-1] == "iot":  # each account has a name of its own before it
        service = "iot-data"
    return service, region
