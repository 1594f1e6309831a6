"""Put-, Get-, List- and DeleteProvisionedConcurrencyConfig, and the environments that they are about.

https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api_calls import new_account, refusal
from daemons import Daemon, create_python, zip_of

HOW_IT_BEGAN = """
import os, uuid
BORN = str(uuid.uuid4())

def handler(event, context):
    place = [os.readlink("/proc/self/ns/pid"), os.getpid()] if os.path.exists("/proc/self/ns") else []
    return [os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], BORN, place, context.function_version]
"""
WAITS = """{knock}
import os

def handler(event, context):
    knock(event["door"])
    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
"""
BROKEN = "raise RuntimeError('not today')\n"
READY_S = 20.0
needs_proc = pytest.mark.skipif(not Path("/proc/self/ns").exists(), reason="there is no /proc on this system")


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    """A function with a version 1."""
    name: str = unique()
    create_python(aws_lambda, name, HOW_IT_BEGAN, Publish=True)
    return name


def put(client: Any, name: str, qualifier: str, number: int) -> dict[str, Any]:
    answer: dict[str, Any] = client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=number
    )
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 202
    return answer


def config(client: Any, name: str, qualifier: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
    del answer["ResponseMetadata"]
    return answer


def await_config(
    client: Any, name: str, qualifier: str, wanted: Callable[[dict[str, Any]], bool] | str = "READY"
) -> dict[str, Any]:
    """The configuration once it has this status, or is as `wanted` says."""
    deadline = time.monotonic() + READY_S
    while True:
        shown = config(client, name, qualifier)
        if shown["Status"] == wanted if isinstance(wanted, str) else wanted(shown):
            return shown
        assert time.monotonic() < deadline, shown
        time.sleep(0.02)


def invoke(client: Any, name: str, qualifier: str, event: Any = None) -> Any:
    answer = client.invoke(FunctionName=name, Qualifier=qualifier, Payload=json.dumps(event).encode())
    return json.loads(answer["Payload"].read())


def delete(client: Any, name: str, qualifier: str) -> None:
    answer = client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_environments_are_there_before_the_first_invocation(aws_lambda: Any, function: str) -> None:
    begun = put(aws_lambda, function, "1", 2)
    modified = begun.pop("LastModified")
    assert modified.endswith("+0000")
    time.strptime(modified, "%Y-%m-%dT%H:%M:%S+0000")
    assert begun == {
        "RequestedProvisionedConcurrentExecutions": 2,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
    }
    assert await_config(aws_lambda, function, "1") == {
        "RequestedProvisionedConcurrentExecutions": 2,
        "AvailableProvisionedConcurrentExecutions": 2,
        "AllocatedProvisionedConcurrentExecutions": 2,
        "Status": "READY",
        "LastModified": modified,
    }
    assert invoke(aws_lambda, function, "1")[0] == "provisioned-concurrency"
    assert invoke(aws_lambda, function, "$LATEST")[0] == "on-demand"
    delete(aws_lambda, function, "1")
    assert invoke(aws_lambda, function, "1")[0] == "on-demand"
    assert refusal(aws_lambda.get_provisioned_concurrency_config, FunctionName=function, Qualifier="1") == (
        "ProvisionedConcurrencyConfigNotFoundException",
        404,
        "No Provisioned Concurrency Config found for this function",
    )
    delete(aws_lambda, function, "1")


def test_what_they_cannot_take_spills_over_and_is_counted(
    aws_lambda: Any, shared_daemon: Daemon, unique: Any, door: Any, knock: str, background: Any
) -> None:
    name = unique()
    create_python(aws_lambda, name, WAITS.format(knock=knock), Publish=True, Timeout=30)
    put(aws_lambda, name, "1", 2)
    await_config(aws_lambda, name, "1")
    event = {"door": door.address}
    running = [background.start(invoke, aws_lambda, name, "1", event) for _ in range(3)]
    visitors = [door.await_knock() for _ in running]
    for visitor in visitors:
        visitor.let_in()
    assert sorted(each.result() for each in running) == [
        "on-demand",
        "provisioned-concurrency",
        "provisioned-concurrency",
    ]
    delete(aws_lambda, name, "1")
    cloudwatch = shared_daemon.client("cloudwatch")

    def metric(of: str, statistic: str) -> float:
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=of,
            Dimensions=[{"Name": "FunctionName", "Value": name}, {"Name": "Resource", "Value": f"{name}:1"}],
            StartTime=time.time() - 600,
            EndTime=time.time() + 60,
            Period=3600,
            Statistics=[statistic],
        )["Datapoints"]
        return float(sum(point[statistic] for point in found) if statistic == "Sum" else found[0][statistic])

    assert metric("ProvisionedConcurrencyInvocations", "Sum") == 2
    assert metric("ProvisionedConcurrencySpilloverInvocations", "Sum") == 1
    assert metric("ProvisionedConcurrentExecutions", "Maximum") == 2
    assert metric("ProvisionedConcurrencyUtilization", "Maximum") == 1.0


def test_those_of_an_alias_move_with_it(aws_lambda: Any, function: str) -> None:
    code = zip_of({"app.py": HOW_IT_BEGAN + "\n"})
    aws_lambda.update_function_code(FunctionName=function, ZipFile=code, Publish=True)
    arn = aws_lambda.create_alias(FunctionName=function, Name="live", FunctionVersion="1")["AliasArn"]
    put(aws_lambda, f"{function}:live", "live", 2)
    await_config(aws_lambda, arn, "live")
    assert invoke(aws_lambda, function, "live")[::3] == ["provisioned-concurrency", "1"]
    aws_lambda.update_alias(FunctionName=function, Name="live", FunctionVersion="2")
    await_config(aws_lambda, function, "live", lambda shown: invoke(aws_lambda, arn, "live")[3] == "2")
    await_config(aws_lambda, function, "live")
    assert invoke(aws_lambda, function, "live")[::3] == ["provisioned-concurrency", "2"]
    assert invoke(aws_lambda, function, "1")[0] == "on-demand"
    routing = {"AdditionalVersionWeights": {"1": 0.5}}
    aws_lambda.update_alias(FunctionName=function, Name="live", RoutingConfig=routing)
    await_config(aws_lambda, function, "live", lambda shown: invoke(aws_lambda, function, "1")[0] != "on-demand")
    shown = await_config(aws_lambda, function, "live")
    assert shown["AllocatedProvisionedConcurrentExecutions"] == 2
    assert refusal(
        aws_lambda.put_provisioned_concurrency_config,
        FunctionName=function,
        Qualifier="live",
        ProvisionedConcurrentExecutions=1,
    ) == (
        "InvalidParameterValueException",
        400,
        "Alias with weights can not be used with Provisioned Concurrency",
    )
    listed = aws_lambda.list_provisioned_concurrency_configs(FunctionName=function)["ProvisionedConcurrencyConfigs"]
    assert [(each["FunctionArn"], each["Status"]) for each in listed] == [(arn, "READY")]
    aws_lambda.delete_alias(FunctionName=function, Name="live")
    assert aws_lambda.list_provisioned_concurrency_configs(FunctionName=function)["ProvisionedConcurrencyConfigs"] == []


def test_an_initialization_that_fails_is_told(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, BROKEN, Publish=True)
    put(aws_lambda, name, "1", 1)
    shown = await_config(aws_lambda, name, "1", "FAILED")
    assert shown["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
    assert shown["AllocatedProvisionedConcurrentExecutions"] == shown["AvailableProvisionedConcurrentExecutions"] == 0
    aws_lambda.delete_function(FunctionName=name)


@needs_proc
def test_one_that_is_killed_is_replaced(aws_lambda: Any, function: str) -> None:
    """From without, as a machine that is out of memory would do it."""
    put(aws_lambda, function, "1", 1)
    await_config(aws_lambda, function, "1")
    _, born, place, _ = invoke(aws_lambda, function, "1")
    os.kill(_process_at(*place), signal.SIGKILL)

    def is_another(shown: dict[str, Any]) -> bool:
        if shown["Status"] != "READY":
            return False
        answer = invoke(aws_lambda, function, "1")
        if not isinstance(answer, list):  # it ran in the one that is killed
            return False
        return answer[0] == "provisioned-concurrency" and answer[1] != born

    await_config(aws_lambda, function, "1", is_another)
    delete(aws_lambda, function, "1")


def _process_at(namespace: str, pid: int) -> int:
    """The number that a process of a sandbox has outside of it."""
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                status = Path(f"/proc/{entry}/status").read_text()
                if re.search(rf"^NSpid:.*\b{pid}$", status, re.MULTILINE):
                    return int(entry)
        except OSError:  # it has ended, or is another user's
            continue
    raise AssertionError(f"no process is {pid} in {namespace}")


def test_limits_of_the_function_and_of_the_account(shared_daemon: Daemon) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    create_python(client, "f", HOW_IT_BEGAN, Publish=True)

    def refused(number: int) -> tuple[str, int, str]:
        return refusal(
            client.put_provisioned_concurrency_config,
            FunctionName="f",
            Qualifier="1",
            ProvisionedConcurrentExecutions=number,
        )

    assert refused(1001) == (
        "InvalidParameterValueException",
        400,
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].",
    )
    assert refused(901).message == (
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
        "minimum value of [100]."
    )
    put(client, "f", "1", 2)
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 998
    reserve = client.put_function_concurrency
    assert refusal(reserve, FunctionName="f", ReservedConcurrentExecutions=1).message == (
        "ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2]."
    )
    reserve(FunctionName="f", ReservedConcurrentExecutions=3)
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 997
    assert refused(4).message == (
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    )
    client.delete_function(FunctionName="f")
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000


def test_what_is_refused(aws_lambda: Any, shared_daemon: Daemon, function: str) -> None:
    aws_lambda.create_alias(FunctionName=function, Name="latest", FunctionVersion="$LATEST")
    call = shared_daemon.client("lambda", parameter_validation=False).put_provisioned_concurrency_config
    for qualifier in ("$LATEST", "latest"):
        assert refusal(call, FunctionName=function, Qualifier=qualifier, ProvisionedConcurrentExecutions=1) == (
            "InvalidParameterValueException",
            400,
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        )
    zero = refusal(call, FunctionName=function, Qualifier="1", ProvisionedConcurrentExecutions=0)
    assert zero[:2] == ("ValidationException", 400)
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{function}"
    for qualifier, message in (("7", f"Function not found: {arn}:7"), ("gone", f"Cannot find alias arn: {arn}:gone")):
        for operation, options in (
            (call, {"ProvisionedConcurrentExecutions": 1}),
            (aws_lambda.get_provisioned_concurrency_config, {}),
            (aws_lambda.delete_provisioned_concurrency_config, {}),
        ):
            expected = ("ResourceNotFoundException", 404, message)
            assert refusal(operation, FunctionName=function, Qualifier=qualifier, **options) == expected


def test_it_is_kept_over_a_crash(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        client = daemon.client("lambda")
        create_python(client, "f", HOW_IT_BEGAN, Publish=True)
        put(client, "f", "1", 2)
        before = await_config(client, "f", "1")
        daemon.kill()
        daemon.start()
        client = daemon.client("lambda")
        assert await_config(client, "f", "1") == before
        assert invoke(client, "f", "1")[0] == "provisioned-concurrency"
        assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 998
