"""CreateFunction, GetFunction, GetFunctionConfiguration, UpdateFunctionConfiguration, DeleteFunction."""

from __future__ import annotations

import datetime
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from api_calls import new_account, refusal, send
from daemons import ROLE, create_python, zip_of
from lambdad.ingress.wire.java_regex import compile_java

ECHO = "def handler(event, context):\n    return event\n"
READS_ENVIRONMENT = "import os\n\ndef handler(event, context):\n    return os.environ.get(event['name'])\n"
EVERYTHING = {
    "Description": "All settings at once",
    "Timeout": 7,
    "MemorySize": 256,
    "EphemeralStorage": {"Size": 1024},
    "Environment": {"Variables": {"GREETING": "grüß dich", "EMPTY": ""}},
    "TracingConfig": {"Mode": "Active"},
    "LoggingConfig": {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "DEBUG",
        "SystemLogLevel": "WARN",
        "LogGroup": "/my/group",
    },
}
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    """The name of a function with nothing but what is required."""
    name: str = unique()
    create_python(aws_lambda, name, ECHO)
    return name


def configuration(aws_lambda: Any, name: str, **options: Any) -> dict[str, Any]:
    """GetFunctionConfiguration without the metadata of the answer."""
    answer = aws_lambda.get_function_configuration(FunctionName=name, **options)
    answer.pop("ResponseMetadata")
    return dict(answer)


def check_shape(shape: Any, value: Any, path: str = "") -> None:
    """That a JSON value is what botocore's model says, constraints included."""
    kinds = {"structure": dict, "map": dict, "list": list, "string": str, "integer": int, "long": int, "boolean": bool}
    assert type(value) is kinds[shape.type_name], f"{path}: {value!r} is no {shape.type_name}"
    if shape.type_name == "structure":
        assert value.keys() <= shape.members.keys(), path
        assert set(shape.required_members) <= value.keys(), path
        for name, member in value.items():
            check_shape(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        for one in value:
            check_shape(shape.member, one, f"{path}[]")
    elif shape.type_name == "map":
        for name, one in value.items():
            check_shape(shape.key, name, f"{path} key")
            check_shape(shape.value, one, f"{path}.{name}")
    elif shape.type_name == "string":
        pattern = shape.metadata.get("pattern")
        assert pattern is None or compile_java(pattern).fullmatch(value), f"{path}: {value!r}"
        assert shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", len(value)), f"{path}: {value!r}"
        assert not shape.enum or value in shape.enum, f"{path}: {value!r}"
    else:
        assert shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value), f"{path}: {value!r}"


