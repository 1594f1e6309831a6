"""From a method and a path to an operation."""

from __future__ import annotations

import pytest

from lambdad.domain.errors import UnknownOperationException
from lambdad.ingress.wire.routes import Route, RouteTable
from lambdad.ingress.wire.service import Service
from unit.ingress.wire.requests import request

TABLE = RouteTable(
    [
        ("List", "GET", "/things"),
        ("Create", "POST", "/things"),
        ("Find", "GET", "/things?find=Thing"),
        ("FindLarge", "GET", "/things?find=Thing&size=large"),
        ("Get", "GET", "/things/{Name}"),
        ("GetSpecial", "GET", "/things/special"),
        ("GetPart", "GET", "/things/{Name}/parts/{Part}"),
        ("GetSpecialPrice", "GET", "/things/special/price"),
        ("PutObject", "PUT", "/{Bucket}/{Key+}"),
        ("GetAcl", "GET", "/acl/{Bucket}/{Key+}/acl"),
        ("GetObject", "GET", "/acl/{Bucket}/{Key+}"),
        ("ListBuckets", "GET", "/"),
        ("Flagged", "DELETE", "/things?flag"),
    ]
)


@pytest.mark.parametrize(
    ("method", "target", "operation", "uri"),
    [
        ("GET", "/things", "List", {}),
        ("GET", "/things/", "List", {}),
        ("POST", "/things", "Create", {}),
        ("GET", "/things?find=Thing", "Find", {}),
        ("GET", "/things?x=1&find=Thing", "Find", {}),
        ("GET", "/things?find=Thing&size=large", "FindLarge", {}),
        ("GET", "/things?find=Other", "List", {}),
        ("DELETE", "/things?flag", "Flagged", {}),
        ("GET", "/things/one", "Get", {"Name": "one"}),
        ("GET", "/things/a%2Fb%20c%3A%C3%A4+d", "Get", {"Name": "a/b c:ä+d"}),
        ("GET", "/things/special", "GetSpecial", {}),
        ("GET", "/things/special/price", "GetSpecialPrice", {}),
        ("GET", "/things/special/parts/2", "GetPart", {"Name": "special", "Part": "2"}),
        ("GET", "/things/%73pecial", "Get", {"Name": "special"}),
        ("PUT", "/b/a/b/c", "PutObject", {"Bucket": "b", "Key": "a/b/c"}),
        ("PUT", "/b/a%2Fb", "PutObject", {"Bucket": "b", "Key": "a/b"}),
        ("GET", "/acl/b/x/acl", "GetAcl", {"Bucket": "b", "Key": "x"}),
        ("GET", "/acl/b/x/y/acl", "GetAcl", {"Bucket": "b", "Key": "x/y"}),
        ("GET", "/acl/b/acl", "GetObject", {"Bucket": "b", "Key": "acl"}),
        ("GET", "/", "ListBuckets", {}),
    ],
)
def test_an_operation_is_found(method: str, target: str, operation: str, uri: dict[str, str]) -> None:
    path, _, query = target.partition("?")
    assert TABLE.match(method, path, query) == Route(operation, uri)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PATCH", "/things"),
        ("GET", "/other"),
        ("GET", "/things//"),
        ("GET", "/things//parts/1"),
        ("GET", "things"),
        ("GET", ""),
        ("GET", "*"),
        ("GET", "/things/a/b"),
        ("DELETE", "/things"),
        ("PUT", "/b"),
    ],
)
def test_no_operation_is_found(method: str, target: str) -> None:
    path, _, query = target.partition("?")
    assert TABLE.match(method, path, query) is None


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/2015-03-31/functions/", "ListFunctions"),
        ("POST", "/2015-03-31/functions", "CreateFunction"),
        ("GET", "/2018-10-31/layers?find=LayerVersion&Arn=arn", "GetLayerVersionByArn"),
        ("GET", "/2018-10-31/layers?CompatibleRuntime=python3.12", "ListLayers"),
        ("GET", "/2019-09-30/functions/f/provisioned-concurrency?List=ALL", "ListProvisionedConcurrencyConfigs"),
        ("GET", "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1", "GetProvisionedConcurrencyConfig"),
        ("GET", "/2019-09-25/functions/f/event-invoke-config/list", "ListFunctionEventInvokeConfigs"),
    ],
)
def test_lambda_is_told_apart(method: str, target: str, operation: str) -> None:
    assert Service.load("lambda").match(request(method, target)).operation == operation


def test_an_arn_is_a_label() -> None:
    arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af"
    route = Service.load("lambda").match(request("GET", f"/2017-03-31/tags/{arn}"))
    assert route == Route("ListTags", {"Resource": "arn:aws:lambda:us-east-1:123456789012:function:f"})


def test_a_path_without_an_operation_is_answered_as_aws_does() -> None:
    service = Service.load("lambda")
    with pytest.raises(UnknownOperationException) as caught:
        service.match(request("GET", "/2015-03-31/elsewhere"))
    response = service.render_error(caught.value, "0123-abcd", None)
    assert (response.status, dict(response.headers)["x-amzn-ErrorType"]) == (403, "AccessDeniedException")
    assert response.body == b'{"Type":"User","message":"Unable to determine service/operation name to be authorized"}'
