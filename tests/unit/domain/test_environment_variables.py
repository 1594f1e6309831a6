"""The variables of a function: those that Lambda sets, and those that users may not set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lambdad.domain import environment_variables
from lambdad.domain.arns import FunctionKey
from lambdad.domain.credentials import TemporaryCredentials
from lambdad.domain.environment_variables import RESERVED, Surroundings
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.functions import FunctionVersion, LoggingConfig

VERSION = FunctionVersion(
    key=FunctionKey("000000000000", "eu-west-1", "f"),
    version="3",
    role="",
    runtime="python3.12",
    handler="app.handler",
    code_sha256="",
    code_size=0,
    logging=LoggingConfig("/aws/lambda/f", "JSON", "DEBUG", "INFO"),
    revision_id="",
    last_modified="",
    memory_mb=512,
    environment={"STAGE": "test", "TZ": "Europe/Berlin"},
)
AROUND = Surroundings(
    runtime_api="127.0.0.1:9001",
    task_root="/var/task",
    runtime_dir="/var/runtime",
    endpoint_url="http://127.0.0.1:4566",
    path="/usr/bin",
    library_path="/var/task:/var/task/lib:/opt/lib",
    log_stream="stream",
    credentials=TemporaryCredentials("key", "secret", "token"),
)


def test_what_a_function_finds() -> None:
    found = environment_variables.build(VERSION, VERSION.environment, AROUND)
    assert found["_HANDLER"] == "app.handler"
    assert found["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.12"
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert found["AWS_LAMBDA_FUNCTION_VERSION"] == "3"
    assert found["AWS_LAMBDA_LOG_LEVEL"] == "DEBUG"
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"], found["AWS_SESSION_TOKEN"]) == (
        "key",
        "secret",
        "token",
    )
    assert found["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert (found["STAGE"], found["TZ"]) == ("test", "Europe/Berlin")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameterValueException, match=f"Reserved keys used in this request: {name}$"):
        environment_variables.check(replace(VERSION, environment={name: "x", "OTHER": "y"}))


def test_four_kilobytes_are_the_limit() -> None:
    fits = 4096 - len('{"A":""}')
    environment_variables.check(replace(VERSION, environment={"A": "x" * fits}))
    for value in ("x" * (fits + 1), "ä" * (fits // 2 + 1)):
        with pytest.raises(InvalidParameterValueException, match="exceeded the 4KB limit"):
            environment_variables.check(replace(VERSION, environment={"A": value}))


@pytest.mark.parametrize("changes", [{"environment": {"A": "x\0y"}}, {"handler": "app\0.handler"}])
def test_what_no_process_can_be_given_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterValueException, match="null character"):
        environment_variables.check(replace(VERSION, **changes))