def test_a_function_with_what_is_required_has_the_documented_defaults(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    package = zip_of({"app.py": ECHO})
    created = create_python(aws_lambda, name, ECHO, Code={"ZipFile": package})
    assert created.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    assert re.fullmatch(UUID, created.pop("RevisionId"))
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", created.pop("CodeSha256"))
    modified = created.pop("LastModified")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", modified)
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.strptime(modified, "%Y-%m-%dT%H:%M:%S.%f%z")
    assert abs(age) < datetime.timedelta(minutes=1)
    runtime_version = created.pop("RuntimeVersionConfig")["RuntimeVersionArn"]
    assert re.fullmatch(r"arn:aws:lambda:us-east-1::runtime:python-3\.11\.\d+", runtime_version)
    assert created == {
        "FunctionName": name,
        "FunctionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(package),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }


def test_every_setting_comes_back_as_it_was_given(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, ECHO, **EVERYTHING)
    assert configuration(aws_lambda, name).items() >= EVERYTHING.items()


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_every_answer_is_of_the_models_shape(shared_daemon: Any, aws_lambda: Any, unique: Any, options: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, ECHO, Tags={"a": "b"}, Publish=True, **options)
    aws_lambda.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    path = f"/2015-03-31/functions/{name}"
    for operation, target in {
        "GetFunction": path,
        "GetFunctionConfiguration": f"{path}/configuration",
        "ListFunctions": "/2015-03-31/functions/?FunctionVersion=ALL",
        "ListVersionsByFunction": f"{path}/versions",
        "GetAlias": f"{path}/aliases/live",
        "ListAliases": f"{path}/aliases",
        "GetFunctionConcurrency": f"/2019-09-30/functions/{name}/concurrency",
        "GetAccountSettings": "/2016-08-19/account-settings",
    }.items():
        answer = send(shared_daemon, "GET", target)
        assert answer.status == 200, answer.body
        check_shape(aws_lambda.meta.service_model.operation_model(operation).output_shape, answer.document, operation)


def test_create_update_and_get_agree(aws_lambda: Any, function: str) -> None:
    updated = aws_lambda.update_function_configuration(FunctionName=function, Timeout=5)
    updated.pop("ResponseMetadata")
    assert configuration(aws_lambda, function) == updated
    got = aws_lambda.get_function(FunctionName=function)
    assert got["Configuration"] == updated
    assert got["Code"].keys() == {"RepositoryType", "Location"}
    assert got["Code"]["RepositoryType"] == "S3"
    assert "Tags" not in got
    assert "Concurrency" not in got


def test_get_function_shows_tags_and_reserved_concurrency(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, ECHO, Tags={"team": "blue"})
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    got = aws_lambda.get_function(FunctionName=name)
    assert got["Tags"] == {"team": "blue"}
    assert got["Concurrency"] == {"ReservedConcurrentExecutions": 0}


def test_get_function_with_a_qualifier_shows_only_what_a_version_has(aws_lambda: Any, unique: Any) -> None:
    """https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html"""
    name = unique()
    create_python(aws_lambda, name, ECHO, Tags={"team": "blue"}, Publish=True)
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    aws_lambda.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for qualifier in ("1", "live", "$LATEST"):
        for way in ({"FunctionName": name, "Qualifier": qualifier}, {"FunctionName": f"{name}:{qualifier}"}):
            assert aws_lambda.get_function(**way).keys() == {"Configuration", "Code", "ResponseMetadata"}, way


@pytest.mark.parametrize("waiter", ["function_exists", "function_active", "function_active_v2", "function_updated_v2"])
def test_the_waiters_of_boto3_are_content(aws_lambda: Any, function: str, waiter: str) -> None:
    aws_lambda.get_waiter(waiter).wait(FunctionName=function, WaiterConfig={"MaxAttempts": 1})


def test_an_update_changes_what_it_names_and_nothing_else(aws_lambda: Any, function: str) -> None:
    before = configuration(aws_lambda, function)
    for field, value in {
        "Description": "New",
        "Timeout": 900,
        "MemorySize": 10_240,
        "Handler": "app.other",
        "Role": "arn:aws:iam::000000000000:role/path/other-role",
        "Runtime": "python3.12",
        "EphemeralStorage": {"Size": 10_240},
        "TracingConfig": {"Mode": "Active"},
        "Environment": {"Variables": {"KEY": "value"}},
    }.items():
        after = aws_lambda.update_function_configuration(FunctionName=function, **{field: value})
        assert after.pop("ResponseMetadata")["HTTPStatusCode"] == 200
        changed = {name for name in after if after[name] != before.get(name)}
        with_it = {"RuntimeVersionConfig"} if field == "Runtime" else set()
        assert changed - {"LastModified"} == {field, "RevisionId", *with_it}
        assert after["LastModified"] >= before["LastModified"]
        assert after[field] == value
        before = after


def test_the_variables_are_replaced_together(aws_lambda: Any, function: str) -> None:
    update = aws_lambda.update_function_configuration
    update(FunctionName=function, Environment={"Variables": {"KEY_A": "1", "KEY_B": "2"}})
    after = update(FunctionName=function, Environment={"Variables": {"KEY_C": "3"}})
    assert after["Environment"] == {"Variables": {"KEY_C": "3"}}
    assert update(FunctionName=function, Timeout=4)["Environment"] == {"Variables": {"KEY_C": "3"}}
    assert "Environment" not in update(FunctionName=function, Environment={"Variables": {}})


def test_the_log_format_decides_about_the_log_levels(aws_lambda: Any, function: str) -> None:
    def update(**config: str) -> Any:
        return aws_lambda.update_function_configuration(FunctionName=function, LoggingConfig=config)["LoggingConfig"]

    group = {"LogGroup": f"/aws/lambda/{function}"}
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    assert update(LogFormat="JSON") == {"LogFormat": "JSON", **levels, **group}
    assert update(ApplicationLogLevel="ERROR")["ApplicationLogLevel"] == "ERROR"
    assert update(SystemLogLevel="DEBUG")["ApplicationLogLevel"] == "ERROR"
    assert update(LogFormat="Text", LogGroup="/mine") == {"LogFormat": "Text", "LogGroup": "/mine"}
    assert refusal(update, ApplicationLogLevel="ERROR")[:2] == ("InvalidParameterValueException", 400)


def test_an_update_reaches_the_next_invocation(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, READS_ENVIRONMENT, Environment={"Variables": {"COLOUR": "red"}})

    def colour() -> bytes:
        return bytes(aws_lambda.invoke(FunctionName=name, Payload=b'{"name": "COLOUR"}')["Payload"].read())

    assert colour() == b'"red"'
    aws_lambda.update_function_configuration(FunctionName=name, Environment={"Variables": {"COLOUR": "blue"}})
    assert colour() == b'"blue"'


def test_an_update_with_an_old_revision_id_changes_nothing(aws_lambda: Any, function: str) -> None:
    first = configuration(aws_lambda, function)
    update = aws_lambda.update_function_configuration
    second = update(FunctionName=function, Timeout=4, RevisionId=first["RevisionId"])
    assert second["RevisionId"] != first["RevisionId"]
    assert refusal(update, FunctionName=function, Timeout=5, RevisionId=first["RevisionId"]) == (
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )
    assert configuration(aws_lambda, function)["Timeout"] == 4


def test_concurrent_updates_with_one_revision_id_let_one_win(aws_lambda: Any, function: str) -> None:
    revision_id = configuration(aws_lambda, function)["RevisionId"]

    def update(timeout: int) -> int | None:
        try:
            answer = aws_lambda.update_function_configuration(
                FunctionName=function, Timeout=timeout, RevisionId=revision_id
            )
        except aws_lambda.exceptions.PreconditionFailedException:
            return None
        return int(answer["Timeout"])

    with ThreadPoolExecutor(8) as threads:
        won = [timeout for timeout in threads.map(update, range(10, 18)) if timeout is not None]
    assert won == [configuration(aws_lambda, function)["Timeout"]]


def test_concurrent_creations_of_one_name_let_one_win(aws_lambda: Any, unique: Any) -> None:
    name = unique()

    def create(number: int) -> int | None:
        try:
            create_python(aws_lambda, name, ECHO, MemorySize=200 + number)
        except aws_lambda.exceptions.ResourceConflictException:
            return None
        return 200 + number

    with ThreadPoolExecutor(8) as threads:
        won = [memory for memory in threads.map(create, range(8)) if memory is not None]
    assert won == [configuration(aws_lambda, name)["MemorySize"]]


def test_a_name_that_is_taken_is_refused(aws_lambda: Any, function: str) -> None:
    def create(client: Any, name: str) -> None:
        create_python(client, name, ECHO)

    assert refusal(create, client=aws_lambda, name=function) == (
        "ResourceConflictException",
        409,
        f"Function already exist: {function}",
    )


def test_a_role_may_name_its_account_by_a_word(shared_daemon: Any, unique: Any) -> None:
    account_id = new_account()
    client = shared_daemon.client("lambda", account_id=account_id)
    created = create_python(client, unique(), ECHO, Role="arn:aws:iam::account:role/lambda-role")
    assert created["Role"] == f"arn:aws:iam::{account_id}:role/lambda-role"


def test_the_settings_that_tools_send_empty_are_accepted(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    empty = {
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": [], "Ipv6AllowedForDualStack": False},
        "DeadLetterConfig": {"TargetArn": ""},
        "SnapStart": {"ApplyOn": "None"},
        "Layers": [],
        "FileSystemConfigs": [],
        "KMSKeyArn": "",
        "ImageConfig": {"EntryPoint": [], "Command": [], "WorkingDirectory": ""},
        "Environment": {},
        "TracingConfig": {},
        "LoggingConfig": {},
        "Description": "",
    }
    created = create_python(aws_lambda, name, ECHO, **empty, PackageType="Zip", Tags={}, Architectures=["x86_64"])
    updated = aws_lambda.update_function_configuration(FunctionName=name, **empty)
    for answer in (created, updated):
        assert answer.keys().isdisjoint(
            {"VpcConfig", "DeadLetterConfig", "Layers", "FileSystemConfigs", "KMSKeyArn", "ImageConfigResponse"}
        )
        assert answer["TracingConfig"] == {"Mode": "PassThrough"}
        assert answer["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}


WITHOUT_EFFECT = {
    "VpcConfig": {"SubnetIds": ["subnet-12345"], "SecurityGroupIds": ["sg-12345"]},
    "SnapStart": {"ApplyOn": "PublishedVersions"},
    "FileSystemConfigs": [
        {
            "Arn": "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0",
            "LocalMountPath": "/mnt/efs",
        }
    ],
    "ImageConfig": {"Command": ["app.handler"]},
}


@pytest.mark.parametrize("setting", WITHOUT_EFFECT)
def test_a_setting_that_would_have_no_effect_is_refused(
    aws_lambda: Any, function: str, unique: Any, setting: str
) -> None:
    expected = ("InvalidParameterValueException", 400, f"{setting} is not supported by lambdad yet.")
    option = {setting: WITHOUT_EFFECT[setting]}
    assert refusal(aws_lambda.update_function_configuration, FunctionName=function, **option) == expected
    name = unique()
    assert refusal(create_python, client=aws_lambda, name=name, source=ECHO, **option) == expected
    assert refusal(aws_lambda.get_function, FunctionName=name).status == 404
    assert setting not in configuration(aws_lambda, function) or setting == "SnapStart"


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        ({"PackageType": "Image"}, "PackageType Image"),
        ({"PublishTo": "LATEST_PUBLISHED"}, "PublishTo"),
        ({"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}, "TenancyConfig"),
        ({"DurableConfig": {"ExecutionTimeout": 60}}, "DurableConfig"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_creation_that_asks_for_more_than_there_is_is_refused(
    aws_lambda: Any, unique: Any, option: dict[str, Any], setting: str
) -> None:
    assert refusal(create_python, client=aws_lambda, name=unique(), source=ECHO, **option) == (
        "InvalidParameterValueException",
        400,
        f"{setting} is not supported by lambdad yet.",
    )


def test_layers_are_refused(aws_lambda: Any, function: str) -> None:
    layer = "arn:aws:lambda:us-east-1:000000000000:layer:mine:1"
    assert refusal(aws_lambda.update_function_configuration, FunctionName=function, Layers=[layer]) == (
        "InvalidParameterValueException",
        400,
        f"Layer version {layer} does not exist.",
    )


def test_a_deleted_function_is_gone_with_its_versions_and_aliases(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    create_python(aws_lambda, name, ECHO, Publish=True, Tags={"a": "b"})
    aws_lambda.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    deleted = aws_lambda.delete_function(FunctionName=name)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    not_found = ("ResourceNotFoundException", 404, f"Function not found: {arn}")
    for call, options in [
        (aws_lambda.get_function, {"FunctionName": name}),
        (aws_lambda.get_function_configuration, {"FunctionName": name}),
        (aws_lambda.update_function_configuration, {"FunctionName": name, "Timeout": 4}),
        (aws_lambda.list_versions_by_function, {"FunctionName": name}),
        (aws_lambda.get_alias, {"FunctionName": name, "Name": "live"}),
        (aws_lambda.list_aliases, {"FunctionName": name}),
        (aws_lambda.get_function_concurrency, {"FunctionName": name}),
        (aws_lambda.list_tags, {"Resource": arn}),
        (aws_lambda.invoke, {"FunctionName": name}),
        (aws_lambda.delete_function, {"FunctionName": name}),
    ]:
        assert refusal(call, **options) == not_found
    for qualifier in ("1", "live", "$LATEST"):
        assert refusal(aws_lambda.get_function, FunctionName=name, Qualifier=qualifier) == (
            "ResourceNotFoundException",
            404,
            f"Function not found: {arn}:{qualifier}",
        )
    again = create_python(aws_lambda, name, ECHO)
    assert again["Version"] == "$LATEST"
    got = aws_lambda.get_function(FunctionName=name)
    assert got.keys().isdisjoint({"Tags", "Concurrency"})
    assert aws_lambda.list_aliases(FunctionName=name)["Aliases"] == []


def test_the_code_of_a_custom_runtime_needs_no_interpreter(aws_lambda: Any, unique: Any) -> None:
    created = create_python(aws_lambda, unique(), ECHO, Runtime="provided.al2023", Handler="anything")
    assert created["Runtime"] == "provided.al2023"
    assert "RuntimeVersionConfig" not in created


@pytest.mark.parametrize("field", ["value", "handler"])
def test_what_no_process_can_be_given_is_refused(aws_lambda: Any, function: str, field: str) -> None:
    options: dict[str, Any] = {"Handler": "app\0.handler"}
    if field == "value":
        options = {"Environment": {"Variables": {"KEY": "a\0b"}}}
    with pytest.raises(ClientError, match="null character") as caught:
        aws_lambda.update_function_configuration(FunctionName=function, **options)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
