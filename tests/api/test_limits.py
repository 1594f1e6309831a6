"""The quotas of functions, at the limit and beyond it, with AWS's messages.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from api_calls import refusal
from daemons import ROLE, Daemon, create_python, have_python, zip_of

ECHO = "def handler(event, context):\n    return event\n"
REFUSED_VARIABLES = (
    "Lambda was unable to configure your environment variables because the environment variables you have provided "
)
RESERVED_VARIABLES = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
]


@pytest.fixture(scope="module")
def client(shared_daemon: Daemon) -> Any:
    """A client that sends what its model forbids."""
    return shared_daemon.client("lambda", parameter_validation=False)


@pytest.fixture(scope="module")
def name(client: Any) -> str:
    have_python(client, "limits-of-functions", ECHO)
    return "limits-of-functions"


def violation(value: str, member: str, constraint: str) -> tuple[str, int, str]:
    return (
        "ValidationException",
        400,
        f"1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: "
        f"Member must {constraint}",
    )


def refuse_both(client: Any, name: str, expected: tuple[str, int, str], **options: Any) -> None:
    """Check that neither an update nor a creation accepts the options."""
    assert refusal(client.update_function_configuration, FunctionName=name, **options) == expected
    assert refusal(create_python, client=client, name="never-created", source=ECHO, **options) == expected
    assert refusal(client.get_function, FunctionName="never-created").status == 404


@pytest.mark.parametrize(
    ("member", "least", "most"),
    [("MemorySize", 128, 10_240), ("Timeout", 1, 900), ("EphemeralStorage", 512, 10_240)],
)
def test_numbers_have_a_range(client: Any, name: str, member: str, least: int, most: int) -> None:
    def option(number: int) -> dict[str, Any]:
        return {member: {"Size": number} if member == "EphemeralStorage" else number}

    path = {"MemorySize": "memorySize", "Timeout": "timeout", "EphemeralStorage": "ephemeralStorage.size"}[member]
    for number in (least, most):
        updated = client.update_function_configuration(FunctionName=name, **option(number))
        assert updated[member] == option(number)[member]
    for number in (least - 1, 0, -1):
        constraint = f"have value greater than or equal to {least}"
        refuse_both(client, name, violation(f"'{number}'", path, constraint), **option(number))
    refuse_both(
        client, name, violation(f"'{most + 1}'", path, f"have value less than or equal to {most}"), **option(most + 1)
    )


@pytest.mark.parametrize(("member", "path", "most"), [("Handler", "handler", 128), ("Description", "description", 256)])
def test_texts_have_a_length(client: Any, name: str, member: str, path: str, most: int) -> None:
    longest = "x" * most
    assert client.update_function_configuration(FunctionName=name, **{member: longest})[member] == longest
    constraint = f"have length less than or equal to {most}"
    refuse_both(client, name, violation(f"'{longest}x'", path, constraint), **{member: f"{longest}x"})


@pytest.mark.parametrize("handler", ["", "with space", "line\nbreak"])
def test_a_handler_has_no_spaces(client: Any, name: str, handler: str) -> None:
    expected = violation(f"'{handler}'", "handler", "satisfy regular expression pattern: [^\\s]+")
    refuse_both(client, name, expected, Handler=handler)


@pytest.mark.parametrize("role", ["role", "arn:aws:iam::123:role/x", "arn:aws:iam::123456789012:user/x", ""])
def test_a_role_is_an_arn(client: Any, name: str, role: str) -> None:
    answer = refusal(client.update_function_configuration, FunctionName=name, Role=role)
    assert answer[:2] == ("ValidationException", 400)
    start = (
        f"Value '{role}' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:"
    )
    assert start in answer.message


def test_settings_of_a_few_words_are_those_words(client: Any, name: str) -> None:
    modes = "satisfy enum value set: [Active, PassThrough]"
    refuse_both(client, name, violation("'On'", "tracingConfig.mode", modes), TracingConfig={"Mode": "On"})
    formats = "satisfy enum value set: [JSON, Text]"
    refuse_both(
        client, name, violation("'XML'", "loggingConfig.logFormat", formats), LoggingConfig={"LogFormat": "XML"}
    )
    package = zip_of({"app.py": ECHO})
    for wrong in (["x86"], ["x86_64", "arm64"], []):
        answer = refusal(client.update_function_code, FunctionName=name, ZipFile=package, Architectures=wrong)
        assert answer[:2] == ("ValidationException", 400)
        assert "at 'architectures' failed to satisfy constraint: " in answer.message


# Environment variables


def test_the_variables_have_four_kilobytes(client: Any, name: str) -> None:
    def of_size(size_bytes: int) -> dict[str, str]:
        return {"KEY": "x" * (size_bytes - len('{"KEY":""}'))}

    update = client.update_function_configuration
    update(FunctionName=name, Environment={"Variables": of_size(4096)})
    for variables in (of_size(4097), {"KEY": "ü" * 2048}, {f"KEY_{number}": "value" for number in range(300)}):
        measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
        message = f"{REFUSED_VARIABLES}exceeded the 4KB limit. String measured: {measured}"
        expected = ("InvalidParameterValueException", 400, message)
        refuse_both(client, name, expected, Environment={"Variables": variables})
    assert client.get_function_configuration(FunctionName=name)["Environment"] == {"Variables": of_size(4096)}


@pytest.mark.parametrize("key", [key for key in RESERVED_VARIABLES if not key.startswith("_")])
def test_reserved_variables_cannot_be_set(client: Any, name: str, key: str) -> None:
    message = (
        f"{REFUSED_VARIABLES}contains reserved keys that are currently not supported for modification. "
        f"Reserved keys used in this request: {key}"
    )
    expected = ("InvalidParameterValueException", 400, message)
    refuse_both(client, name, expected, Environment={"Variables": {"FINE": "x", key: "x"}})


def test_all_reserved_variables_are_named(client: Any, name: str) -> None:
    variables = {"AWS_REGION": "x", "LAMBDA_TASK_ROOT": "x", "FINE": "x"}
    answer = refusal(client.update_function_configuration, FunctionName=name, Environment={"Variables": variables})
    assert answer.message.endswith("Reserved keys used in this request: AWS_REGION, LAMBDA_TASK_ROOT")


@pytest.mark.parametrize(
    "key", ["A", "1KEY", "WITH-DASH", "WITH SPACE", "", "_HANDLER", "ÜBER", "KEY=", "_X_AMZN_TRACE_ID"]
)
def test_the_name_of_a_variable_has_a_form(client: Any, name: str, key: str) -> None:
    expected = (
        "ValidationException",
        400,
        "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must "
        "satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, "
        "Member must not be null]",
    )
    refuse_both(client, name, expected, Environment={"Variables": {key: "secret"}})


@pytest.mark.parametrize(
    "key",
    ["PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "NODE_PATH", "LANG", "TZ", "AWS_LAMBDA_EXEC_WRAPPER", "AWS_PROFILE"],
)
def test_variables_that_are_not_reserved_can_be_set(client: Any, name: str, key: str) -> None:
    updated = client.update_function_configuration(FunctionName=name, Environment={"Variables": {key: "/mine"}})
    assert updated["Environment"] == {"Variables": {key: "/mine"}}


# Layers


def test_a_function_has_five_layers_at_most(client: Any, name: str) -> None:
    layers = [f"arn:aws:lambda:us-east-1:000000000000:layer:mine-{number}:1" for number in range(1, 7)]
    expected = ("InvalidParameterValueException", 400, "Cannot reference more than 5 layers.")
    refuse_both(client, name, expected, Layers=layers)
    missing = f"Layer version {layers[0]} does not exist."
    refuse_both(client, name, ("InvalidParameterValueException", 400, missing), Layers=layers[:5])


# Runtimes


@pytest.mark.parametrize("runtime", ["python1.0", "cobol", "", "Python3.11", "python3.11 "])
def test_an_unknown_runtime_is_refused(client: Any, name: str, runtime: str) -> None:
    answer = refusal(client.update_function_configuration, FunctionName=name, Runtime=runtime)
    assert answer[:2] == ("InvalidParameterValueException", 400)
    assert answer.message.startswith(
        f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["
    )
    assert answer.message.endswith("] or be a valid ARN")
    assert refusal(create_python, client=client, name="never-created", source=ECHO, Runtime=runtime) == answer


@pytest.mark.parametrize("runtime", ["java21", "dotnet8", "ruby3.4", "go1.x", "python3.15"])
def test_a_runtime_that_lambdad_does_not_run_is_refused(client: Any, name: str, runtime: str) -> None:
    answer = refusal(client.update_function_configuration, FunctionName=name, Runtime=runtime)
    assert answer[:2] == ("InvalidParameterValueException", 400)
    assert answer.message.startswith(f"The runtime {runtime} is not supported yet by lambdad. It runs ")


def test_a_runtime_that_lambda_has_given_up_is_refused(client: Any, name: str) -> None:
    gone = (
        "InvalidParameterValueException",
        400,
        "The runtime parameter of python2.7 is no longer supported for creating or updating AWS Lambda functions. "
        "We recommend you use the new runtime (python3.14) while creating or updating functions.",
    )
    assert refusal(client.update_function_configuration, FunctionName=name, Runtime="python2.7") == gone
    assert refusal(create_python, client=client, name="never-created", source=ECHO, Runtime="python2.7") == gone


def test_a_runtime_that_is_not_installed_is_refused_with_the_way_to_install_it(tmp_path: Path) -> None:
    """A daemon that finds no interpreter but its own has no Node.js."""
    environ = {"PATH": "/var/empty", "HOME": str(tmp_path), "NVM_DIR": "", "LAMBDAD_RUNTIME_PATH": ""}
    with Daemon(tmp_path / "data", environ=environ) as daemon:
        client = daemon.client("lambda")
        runtimes = ("nodejs14.x", "nodejs16.x", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x")
        answers = {}
        for runtime in runtimes:
            try:
                create_python(client, runtime.replace(".", "-"), ECHO, Runtime=runtime)
            except client.exceptions.InvalidParameterValueException as error:
                answers[runtime] = error.response["Error"]["Message"]
        assert answers, "this machine has every version of Node.js in the places where all programs are looked for"
        for runtime, message in answers.items():
            assert message == (
                f"The runtime {runtime} is not installed on this machine. "
                f"Install it with: lambdad runtimes add {runtime}"
            )


# What a creation must have


@pytest.mark.parametrize("missing", ["Runtime", "Handler"])
def test_a_package_needs_a_runtime_and_a_handler(client: Any, missing: str) -> None:
    options = {
        "FunctionName": "never-created",
        "Role": ROLE,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Code": {"ZipFile": zip_of({"app.py": ECHO})},
    }
    del options[missing]
    assert refusal(client.create_function, **options) == (
        "InvalidParameterValueException",
        400,
        "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
    )


@pytest.mark.parametrize("missing", ["Role", "Code"])
def test_a_creation_needs_a_role_and_code(client: Any, missing: str) -> None:
    options = {
        "FunctionName": "never-created",
        "Role": ROLE,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Code": {"ZipFile": zip_of({"app.py": ECHO})},
    }
    del options[missing]
    expected = violation("null", missing.lower(), "not be null")
    assert refusal(client.create_function, **options) == expected


# Packages. What unpacks to 250 MB is in test_packages.py.


def test_a_package_in_a_request_has_fifty_megabytes(client: Any, name: str) -> None:
    too_large = ("RequestEntityTooLargeException", 413)
    creation = {"client": client, "name": "never-created", "source": ""}
    assert refusal(create_python, **creation, Code={"ZipFile": bytes(52_800_000)}) == (
        *too_large,
        "Request must be smaller than 70167211 bytes for the CreateFunction operation",
    )
    assert refusal(client.update_function_code, FunctionName=name, ZipFile=bytes(52_428_800)) == (
        *too_large,
        "Request must be smaller than 69905067 bytes for the UpdateFunctionCode operation",
    )
    assert refusal(create_python, **creation, Code={"ZipFile": bytes(52_428_801)}) == (
        *too_large,
        "Zipped size must be smaller than 52428800 bytes",
    )


def test_a_large_package_is_taken(client: Any, unique: Any) -> None:
    """Of 30 MB that do not compress."""

    name = unique()
    package = zip_of({"app.py": ECHO, "data": random.Random(1).randbytes(30_000_000)})
    assert create_python(client, name, "", Code={"ZipFile": package})["CodeSize"] == len(package)
    assert client.invoke(FunctionName=name, Payload=b"1")["Payload"].read() == b"1"
    client.delete_function(FunctionName=name)
