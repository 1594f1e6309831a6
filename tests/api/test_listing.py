"""ListFunctions, ListVersionsByFunction and ListAliases in pages."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from api_calls import new_account, refusal
from daemons import ROLE, create_python, zip_of

ECHO = "def handler(event, context):\n    return event\n"
NAMES = [f"fn-{number:03}" for number in range(120)]
PUBLISHED = {"fn-000": 2, "fn-049": 1, "fn-119": 3}
WRONG_MARKER = ("InvalidParameterValueException", 400, "Invalid marker")


@pytest.fixture(scope="module")
def client(shared_daemon: Any) -> Any:
    """A client of an account with 120 functions, three of which have published versions."""
    client = shared_daemon.client("lambda", account_id=new_account())
    package = zip_of({"app.py": ECHO})
    for name in reversed(NAMES):
        client.create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package}
        )
    for name, number in PUBLISHED.items():
        for timeout in range(10, 10 + number):
            client.update_function_configuration(FunctionName=name, Timeout=timeout)
            client.publish_version(FunctionName=name)
    return client


@pytest.fixture(scope="module")
def many_versions(client: Any) -> str:
    """The name of a function of that account with 60 versions and as many aliases."""
    name = "many"
    create_python(client, name, ECHO)
    for number in range(1, 61):
        client.update_function_configuration(FunctionName=name, Timeout=number)
        client.publish_version(FunctionName=name)
        client.create_alias(FunctionName=name, Name=f"alias-{number:02}", FunctionVersion=str(number))
    return name


def pages(client: Any, operation: str, **options: Any) -> list[dict[str, Any]]:
    """The pages, by following the markers by hand."""
    call = getattr(client, operation)
    found = [call(**options)]
    while "NextMarker" in found[-1]:
        found.append(call(**options, Marker=found[-1]["NextMarker"]))
    return found


def names(page: dict[str, Any]) -> list[str]:
    return [function["FunctionName"] for function in page["Functions"] if function["FunctionName"] != "many"]


def test_functions_come_fifty_at_a_time_by_name(client: Any) -> None:
    found = pages(client, "list_functions")
    assert [name for page in found for name in names(page)] == NAMES
    assert [len(page["Functions"]) for page in found[:-1]] == [50, 50]
    paginator = client.get_paginator("list_functions").paginate()
    assert [name for page in paginator for name in names(page)] == NAMES


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (7, 7), (50, 50), (51, 50), (10_000, 50)])
def test_pages_are_as_large_as_asked_up_to_fifty(client: Any, asked: int, given: int) -> None:
    found = pages(client, "list_functions", MaxItems=asked)
    assert {len(page["Functions"]) for page in found[:-1]} == {given}
    assert [name for page in found for name in names(page)] == NAMES


def test_all_versions_are_listed_on_demand(client: Any) -> None:
    found = pages(client, "list_functions", FunctionVersion="ALL", MaxItems=9)
    listed = [
        (function["FunctionName"], function["Version"], function["FunctionArn"].rsplit(":", 1)[1])
        for page in found
        for function in page["Functions"]
        if function["FunctionName"] != "many"
    ]
    expected = []
    for name in NAMES:
        versions = ["$LATEST", *map(str, range(1, PUBLISHED.get(name, 0) + 1))]
        expected += [(name, version, version) for version in versions]
    assert listed == expected


def test_a_listed_function_has_the_documented_fields(client: Any) -> None:
    """https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html: a subset of the fields."""
    listed = client.list_functions(MaxItems=1)["Functions"][0]
    whole = client.get_function_configuration(FunctionName=NAMES[0])
    left_out = {"State", "LastUpdateStatus", "RuntimeVersionConfig"}
    assert listed == {name: value for name, value in whole.items() if name not in {*left_out, "ResponseMetadata"}}
    assert listed["FunctionArn"].endswith(f":function:{NAMES[0]}")


def test_no_function_is_a_replica_of_lambda_at_edge(client: Any) -> None:
    """https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html: what MasterRegion filters by."""
    assert client.list_functions(MasterRegion="eu-west-1", FunctionVersion="ALL")["Functions"] == []
    assert client.list_functions(MasterRegion="us-east-1", FunctionVersion="ALL")["Functions"] == []
    assert len(client.list_functions(MasterRegion="ALL")["Functions"]) == 50


def test_a_marker_outlives_what_it_points_to(shared_daemon: Any) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    for name in ("a", "b", "c"):
        create_python(client, name, ECHO)
    marker = client.list_functions(MaxItems=2)["NextMarker"]
    client.delete_function(FunctionName="b")
    rest = client.list_functions(Marker=marker)
    assert names(rest) == ["c"]
    assert "NextMarker" not in rest


def test_a_list_that_just_fits_has_no_next_page(shared_daemon: Any) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    assert "NextMarker" not in client.list_functions()
    for name in ("a", "b"):
        create_python(client, name, ECHO)
    assert "NextMarker" not in client.list_functions(MaxItems=2)
    assert "NextMarker" in client.list_functions(MaxItems=1)


def test_versions_are_paged(client: Any, many_versions: str) -> None:
    expected = ["$LATEST", *map(str, range(1, 61))]
    for options in ({}, {"MaxItems": 7}, {"MaxItems": 61}):
        found = pages(client, "list_versions_by_function", FunctionName=many_versions, **options)
        assert [version["Version"] for page in found for version in page["Versions"]] == expected
        assert len(found[0]["Versions"]) == min(options.get("MaxItems", 50), 50)


def test_aliases_are_paged(client: Any, many_versions: str) -> None:
    expected = [f"alias-{number:02}" for number in range(1, 61)]
    for options in ({}, {"MaxItems": 7}):
        found = pages(client, "list_aliases", FunctionName=many_versions, **options)
        assert [alias["Name"] for page in found for alias in page["Aliases"]] == expected
        assert len(found[0]["Aliases"]) == options.get("MaxItems", 50)
    some = pages(client, "list_aliases", FunctionName=many_versions, FunctionVersion="42", MaxItems=1)
    assert [alias["Name"] for page in some for alias in page["Aliases"]] == ["alias-42"]


@pytest.mark.parametrize(
    "marker",
    [
        "!!!!",
        "ü",
        "abc",
        base64.b64encode(b"fn-001").decode(),
        base64.b64encode(b"fn-001:x").decode(),
        base64.b64encode(b"fn-001:-5").decode(),
        base64.b64encode(b"fn-001:" + b"9" * 30).decode(),
        base64.b64encode(b"\xff\xff:1").decode(),
    ],
)
def test_a_marker_that_is_none_is_refused(client: Any, marker: str) -> None:
    assert refusal(client.list_functions, Marker=marker) == WRONG_MARKER
    assert refusal(client.list_functions, Marker=marker, FunctionVersion="ALL") == WRONG_MARKER
    assert refusal(client.list_versions_by_function, Marker=marker, FunctionName=NAMES[0]) == WRONG_MARKER


@pytest.mark.parametrize("marker", ["!!!!", "ü", "abc", base64.b64encode(b"\xff\xff").decode()])
def test_a_marker_that_is_none_is_refused_for_aliases(client: Any, marker: str) -> None:
    assert refusal(client.list_aliases, Marker=marker, FunctionName=NAMES[0]) == WRONG_MARKER


@pytest.mark.parametrize("number", [0, 10_001])
def test_the_size_of_a_page_has_limits(shared_daemon: Any, number: int) -> None:
    client = shared_daemon.client("lambda", parameter_validation=False)
    answer = refusal(client.list_functions, MaxItems=number)
    assert answer[:2] == ("ValidationException", 400)
    assert f"Value '{number}' at 'maxItems' failed to satisfy constraint: " in answer.message
