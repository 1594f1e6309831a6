"""PutFunctionConcurrency, GetFunctionConcurrency, DeleteFunctionConcurrency, and what a reservation does.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""

from __future__ import annotations

from typing import Any

import pytest

from api_calls import new_account, refusal
from daemons import create_python

ECHO = "def handler(event, context):\n    return event\n"
WAITS = "{knock}\ndef handler(event, context):\n    knock(event['door'])\n    return 'let in'\n"
TOO_FEW_LEFT = (
    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
    "minimum value of [100]."
)


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    name: str = unique()
    create_python(aws_lambda, name, ECHO, Publish=True)
    return name


def reserved(client: Any, name: str) -> int | None:
    """What GetFunctionConcurrency says."""
    answer: int | None = client.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
    return answer


def throttled(client: Any, name: str, **options: Any) -> dict[str, Any]:
    """The error of an invocation that must be throttled."""
    with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
        client.invoke(FunctionName=name, **options)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    return dict(caught.value.response)


def test_a_reservation_comes_back_as_it_was_put(aws_lambda: Any, function: str) -> None:
    assert reserved(aws_lambda, function) is None
    for number in (0, 1, 50):
        put = aws_lambda.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=number)
        assert (put["ReservedConcurrentExecutions"], put["ResponseMetadata"]["HTTPStatusCode"]) == (number, 200)
        assert reserved(aws_lambda, function) == number
    deleted = aws_lambda.delete_function_concurrency(FunctionName=function)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert reserved(aws_lambda, function) is None
    assert aws_lambda.delete_function_concurrency(FunctionName=function)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_zero_throttles_everything(aws_lambda: Any, function: str) -> None:
    aws_lambda.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    for options in ({}, {"Qualifier": "1"}, {"Qualifier": "$LATEST"}):
        error = throttled(aws_lambda, function, **options)
        assert error["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert error["Error"] == {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}
        assert error["Type"] == "User"
    aws_lambda.delete_function_concurrency(FunctionName=function)
    assert aws_lambda.invoke(FunctionName=function, Payload=b"1")["Payload"].read() == b"1"


def test_a_reservation_is_a_limit(aws_lambda: Any, unique: Any, door: Any, knock: str, background: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, WAITS.format(knock=knock), Timeout=30)
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    payload = f'{{"door": "{door.address}"}}'.encode()
    running = [background.start(aws_lambda.invoke, FunctionName=name, Payload=payload) for _ in range(2)]
    visitors = [door.await_knock() for _ in running]
    assert throttled(aws_lambda, name, Payload=payload)["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=3)
    running.append(background.start(aws_lambda.invoke, FunctionName=name, Payload=payload))
    visitors.append(door.await_knock())
    for visitor in visitors:
        visitor.let_in()
    assert [invocation.result()["Payload"].read() for invocation in running] == [b'"let in"'] * 3


def test_a_hundred_executions_stay_unreserved(shared_daemon: Any) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    for name in ("first", "second"):
        create_python(client, name, ECHO)
    put = client.put_function_concurrency
    expected = ("InvalidParameterValueException", 400, TOO_FEW_LEFT)
    assert refusal(put, FunctionName="first", ReservedConcurrentExecutions=901) == expected
    assert refusal(put, FunctionName="first", ReservedConcurrentExecutions=2**31 - 1) == expected
    assert reserved(client, "first") is None
    put(FunctionName="first", ReservedConcurrentExecutions=900)
    assert refusal(put, FunctionName="second", ReservedConcurrentExecutions=1) == expected
    put(FunctionName="second", ReservedConcurrentExecutions=0)
    put(FunctionName="first", ReservedConcurrentExecutions=899)
    put(FunctionName="second", ReservedConcurrentExecutions=1)
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 100
    client.delete_function(FunctionName="first")
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 999
    put(FunctionName="second", ReservedConcurrentExecutions=900)


def test_a_reservation_counts_in_its_own_region(shared_daemon: Any) -> None:
    account_id = new_account()
    for region in ("us-east-1", "eu-central-1"):
        client = shared_daemon.client("lambda", account_id=account_id, region=region)
        create_python(client, "mine", ECHO)
        client.put_function_concurrency(FunctionName="mine", ReservedConcurrentExecutions=900)


def test_a_reservation_below_zero_is_refused(shared_daemon: Any, function: str) -> None:
    client = shared_daemon.client("lambda", parameter_validation=False)
    assert refusal(client.put_function_concurrency, FunctionName=function, ReservedConcurrentExecutions=-1) == (
        "ValidationException",
        400,
        "1 validation error detected: Value '-1' at 'reservedConcurrentExecutions' failed to satisfy constraint: "
        "Member must have value greater than or equal to 0",
    )
    assert refusal(client.put_function_concurrency, FunctionName=function) == (
        "ValidationException",
        400,
        "1 validation error detected: Value null at 'reservedConcurrentExecutions' failed to satisfy constraint: "
        "Member must not be null",
    )


def test_reservations_belong_to_functions(aws_lambda: Any, function: str) -> None:
    name = f"{function}:1"
    for call, options in (
        (aws_lambda.put_function_concurrency, {"ReservedConcurrentExecutions": 1}),
        (aws_lambda.get_function_concurrency, {}),
        (aws_lambda.delete_function_concurrency, {}),
    ):
        assert refusal(call, FunctionName=name, **options)[:2] == ("InvalidParameterValueException", 400)


def test_reservations_need_their_function(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    message = f"Function not found: arn:aws:lambda:us-east-1:000000000000:function:{name}"
    for call, options in (
        (aws_lambda.put_function_concurrency, {"ReservedConcurrentExecutions": 1}),
        (aws_lambda.get_function_concurrency, {}),
        (aws_lambda.delete_function_concurrency, {}),
    ):
        assert refusal(call, FunctionName=name, **options) == ("ResourceNotFoundException", 404, message)
