"""Put- and GetRuntimeManagementConfig, and what runs then; Put- and GetFunctionScalingConfig, which are refused.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from api_calls import refusal
from daemons import Daemon, create_python
from lambdad.adapters.runtime_places import _PLACES

SAYS_VERSION = "import platform\n\ndef handler(event, context):\n    return platform.python_version()\n"


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    """A function with a version 1."""
    name: str = unique()
    create_python(aws_lambda, name, SAYS_VERSION, Publish=True)
    return name


def arn(name: str) -> str:
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def runtime_version_arn(client: Any, name: str, **options: str) -> str:
    config = client.get_function_configuration(FunctionName=name, **options)
    return str(config["RuntimeVersionConfig"]["RuntimeVersionArn"])


def test_a_configuration_comes_back_as_it_was_put(aws_lambda: Any, function: str) -> None:
    get, put = aws_lambda.get_runtime_management_config, aws_lambda.put_runtime_management_config
    auto = {"UpdateRuntimeOn": "Auto", "FunctionArn": arn(function)}
    assert without_metadata(get(FunctionName=function)) == auto
    held = runtime_version_arn(aws_lambda, function)
    manual = put(FunctionName=f"{function}:1", UpdateRuntimeOn="Manual", RuntimeVersionArn=held)
    expected = {"UpdateRuntimeOn": "Manual", "FunctionArn": f"{arn(function)}:1", "RuntimeVersionArn": held}
    assert without_metadata(manual) == expected
    assert without_metadata(get(FunctionName=function, Qualifier="1")) == expected
    assert without_metadata(get(FunctionName=function)) == auto
    on_update = put(FunctionName=function, Qualifier="$LATEST", UpdateRuntimeOn="FunctionUpdate")
    assert without_metadata(on_update) == {
        "UpdateRuntimeOn": "FunctionUpdate",
        "FunctionArn": f"{arn(function)}:$LATEST",
    }


def test_what_is_shown_is_what_runs(aws_lambda: Any, function: str, log_of: Any) -> None:
    held = runtime_version_arn(aws_lambda, function)
    for mode, options in (("Auto", {}), ("FunctionUpdate", {}), ("Manual", {"RuntimeVersionArn": held})):
        aws_lambda.put_runtime_management_config(FunctionName=function, UpdateRuntimeOn=mode, **options)
        answer = aws_lambda.invoke(FunctionName=function, LogType="Tail")
        version = json.loads(answer["Payload"].read())
        assert runtime_version_arn(aws_lambda, function) == f"arn:aws:lambda:us-east-1::runtime:python-{version}"
    begun = [line for line in log_of(function) if line.startswith("INIT_START")]
    assert len(begun) == 3
    assert all(held in line for line in begun)


def test_what_is_held_must_be_there(aws_lambda: Any, function: str) -> None:
    put = aws_lambda.put_runtime_management_config
    absent = "arn:aws:lambda:us-east-1::runtime:python-3.11.250"
    assert refusal(put, FunctionName=function, UpdateRuntimeOn="Manual", RuntimeVersionArn=absent) == (
        "InvalidParameterValueException",
        400,
        f"The runtime version {absent} does not exist here, or is not one of the runtime python3.11.",
    )
    assert refusal(put, FunctionName=function, UpdateRuntimeOn="Manual")[:2] == ("InvalidParameterValueException", 400)
    held = runtime_version_arn(aws_lambda, function)
    refused = refusal(put, FunctionName=function, UpdateRuntimeOn="Auto", RuntimeVersionArn=held)
    assert refused[:2] == ("InvalidParameterValueException", 400)
    put(FunctionName=function, UpdateRuntimeOn="Manual", RuntimeVersionArn=held)
    assert refusal(aws_lambda.update_function_configuration, FunctionName=function, Runtime="provided.al2023") == (
        "InvalidParameterValueException",
        400,
        "Cannot change runtime identifier when runtime management configuration is set to 'Manual'. "
        "Change the runtime management configuration to 'Auto' or 'FunctionUpdate', then retry.",
    )


def test_a_runtime_version_that_is_gone_is_missed(tmp_path: Path) -> None:
    """The only interpreter of the machine is a copy, which goes while a version is held at it."""
    python = shutil.copy2(os.path.realpath(sys.executable), tmp_path / "python3")
    nothing = str(tmp_path / "nothing")
    installers = {place.variable: nothing for place in _PLACES if place.variable}
    elsewhere = {**installers, "HOME": nothing, "PATH": nothing, "LAMBDAD_RUNTIME_PATH": str(python)}
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    with Daemon(tmp_path / "data", ("--sandbox", "process"), elsewhere) as daemon:
        client = daemon.client("lambda")
        create_python(client, "f", SAYS_VERSION, Runtime=runtime)
        held = runtime_version_arn(client, "f")
        client.put_runtime_management_config(FunctionName="f", UpdateRuntimeOn="Manual", RuntimeVersionArn=held)
        os.remove(python)
        refused = refusal(client.invoke, FunctionName="f")
        assert refused == (
            "InvalidRuntimeException",
            502,
            f"The runtime version {held} is not installed on this machine.",
        )


@pytest.mark.parametrize("operation", ["get", "put"])
def test_a_function_without_a_capacity_provider_has_no_scaling_config(
    aws_lambda: Any, function: str, operation: str
) -> None:
    call = getattr(aws_lambda, f"{operation}_function_scaling_config")
    options = {"FunctionScalingConfig": {"MinExecutionEnvironments": 1}} if operation == "put" else {}
    assert refusal(call, FunctionName=function, Qualifier="1", **options) == (
        "AccessDeniedException",
        403,
        "The function provided by the arn does not contain a capacity provider configuration",
    )
    for qualifier in ("7", "$LATEST.PUBLISHED"):
        missing = ("ResourceNotFoundException", 404, f"Function not found: {arn(function)}:{qualifier}")
        assert refusal(call, FunctionName=function, Qualifier=qualifier, **options) == missing
