"""InvokeAsync, the deprecated way to hand an event over.

https://docs.aws.amazon.com/lambda/latest/api/API_InvokeAsync.html
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from api_calls import refusal
from daemons import create_python

KNOCKS = "{knock}\ndef handler(event, context):\n    knock(event['door'], event['said'] + context.aws_request_id)\n"


@pytest.mark.filterwarnings("ignore")
def test_an_event_is_accepted_and_runs_under_the_request_id(
    aws_lambda: Any, unique: Any, door: Any, knock: str
) -> None:
    name = unique()
    create_python(aws_lambda, name, KNOCKS.format(knock=knock), Timeout=30)
    event = json.dumps({"door": door.address, "said": "hello "}).encode()
    answer = aws_lambda.invoke_async(FunctionName=name, InvokeArgs=event)
    assert (answer["Status"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (202, 202)
    visitor = door.await_knock()
    assert visitor.said == f"hello {answer['ResponseMetadata']['RequestId']}"
    visitor.let_in()


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_run_is_not_accepted(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    assert refusal(aws_lambda.invoke_async, FunctionName=name, InvokeArgs=b"{}") == (
        "ResourceNotFoundException",
        404,
        f"Function not found: arn:aws:lambda:us-east-1:000000000000:function:{name}",
    )
    create_python(aws_lambda, name, "def handler(event, context):\n    return event\n")
    refused = refusal(aws_lambda.invoke_async, FunctionName=name, InvokeArgs=b"{'single': 1}")
    assert refused[:2] == ("InvalidRequestContentException", 400)
    assert refused.message.startswith("Could not parse request body into json: Could not parse payload into json: ")
