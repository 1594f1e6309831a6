"""PublishVersion, ListVersionsByFunction, and the deletion of versions.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api_calls import refusal
from daemons import create_python, zip_of

ANSWERS = (
    "import os\n\ndef handler(event, context):\n    return [{!r}, context.function_version, os.environ.get('WHO')]\n"
)
MISMATCH = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    name: str = unique()
    create_python(aws_lambda, name, ANSWERS.format("first"), Environment={"Variables": {"WHO": "one"}})
    return name


def arn(name: str) -> str:
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


def numbers(aws_lambda: Any, name: str) -> list[str]:
    return [version["Version"] for version in aws_lambda.list_versions_by_function(FunctionName=name)["Versions"]]


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_a_version_is_a_copy_of_latest(aws_lambda: Any, function: str) -> None:
    latest = without_metadata(aws_lambda.get_function_configuration(FunctionName=function))
    answer = aws_lambda.publish_version(FunctionName=function)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    published = without_metadata(answer)
    own = {"Version": "1", "FunctionArn": f"{arn(function)}:1"}
    assert {**latest, **own, "RevisionId": "", "LastModified": ""} == {
        **published,
        "RevisionId": "",
        "LastModified": "",
    }
    assert published["RevisionId"] != latest["RevisionId"]
    assert without_metadata(aws_lambda.get_function_configuration(FunctionName=function, Qualifier="1")) == published
    assert without_metadata(aws_lambda.get_function_configuration(FunctionName=function)) == latest


def test_the_waiter_of_boto3_is_content(aws_lambda: Any, function: str) -> None:
    aws_lambda.publish_version(FunctionName=function)
    waiter = aws_lambda.get_waiter("published_version_active")
    waiter.wait(FunctionName=function, Qualifier="1", WaiterConfig={"MaxAttempts": 1})


def test_nothing_new_publishes_nothing_new(aws_lambda: Any, function: str) -> None:
    first = aws_lambda.publish_version(FunctionName=function, Description="Version 1.0")
    again = aws_lambda.publish_version(FunctionName=function)
    other_words = aws_lambda.publish_version(FunctionName=function, Description="Version 1.1")
    assert without_metadata(again) == without_metadata(first) == without_metadata(other_words)
    aws_lambda.update_function_code(FunctionName=function, ZipFile=zip_of({"app.py": ANSWERS.format("first")}))
    assert aws_lambda.publish_version(FunctionName=function)["Version"] == "1"
    assert numbers(aws_lambda, function) == ["$LATEST", "1"]


@pytest.mark.parametrize(
    "change",
    [
        {"Description": "Better"},
        {"Timeout": 4},
        {"MemorySize": 129},
        {"Handler": "app.other"},
        {"Role": "arn:aws:iam::000000000000:role/other"},
        {"Runtime": "python3.12"},
        {"EphemeralStorage": {"Size": 513}},
        {"TracingConfig": {"Mode": "Active"}},
        {"Environment": {"Variables": {"WHO": "two"}}},
        {"LoggingConfig": {"LogFormat": "JSON"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_publishes_a_new_version(aws_lambda: Any, function: str, change: dict[str, Any]) -> None:
    aws_lambda.publish_version(FunctionName=function, Description="its own words")
    aws_lambda.update_function_configuration(FunctionName=function, **change)
    published = aws_lambda.publish_version(FunctionName=function)
    assert published["Version"] == "2"
    assert numbers(aws_lambda, function) == ["$LATEST", "1", "2"]
    assert aws_lambda.publish_version(FunctionName=function)["Version"] == "2"


def test_a_version_has_the_description_that_it_is_given(aws_lambda: Any, function: str) -> None:
    aws_lambda.update_function_configuration(FunctionName=function, Description="of the function")
    assert aws_lambda.publish_version(FunctionName=function)["Description"] == "of the function"
    aws_lambda.update_function_configuration(FunctionName=function, Timeout=9)
    assert aws_lambda.publish_version(FunctionName=function, Description="its own")["Description"] == "its own"
    assert aws_lambda.get_function_configuration(FunctionName=function)["Description"] == "of the function"


def test_a_version_does_not_change(aws_lambda: Any, function: str) -> None:
    aws_lambda.publish_version(FunctionName=function)
    before = aws_lambda.get_function(FunctionName=function, Qualifier="1")["Configuration"]
    aws_lambda.update_function_code(FunctionName=function, ZipFile=zip_of({"app.py": ANSWERS.format("second")}))
    aws_lambda.update_function_configuration(FunctionName=function, Environment={"Variables": {"WHO": "two"}})
    assert aws_lambda.get_function(FunctionName=function, Qualifier="1")["Configuration"] == before
    old = aws_lambda.invoke(FunctionName=function, Qualifier="1")
    new = aws_lambda.invoke(FunctionName=function)
    assert (old["ExecutedVersion"], old["Payload"].read()) == ("1", b'["first", "1", "one"]')
    assert (new["ExecutedVersion"], new["Payload"].read()) == ("$LATEST", b'["second", "$LATEST", "two"]')


@pytest.mark.parametrize("qualifier", ["1", "live", "$LATEST"])
def test_only_the_function_itself_can_be_changed(aws_lambda: Any, function: str, qualifier: str) -> None:
    aws_lambda.publish_version(FunctionName=function)
    aws_lambda.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    expected = (
        "InvalidParameterValueException",
        400,
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
    )
    name = f"{function}:{qualifier}"
    package = zip_of({"app.py": ANSWERS.format("second")})
    assert refusal(aws_lambda.update_function_configuration, FunctionName=name, Timeout=9) == expected
    assert refusal(aws_lambda.update_function_code, FunctionName=name, ZipFile=package) == expected
    assert refusal(aws_lambda.publish_version, FunctionName=name) == expected


def test_the_hash_that_is_expected_must_be_the_hash_that_is(aws_lambda: Any, function: str) -> None:
    current = aws_lambda.get_function_configuration(FunctionName=function)["CodeSha256"]
    other = b64encode(hashlib.sha256(b"").digest()).decode()
    assert refusal(aws_lambda.publish_version, FunctionName=function, CodeSha256=other) == (
        "InvalidParameterValueException",
        400,
        f"CodeSHA256 ({other}) is different from current CodeSHA256 in $LATEST ({current}). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )
    assert numbers(aws_lambda, function) == ["$LATEST"]
    assert aws_lambda.publish_version(FunctionName=function, CodeSha256=current)["Version"] == "1"


def test_the_revision_that_is_expected_must_be_the_revision_that_is(aws_lambda: Any, function: str) -> None:
    first = aws_lambda.get_function_configuration(FunctionName=function)["RevisionId"]
    second = aws_lambda.update_function_configuration(FunctionName=function, Timeout=4)["RevisionId"]
    expected = ("PreconditionFailedException", 412, MISMATCH)
    assert refusal(aws_lambda.publish_version, FunctionName=function, RevisionId=first) == expected
    assert aws_lambda.publish_version(FunctionName=function, RevisionId=second)["Version"] == "1"


def test_creation_can_publish(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    created = create_python(aws_lambda, name, ANSWERS.format("first"), Publish=True, Description="words")
    assert (created["Version"], created["Description"]) == ("1", "words")
    assert numbers(aws_lambda, name) == ["$LATEST", "1"]
    assert aws_lambda.publish_version(FunctionName=name)["Version"] == "1"


def test_publish_to_is_refused(aws_lambda: Any, function: str) -> None:
    answer = refusal(aws_lambda.publish_version, FunctionName=function, PublishTo="LATEST_PUBLISHED")
    assert answer == ("InvalidParameterValueException", 400, "PublishTo is not supported by lambdad yet.")


def test_a_number_is_used_once(aws_lambda: Any, function: str) -> None:
    aws_lambda.publish_version(FunctionName=function)
    deleted = aws_lambda.delete_function(FunctionName=function, Qualifier="1")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert numbers(aws_lambda, function) == ["$LATEST"]
    assert aws_lambda.publish_version(FunctionName=function)["Version"] == "2"


def test_the_versions_are_listed_with_latest_first(aws_lambda: Any, function: str) -> None:
    for timeout in range(11, 23):
        aws_lambda.update_function_configuration(FunctionName=function, Timeout=timeout)
        aws_lambda.publish_version(FunctionName=function)
    versions = aws_lambda.list_versions_by_function(FunctionName=function)["Versions"]
    expected = ["$LATEST", *map(str, range(1, 13))]
    assert [version["Version"] for version in versions] == expected
    assert [version["FunctionArn"] for version in versions] == [f"{arn(function)}:{number}" for number in expected]
    assert [version["Timeout"] for version in versions] == [22, *range(11, 23)]


def test_concurrent_publishing_makes_one_version(aws_lambda: Any, function: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: aws_lambda.publish_version(FunctionName=function), range(8)))
    assert {answer["Version"] for answer in answers} == {"1"}
    assert numbers(aws_lambda, function) == ["$LATEST", "1"]


def test_a_deleted_version_is_gone(aws_lambda: Any, function: str) -> None:
    aws_lambda.publish_version(FunctionName=function)
    assert aws_lambda.invoke(FunctionName=function, Qualifier="1")["StatusCode"] == 200
    aws_lambda.delete_function(FunctionName=f"{function}:1")
    expected = ("ResourceNotFoundException", 404, f"Function not found: {arn(function)}:1")
    assert refusal(aws_lambda.get_function, FunctionName=function, Qualifier="1") == expected
    assert refusal(aws_lambda.invoke, FunctionName=function, Qualifier="1") == expected
    assert aws_lambda.invoke(FunctionName=function)["StatusCode"] == 200


def test_latest_is_deleted_only_with_the_function(aws_lambda: Any, function: str) -> None:
    assert refusal(aws_lambda.delete_function, FunctionName=function, Qualifier="$LATEST") == (
        "InvalidParameterValueException",
        400,
        "$LATEST version cannot be deleted without deleting the function.",
    )


def test_a_version_that_an_alias_uses_is_not_deleted(aws_lambda: Any, function: str) -> None:
    aws_lambda.publish_version(FunctionName=function)
    aws_lambda.update_function_configuration(FunctionName=function, Timeout=9)
    aws_lambda.publish_version(FunctionName=function)
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    aws_lambda.create_alias(FunctionName=function, Name="live", FunctionVersion="1", RoutingConfig=routing)
    for version in ("1", "2"):
        assert refusal(aws_lambda.delete_function, FunctionName=function, Qualifier=version) == (
            "ResourceConflictException",
            409,
            "Unable to delete version because the following aliases reference it: [live]",
        )
    assert refusal(aws_lambda.delete_function, FunctionName=function, Qualifier="live") == (
        "InvalidParameterValueException",
        400,
        "Deletion of aliases is not currently supported.",
    )
    aws_lambda.delete_alias(FunctionName=function, Name="live")
    aws_lambda.delete_function(FunctionName=function, Qualifier="1")
    assert numbers(aws_lambda, function) == ["$LATEST", "2"]


def test_operations_on_versions_need_the_function(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    expected = ("ResourceNotFoundException", 404, f"Function not found: {arn(name)}")
    assert refusal(aws_lambda.publish_version, FunctionName=name) == expected
    assert refusal(aws_lambda.list_versions_by_function, FunctionName=name) == expected
    missing = ("ResourceNotFoundException", 404, f"Function not found: {arn(name)}:1")
    assert refusal(aws_lambda.delete_function, FunctionName=name, Qualifier="1") == missing


def test_numbers_are_not_used_again_when_a_deleted_function_comes_back(aws_lambda: Any, function: str) -> None:
    assert aws_lambda.publish_version(FunctionName=function)["Version"] == "1"
    aws_lambda.delete_function(FunctionName=function)
    create_python(aws_lambda, function, ANSWERS.format("again"))
    assert aws_lambda.publish_version(FunctionName=function)["Version"] == "2"
    assert numbers(aws_lambda, function) == ["$LATEST", "2"]
