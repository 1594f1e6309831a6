"""Concurrency: how many invocations run at once, and who is refused.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""

from __future__ import annotations

from concurrent.futures import wait

import pytest
from botocore.exceptions import ClientError

from daemons import Daemon

WAITS = "def handler(event, context):\n    knock(event)\n    return 'ran'\n"


def throttled(caught):
    answer = caught.value.response
    assert answer["Error"]["Code"] == "TooManyRequestsException"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert answer["Error"]["Message"] == "Rate Exceeded."
    return answer["Reason"]


def test_a_reservation_is_a_cap(functions, aws_lambda, knock, door, background):
    name = functions.python(knock + WAITS)
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=3)
    running = [background.start(functions.invoke, name, door.address) for _ in range(8)]
    visitors = [door.await_knock() for _ in range(3)]
    refused = []
    for invocation in wait(running, timeout=20, return_when="FIRST_EXCEPTION").done:
        refused.append(invocation)
    while len(refused) < 5:
        rest = [invocation for invocation in running if invocation not in refused]
        refused += wait(rest, timeout=20, return_when="FIRST_COMPLETED").done
    for visitor in visitors:
        visitor.let_in()
    outcomes = [invocation.exception() for invocation in running]
    assert outcomes.count(None) == 3
    reasons = {error.response["Reason"] for error in outcomes if error is not None}
    assert reasons == {"ReservedFunctionConcurrentInvocationLimitExceeded"}
    again = background.start(functions.invoke, name, door.address)
    door.await_knock().let_in()
    assert again.result().payload == "ran"


def test_a_reservation_counts_all_versions_together(functions, aws_lambda, knock, door, background):
    name = functions.python(knock + WAITS)
    aws_lambda.publish_version(FunctionName=name)
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    running = background.start(functions.invoke, name, door.address, Qualifier="1")
    visitor = door.await_knock()
    with pytest.raises(ClientError) as caught:
        functions.invoke(name, door.address)
    assert throttled(caught) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    visitor.let_in()
    assert running.result().payload == "ran"


def test_zero_throttles_everything_until_it_is_removed(functions, aws_lambda):
    name = functions.python("def handler(event, context):\n    return 'ran'\n")
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    for call in (aws_lambda.invoke, aws_lambda.invoke_with_response_stream):
        with pytest.raises(ClientError) as caught:
            call(FunctionName=name)
        assert throttled(caught) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    aws_lambda.delete_function_concurrency(FunctionName=name)
    assert functions.invoke(name).payload == "ran"


def test_a_dry_run_and_a_refused_payload_count_for_nothing(functions, aws_lambda):
    name = functions.python("def handler(event, context):\n    return 'ran'\n")
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for _ in range(3):
        assert functions.invoke(name, InvocationType="DryRun").status == 204
        with pytest.raises(ClientError):
            functions.invoke(name, Payload=b"{")
    assert functions.invoke(name).payload == "ran"


def test_failed_and_streamed_invocations_give_their_place_back(functions, aws_lambda):
    name = functions.python("import os\ndef handler(event, context):\n    return os._exit(1) if event else 'ran'\n")
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for _ in range(3):
        assert functions.invoke(name, 1).error == "Unhandled"
        assert functions.invoke(name, 0).payload == "ran"
        events = list(aws_lambda.invoke_with_response_stream(FunctionName=name, Payload=b"0")["EventStream"])
        assert "InvokeComplete" in events[-1]


def test_a_reservation_is_a_guarantee_that_others_cannot_take(tmp_path, functions_of, knock, door, background):
    """With 899 of the account's 1000 reserved, 101 remain for everybody else."""
    with Daemon(tmp_path / "data") as daemon:
        functions = functions_of(daemon)
        greedy, guaranteed = functions.python(knock + WAITS), functions.python(knock + WAITS)
        functions.client.put_function_concurrency(FunctionName=guaranteed, ReservedConcurrentExecutions=899)
        with pytest.raises(ClientError) as caught:
            functions.client.put_function_concurrency(FunctionName=greedy, ReservedConcurrentExecutions=2)
        assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
        limits = functions.client.get_account_settings()["AccountLimit"]
        assert (limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]) == (1000, 101)
        running = background.start(functions.invoke, guaranteed, door.address)
        door.await_knock().let_in()
        assert running.result().payload == "ran"
