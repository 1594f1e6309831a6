"""Put-, Update-, Get-, List- and DeleteFunctionEventInvokeConfig(s).

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html
"""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from api_calls import Refusal, refusal, send
from daemons import Daemon, create_python, have_python

ECHO = "def handler(event, context):\n    return event\n"
ACCOUNT_ID = "000000000000"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT_ID}:function"
PLACE = f"us-east-1:{ACCOUNT_ID}"
NO_FUNCTION = Refusal("ResourceNotFoundException", 404, "The function doesn't exist.")


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    """A function with a version 1 and an alias PROD of it."""
    name: str = unique()
    create_python(aws_lambda, name, ECHO, Publish=True)
    aws_lambda.create_alias(FunctionName=name, Name="PROD", FunctionVersion="1")
    return name


@pytest.fixture(scope="module")
def other(aws_lambda: Any) -> str:
    """The ARN of a function that may be a destination."""
    have_python(aws_lambda, "outcomes", ECHO)
    return "arn:aws:lambda:us-east-1:000000000000:function:outcomes"


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    """What an answer says besides when."""
    return {name: value for name, value in answer.items() if name not in ("ResponseMetadata", "LastModified")}


def no_config(name: str, qualifier: str = "$LATEST") -> Refusal:
    message = f"The function {ARN}:{name}:{qualifier} doesn't have an EventInvokeConfig"
    return Refusal("ResourceNotFoundException", 404, message)


def test_what_was_put_is_shown(aws_lambda: Any, function: str, other: str) -> None:
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    answer = aws_lambda.put_function_event_invoke_config(
        FunctionName=function,
        MaximumRetryAttempts=0,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnSuccess": {"Destination": other}, "OnFailure": {"Destination": f"{other}:$LATEST"}},
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert shown(answer) == {
        "FunctionArn": f"{ARN}:{function}:$LATEST",
        "MaximumRetryAttempts": 0,
        "MaximumEventAgeInSeconds": 60,
        "DestinationConfig": {
            "OnSuccess": {"Destination": other},
            "OnFailure": {"Destination": f"{other}:$LATEST"},
        },
    }
    assert before <= answer["LastModified"] <= datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
    got = aws_lambda.get_function_event_invoke_config(FunctionName=function)
    assert (shown(got), got["LastModified"]) == (shown(answer), answer["LastModified"])


def test_last_modified_is_in_seconds_on_the_wire(shared_daemon: Daemon, aws_lambda: Any, function: str) -> None:
    aws_lambda.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=1)
    got = send(shared_daemon, "GET", f"/2019-09-25/functions/{function}/event-invoke-config")
    modified = got.document["LastModified"]
    assert isinstance(modified, float)
    assert abs(modified - datetime.datetime.now(datetime.UTC).timestamp()) < 60


