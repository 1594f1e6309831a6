"""PutFunctionRecursionConfig and GetFunctionRecursionConfig.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
"""

from __future__ import annotations

from typing import Any

import pytest

from api_calls import refusal, send
from daemons import Daemon, create_python

ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    name: str = unique()
    create_python(aws_lambda, name, ECHO, Publish=True)
    return name


def test_loops_are_terminated_until_they_are_allowed(aws_lambda: Any, function: str) -> None:
    assert aws_lambda.get_function_recursion_config(FunctionName=function)["RecursiveLoop"] == "Terminate"
    for choice in ("Allow", "Terminate"):
        put = aws_lambda.put_function_recursion_config(FunctionName=function, RecursiveLoop=choice)
        assert (put["RecursiveLoop"], put["ResponseMetadata"]["HTTPStatusCode"]) == (choice, 200)
        assert aws_lambda.get_function_recursion_config(FunctionName=function)["RecursiveLoop"] == choice


def test_a_choice_outlives_changes_of_the_function(aws_lambda: Any, function: str) -> None:
    aws_lambda.put_function_recursion_config(FunctionName=function, RecursiveLoop="Allow")
    aws_lambda.update_function_configuration(FunctionName=function, Timeout=9)
    aws_lambda.publish_version(FunctionName=function)
    aws_lambda.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=1)
    assert aws_lambda.get_function_recursion_config(FunctionName=function)["RecursiveLoop"] == "Allow"


def test_there_must_be_a_function_and_a_choice(shared_daemon: Daemon, aws_lambda: Any, function: str) -> None:
    absent = ("ResourceNotFoundException", 404, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:no")
    assert refusal(aws_lambda.get_function_recursion_config, FunctionName="no") == absent
    assert refusal(aws_lambda.put_function_recursion_config, FunctionName="no", RecursiveLoop="Allow") == absent
    path = f"/2024-08-31/functions/{function}/recursion-config"
    for body in ({}, {"RecursiveLoop": "Forbid"}):
        answer = send(shared_daemon, "PUT", path, body)
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationException")
        assert "at 'recursiveLoop' failed to satisfy constraint" in answer.document["message"]


def test_versions_have_none_of_their_own(aws_lambda: Any, function: str) -> None:
    refused = refusal(aws_lambda.put_function_recursion_config, FunctionName=f"{function}:1", RecursiveLoop="Allow")
    assert (refused.code, refused.status) == ("ValidationException", 400)
    assert aws_lambda.get_function_recursion_config(FunctionName=function)["RecursiveLoop"] == "Terminate"