def test_put_replaces_everything_and_update_what_is_given(aws_lambda: Any, function: str, other: str) -> None:
    put, update = aws_lambda.put_function_event_invoke_config, aws_lambda.update_function_event_invoke_config
    put(FunctionName=function, MaximumRetryAttempts=2, DestinationConfig={"OnFailure": {"Destination": other}})
    replaced = put(FunctionName=function, MaximumEventAgeInSeconds=21600)
    assert shown(replaced) == {
        "FunctionArn": f"{ARN}:{function}:$LATEST",
        "MaximumEventAgeInSeconds": 21600,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
    }
    update(FunctionName=function, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": other}})
    updated = update(FunctionName=function, DestinationConfig={"OnSuccess": {"Destination": other}})
    assert shown(updated) == {
        **shown(replaced),
        "MaximumRetryAttempts": 0,
        "DestinationConfig": {"OnSuccess": {"Destination": other}, "OnFailure": {"Destination": other}},
    }


@pytest.mark.parametrize("empty", [{}, {"Destination": ""}], ids=["empty object", "empty text"])
def test_an_empty_destination_removes_the_one_there_was(
    aws_lambda: Any, function: str, other: str, empty: dict[str, str]
) -> None:
    destinations = {"OnSuccess": {"Destination": other}, "OnFailure": {"Destination": other}}
    aws_lambda.put_function_event_invoke_config(FunctionName=function, DestinationConfig=destinations)
    aws_lambda.update_function_event_invoke_config(FunctionName=function, DestinationConfig={"OnSuccess": empty})
    left = aws_lambda.get_function_event_invoke_config(FunctionName=function)["DestinationConfig"]
    assert left == {"OnSuccess": {}, "OnFailure": {"Destination": other}}


def test_versions_and_aliases_have_their_own_and_lists_come_in_pages(aws_lambda: Any, function: str) -> None:
    put = aws_lambda.put_function_event_invoke_config
    put(FunctionName=function, MaximumRetryAttempts=0)
    put(FunctionName=f"{function}:1", MaximumRetryAttempts=1)
    put(FunctionName=function, Qualifier="PROD", MaximumRetryAttempts=2)
    for number, qualifier in enumerate(("$LATEST", "1", "PROD")):
        got = aws_lambda.get_function_event_invoke_config(FunctionName=f"{ARN}:{function}", Qualifier=qualifier)
        assert (got["FunctionArn"], got["MaximumRetryAttempts"]) == (f"{ARN}:{function}:{qualifier}", number)
    pages = aws_lambda.get_paginator("list_function_event_invoke_configs").paginate(
        FunctionName=function, PaginationConfig={"PageSize": 2}
    )
    listed = [[config["FunctionArn"] for config in page["FunctionEventInvokeConfigs"]] for page in pages]
    assert listed == [[f"{ARN}:{function}:$LATEST", f"{ARN}:{function}:1"], [f"{ARN}:{function}:PROD"]]
    refused = refusal(aws_lambda.list_function_event_invoke_configs, FunctionName=function, Marker="%")
    assert refused == ("InvalidParameterValueException", 400, "Invalid marker")


def test_a_configuration_can_be_deleted_and_goes_with_what_it_is_for(aws_lambda: Any, function: str) -> None:
    for qualifier in ("$LATEST", "1", "PROD"):
        aws_lambda.put_function_event_invoke_config(FunctionName=function, Qualifier=qualifier, MaximumRetryAttempts=0)
    deleted = aws_lambda.delete_function_event_invoke_config(FunctionName=function)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (aws_lambda.get_function_event_invoke_config, aws_lambda.delete_function_event_invoke_config):
        assert refusal(call, FunctionName=function) == no_config(function)
    aws_lambda.delete_alias(FunctionName=function, Name="PROD")
    assert refusal(aws_lambda.get_function_event_invoke_config, FunctionName=function, Qualifier="PROD") == no_config(
        function, "PROD"
    )
    aws_lambda.delete_function(FunctionName=function, Qualifier="1")
    listed = aws_lambda.list_function_event_invoke_configs(FunctionName=function)
    assert listed["FunctionEventInvokeConfigs"] == []


def test_what_does_not_exist_has_no_configuration(aws_lambda: Any, function: str) -> None:
    put, update = aws_lambda.put_function_event_invoke_config, aws_lambda.update_function_event_invoke_config
    for change in (put, update):
        assert refusal(change, FunctionName="absent", MaximumRetryAttempts=1) == NO_FUNCTION
        assert refusal(change, FunctionName=function, Qualifier="9", MaximumRetryAttempts=1) == NO_FUNCTION
        assert refusal(change, FunctionName=function, Qualifier="BETA", MaximumRetryAttempts=1) == NO_FUNCTION
    assert refusal(aws_lambda.list_function_event_invoke_configs, FunctionName="absent") == NO_FUNCTION
    assert refusal(aws_lambda.delete_function_event_invoke_config, FunctionName="absent") == NO_FUNCTION
    assert refusal(update, FunctionName=function, MaximumRetryAttempts=1) == no_config(function)
    assert refusal(aws_lambda.get_function_event_invoke_config, FunctionName="absent") == no_config("absent")


def test_there_must_be_something_to_set(aws_lambda: Any, function: str) -> None:
    assert refusal(aws_lambda.put_function_event_invoke_config, FunctionName=function) == (
        "InvalidParameterValueException",
        400,
        "You must specify at least one of error handling or destination setting.",
    )


@pytest.mark.parametrize(
    ("setting", "value", "member", "constraint"),
    [
        ("MaximumRetryAttempts", -1, "maximumRetryAttempts", "greater than or equal to 0"),
        ("MaximumRetryAttempts", 3, "maximumRetryAttempts", "less than or equal to 2"),
        ("MaximumEventAgeInSeconds", 59, "maximumEventAgeInSeconds", "greater than or equal to 60"),
        ("MaximumEventAgeInSeconds", 21601, "maximumEventAgeInSeconds", "less than or equal to 21600"),
    ],
)
def test_numbers_keep_to_their_ranges(
    shared_daemon: Daemon, function: str, setting: str, value: int, member: str, constraint: str
) -> None:
    answer = send(shared_daemon, "PUT", f"/2019-09-25/functions/{function}/event-invoke-config", {setting: value})
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert answer.document["message"] == (
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: "
        f"Member must have value {constraint}"
    )


def test_destinations_that_aws_does_not_have_are_refused(aws_lambda: Any, function: str) -> None:
    def put(**destinations: str) -> Refusal:
        config = {role: {"Destination": arn} for role, arn in destinations.items()}
        return refusal(aws_lambda.put_function_event_invoke_config, FunctionName=function, DestinationConfig=config)

    def invalid(on_success: str, on_failure: str) -> Refusal:
        config = f"DestinationConfig(onSuccess={on_success}, onFailure={on_failure})"
        message = f"The provided destination config {config} is invalid."
        return Refusal("InvalidParameterValueException", 400, message)

    for arn in (f"arn:aws:sqs:{PLACE}:q.fifo", f"arn:aws:sns:{PLACE}:t.fifo", f"arn:aws:kinesis:{PLACE}:stream/s"):
        assert put(OnFailure=arn) == invalid("null", f"OnFailure(destination={arn})")
    bucket = "arn:aws:s3:::outcomes"
    assert put(OnSuccess=bucket) == invalid(f"OnSuccess(destination={bucket})", "null")
    itself = Refusal(
        "InvalidParameterValueException", 400, "You can't specify the function as a destination for itself."
    )
    assert put(OnSuccess=f"{ARN}:{function}") == itself
    assert put(OnFailure=f"{ARN}:{function}:PROD") == itself
    absent = f"{ARN}:absent"
    assert put(OnFailure=absent) == (
        "InvalidParameterValueException",
        400,
        f"The destination ARN {absent} is invalid.",
    )
    assert put(OnFailure="outcomes").code == "ValidationException"
    assert refusal(aws_lambda.get_function_event_invoke_config, FunctionName=function) == no_config(function)


def test_every_kind_of_destination_must_be_there(moto: Any, daemon_with_neighbours: Daemon, unique: Any) -> None:
    client = daemon_with_neighbours.client("lambda")
    name = unique()
    create_python(client, name, ECHO)
    topic = moto.client("sns").create_topic(Name=name)["TopicArn"]
    bus = moto.client("events").create_event_bus(Name=name)["EventBusArn"]
    moto.client("s3").create_bucket(Bucket=name)
    for role, arn in [
        ("OnSuccess", moto.queue(name).arn),
        ("OnSuccess", topic),
        ("OnSuccess", bus),
        ("OnFailure", f"arn:aws:s3:::{name}"),
    ]:
        config = {role: {"Destination": arn}}
        put = client.put_function_event_invoke_config(FunctionName=name, DestinationConfig=config)
        assert put["DestinationConfig"][role] == {"Destination": arn}
        absent = {role: {"Destination": f"{arn}-absent"}}
        refused = refusal(client.put_function_event_invoke_config, FunctionName=name, DestinationConfig=absent)
        assert refused == ("InvalidParameterValueException", 400, f"The destination ARN {arn}-absent is invalid.")
