"""What people get wrong with the rest of the Lambda API, and how AWS words it: code, status and message.

URLs, permissions, layers, provisioned concurrency, aliases, signing, keys, tags and configurations. The messages are
those of AWS's references and of users' reports; where lambdad does not have something yet, its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from api_calls import Refusal, refusal, send
from daemons import ROLE, Daemon, have_python, zip_of

ACCOUNT, OTHER_ACCOUNT, REGION = "271828182845", "314159265358", "us-east-1"
NAME = "likely"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"
LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{NAME}"
SIGNING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-0123456789abcdef0"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}"
REVISION = "00000000-0000-0000-0000-000000000000"
HANDLER = """
def handler(event, context):
    return event
"""
ZIP = zip_of({"app.py": HANDLER})

INVALID = "InvalidParameterValueException", 400
ABSENT = "ResourceNotFoundException", 404
CONFLICT = "ResourceConflictException", 409
DENIED = "AccessDeniedException", 403
STALE = "PreconditionFailedException", 412
NO_FUNCTION = f"Function not found: {FUNCTION}"
NO_ALIAS = f"Cannot find alias arn: {FUNCTION}:gone"
NO_RESOURCE = "The resource you requested does not exist."
NO_POLICY = "No policy is associated with the given resource."
ONLY_FUNCTIONS = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)

Case = tuple[str, dict[str, Any], tuple[str, int], str]


@pytest.fixture(scope="module")
def daemon(shared_daemon: Daemon) -> Iterator[Daemon]:
    """The shared daemon; in an account of its own a function with two versions, an alias, a URL, a layer, a queue."""
    said = len(shared_daemon.stderr())
    functions = shared_daemon.client("lambda", account_id=ACCOUNT)
    have_python(functions, NAME, HANDLER)
    functions.publish_version(FunctionName=NAME)
    functions.update_function_configuration(FunctionName=NAME, Description="second")
    functions.publish_version(FunctionName=NAME)
    functions.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1")
    functions.create_alias(FunctionName=NAME, Name="ready", FunctionVersion="2")
    functions.put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=2)
    functions.put_provisioned_concurrency_config(
        FunctionName=NAME, Qualifier="ready", ProvisionedConcurrentExecutions=1
    )
    functions.create_function_url_config(FunctionName=NAME, AuthType="NONE")
    functions.add_permission(**permission(StatementId="there"))
    functions.publish_layer_version(LayerName=NAME, Content={"ZipFile": ZIP})
    functions.publish_layer_version(LayerName=NAME, Content={"ZipFile": ZIP})
    shared_daemon.client("sqs", account_id=ACCOUNT).create_queue(QueueName=NAME)
    yield shared_daemon
    assert "Traceback" not in shared_daemon.stderr()[said:]


@pytest.fixture(scope="module")
def aws_lambda(daemon: Daemon) -> Any:
    """A client that sends what the model does not allow, too, as clients in other languages do."""
    return daemon.client("lambda", account_id=ACCOUNT, parameter_validation=False)


def names(cases: list[Case]) -> list[str]:
    return [f"{case[0]}-{number}" for number, case in enumerate(cases)]


def function(**changed: Any) -> dict[str, Any]:
    return {
        "FunctionName": f"{NAME}-new",
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": ZIP},
        **changed,
    }


def on(name: str = NAME, **more: Any) -> dict[str, Any]:
    return {"FunctionName": name, **more}


def permission(**changed: Any) -> dict[str, Any]:
    return on(
        **{"StatementId": "new", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com", **changed},
    )


def not_authorized(operation: str, resource: str) -> str:
    return (
        f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:{operation} on resource: {resource} "
        f"because no resource-based policy allows the lambda:{operation} action"
    )


# https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunctionUrlConfig.html
URLS: list[Case] = [
    ("create_function_url_config", on("gone", AuthType="NONE"), ABSENT, "Function does not exist"),
    ("create_function_url_config", on(AuthType="NONE", Qualifier="gone"), ABSENT, "Function does not exist"),
    (
        "create_function_url_config",
        on(AuthType="AWS_IAM"),
        CONFLICT,
        f"Failed to create function url config for [functionArn = {FUNCTION}]. "
        "Error message:  FunctionUrlConfig exists for this Lambda function",
    ),
    ("get_function_url_config", on(Qualifier="live"), ABSENT, NO_RESOURCE),
    ("update_function_url_config", on(Qualifier="live", AuthType="NONE"), ABSENT, NO_RESOURCE),
    ("delete_function_url_config", on(Qualifier="live"), ABSENT, NO_RESOURCE),
    ("list_function_url_configs", on("gone"), ABSENT, "Function does not exist"),
    ("list_function_url_configs", on(Marker="x"), INVALID, "Invalid marker"),
    *(
        (
            "update_function_url_config",
            on(Cors={"AllowMethods": [method]}),
            INVALID,
            f"{method} is not an allowed method. "
            "You can use GET, PUT, POST, DELETE, HEAD, PATCH, and the wildcard character (*).",
        )
        for method in ("FETCH", "get")
    ),
]

# https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html and API_PutResourcePolicy.html
BAD_PRINCIPAL = "The provided principal was invalid. Please check the principal and try again."
POLICY_CHANGED = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetPolicy API to retrieve the latest Revision Id"
)
ALLOW = {
    "Effect": "Allow",
    "Principal": {"AWS": OTHER_ACCOUNT},
    "Action": "lambda:InvokeFunction",
    "Resource": FUNCTION,
}


def put_policy(policy: Any, resource: str = FUNCTION) -> dict[str, Any]:
    return {"ResourceArn": resource, "Policy": policy if isinstance(policy, str) else json.dumps(policy)}


def policy(**changed: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{**ALLOW, **changed}]}


def is_invalid(reason: str) -> str:
    return f"The provided policy document is invalid: {reason}."


PERMISSIONS: list[Case] = [
    (
        "add_permission",
        permission(StatementId="there"),
        CONFLICT,
        "The statement id (there) provided already exists. "
        "Please provide a new statement id, or remove the existing statement.",
    ),
    ("add_permission", permission(Principal="s3"), INVALID, BAD_PRINCIPAL),
    ("add_permission", permission(Principal="12345"), INVALID, BAD_PRINCIPAL),
    ("add_permission", permission(Principal="arn:aws:iam::123:root"), INVALID, BAD_PRINCIPAL),
    (
        "add_permission",
        permission(FunctionUrlAuthType="NONE", Principal="*"),
        INVALID,
        "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action",
    ),
    (
        "add_permission",
        permission(Qualifier="$LATEST"),
        INVALID,
        "We currently do not support adding policies for $LATEST.",
    ),
    ("add_permission", permission(Qualifier="77"), ABSENT, f"{NO_FUNCTION}:77"),
    ("add_permission", permission(Qualifier="gone"), ABSENT, NO_ALIAS),
    ("add_permission", permission(FunctionName=f"{NAME}-gone"), ABSENT, f"{NO_FUNCTION}-gone"),
    ("add_permission", permission(RevisionId=REVISION), STALE, POLICY_CHANGED),
    ("remove_permission", on(StatementId="gone"), ABSENT, "Statement gone is not found in resource policy."),
    ("remove_permission", on(StatementId="there", RevisionId=REVISION), STALE, POLICY_CHANGED),
    ("remove_permission", on(StatementId="there", Qualifier="live"), ABSENT, NO_POLICY),
    ("get_policy", on(Qualifier="live"), ABSENT, NO_RESOURCE),
    ("put_resource_policy", put_policy("no JSON"), INVALID, is_invalid("it is not JSON")),
    ("put_resource_policy", put_policy({}), INVALID, is_invalid("it has no statement")),
    (
        "put_resource_policy",
        put_policy(policy(Effect="allow")),
        INVALID,
        is_invalid("Effect must be Allow or Deny"),
    ),
    (
        "put_resource_policy",
        put_policy(policy(Principal="me")),
        INVALID,
        is_invalid('Principal must be "*", or name principals as AWS or Service'),
    ),
    (
        "put_resource_policy",
        put_policy(policy(Condition={"StringEqual": {"aws:SourceAccount": ACCOUNT}})),
        INVALID,
        is_invalid("the condition operator StringEqual is not supported"),
    ),
    (
        "put_resource_policy",
        put_policy(policy(Resource=f"{FUNCTION}-other")),
        INVALID,
        is_invalid(f"the resource {FUNCTION}-other is not {FUNCTION}, which the policy is for"),
    ),
    (
        "put_resource_policy",
        put_policy(policy(), FUNCTION.replace(ACCOUNT, OTHER_ACCOUNT)),
        DENIED,
        not_authorized("PutResourcePolicy", FUNCTION.replace(ACCOUNT, OTHER_ACCOUNT)),
    ),
    ("delete_resource_policy", {"ResourceArn": f"{FUNCTION}:1"}, ABSENT, NO_POLICY),
]

# https://docs.aws.amazon.com/lambda/latest/dg/adding-layers.html
NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


def layers(*arns: str) -> dict[str, Any]:
    return on(Layers=list(arns))


def grant(**changed: Any) -> dict[str, Any]:
    wanted = {"StatementId": "new", "Action": "lambda:GetLayerVersion", "Principal": OTHER_ACCOUNT}
    return {"LayerName": NAME, "VersionNumber": 1, **wanted, **changed}


ELSEWHERE = LAYER.replace(REGION, "eu-west-1")
FOREIGN = LAYER.replace(ACCOUNT, OTHER_ACCOUNT)
LAYERS: list[Case] = [
    ("publish_layer_version", {"LayerName": NAME, "Content": {"ZipFile": b"no zip"}}, INVALID, NOT_A_ZIP),
    (
        "publish_layer_version",
        {"LayerName": NAME, "Content": {}},
        INVALID,
        "Please provide a source for your layer content.",
    ),
    (
        "publish_layer_version",
        {"LayerName": NAME, "Content": {"S3Bucket": "no-such-bucket", "S3Key": "layer.zip"}},
        INVALID,
        "Error occurred while GetObject. S3 Error Code: NoSuchBucket. "
        "S3 Error Message: The specified bucket does not exist",
    ),
    (
        "publish_layer_version",
        {"LayerName": FOREIGN, "Content": {"ZipFile": ZIP}},
        DENIED,
        not_authorized("PublishLayerVersion", FOREIGN),
    ),
    ("get_layer_version", {"LayerName": NAME, "VersionNumber": 9}, ABSENT, NO_RESOURCE),
    ("get_layer_version", {"LayerName": "gone", "VersionNumber": 1}, ABSENT, NO_RESOURCE),
    (
        "get_layer_version",
        {"LayerName": NAME, "VersionNumber": 0},
        INVALID,
        "Layer Version Cannot be less than 1.",
    ),
    ("get_layer_version_by_arn", {"Arn": f"{LAYER}:9"}, ABSENT, NO_RESOURCE),
    (
        "get_layer_version_by_arn",
        {"Arn": f"{FOREIGN}:1"},
        DENIED,
        not_authorized("GetLayerVersion", f"{FOREIGN}:1"),
    ),
    ("get_layer_version_policy", {"LayerName": NAME, "VersionNumber": 1}, ABSENT, NO_POLICY),
    ("add_layer_version_permission", grant(VersionNumber=9), ABSENT, f"Layer version {LAYER}:9 does not exist."),
    (
        "update_function_configuration",
        layers(f"{LAYER}:9"),
        INVALID,
        f"Layer version {LAYER}:9 does not exist.",
    ),
    (
        "update_function_configuration",
        layers(f"{LAYER}:1", f"{LAYER}:2"),
        INVALID,
        "Two different versions of the same layer are not allowed to be referenced in the same function. "
        f"{LAYER}:1 and {LAYER}:2 are versions of the same layer.",
    ),
    (
        "update_function_configuration",
        layers(*(f"{LAYER}-{number}:1" for number in range(6))),
        INVALID,
        "Cannot reference more than 5 layers.",
    ),
    (
        "update_function_configuration",
        layers(f"{ELSEWHERE}:1"),
        INVALID,
        f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}.",
    ),
    (
        "update_function_configuration",
        layers(f"{FOREIGN}:1"),
        DENIED,
        not_authorized("GetLayerVersion", f"{FOREIGN}:1"),
    ),
]

# https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html and configuration-aliases.html


def provision(qualifier: str, count: int = 1) -> dict[str, Any]:
    return on(Qualifier=qualifier, ProvisionedConcurrentExecutions=count)


def weights(**versions: float) -> dict[str, Any]:
    return on(Name="live", RoutingConfig={"AdditionalVersionWeights": versions})


VERSIONS: list[Case] = [
    (
        "put_provisioned_concurrency_config",
        provision("$LATEST"),
        INVALID,
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
    ),
    ("put_provisioned_concurrency_config", provision("gone"), ABSENT, NO_ALIAS),
    ("put_provisioned_concurrency_config", provision("77"), ABSENT, f"{NO_FUNCTION}:77"),
    (
        "put_provisioned_concurrency_config",
        provision("2"),
        CONFLICT,
        "Version is pointed by a Provisioned Concurrency alias",
    ),
    (
        "put_provisioned_concurrency_config",
        provision("live", 3),
        INVALID,
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
    ),
    (
        "get_provisioned_concurrency_config",
        on(Qualifier="live"),
        ("ProvisionedConcurrencyConfigNotFoundException", 404),
        "No Provisioned Concurrency Config found for this function",
    ),
    (
        "put_function_concurrency",
        on(ReservedConcurrentExecutions=0),
        INVALID,
        "ReservedConcurrentExecutions  0 should not be lower than function's total provisioned concurrency [1].",
    ),
    (
        "put_function_concurrency",
        on(ReservedConcurrentExecutions=901),
        INVALID,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
        "below its minimum value of [100].",
    ),
    ("put_function_concurrency", on(f"{NAME}:live", ReservedConcurrentExecutions=1), INVALID, ONLY_FUNCTIONS),
    ("publish_version", on(f"{NAME}:1"), INVALID, ONLY_FUNCTIONS),
    ("create_alias", on(Name="new", FunctionVersion="77"), ABSENT, f"{NO_FUNCTION}:77"),
    (
        "create_alias",
        on(Name="live", FunctionVersion="1"),
        CONFLICT,
        f"Alias already exists: {FUNCTION}:live",
    ),
    ("update_alias", on(Name="gone", FunctionVersion="1"), ABSENT, NO_ALIAS),
    ("update_alias", weights(**{"77": 0.5}), ABSENT, f"{NO_FUNCTION}:77"),
    (
        "update_alias",
        weights(**{"1": 0.1, "2": 0.1}),
        INVALID,
        "Number of items in AdditionalVersionWeights cannot be greater than 1.",
    ),
    (
        "update_alias",
        on(Name="live", RevisionId=REVISION),
        STALE,
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    ),
    ("delete_function", on(Qualifier="live"), INVALID, "Deletion of aliases is not currently supported."),
    (
        "delete_function",
        on(Qualifier="$LATEST"),
        INVALID,
        "$LATEST version cannot be deleted without deleting the function.",
    ),
    (
        "delete_function",
        on(Qualifier="1"),
        CONFLICT,
        "Unable to delete version because the following aliases reference it: [live]",
    ),
    ("update_function_configuration", on(f"{NAME}:1", Timeout=4), INVALID, ONLY_FUNCTIONS),
    (
        "get_function",
        on(f"{NAME}:live", Qualifier="1"),
        INVALID,
        "The derived qualifier from the function name does not match the specified qualifier.",
    ),
    (
        "invoke",
        on(TenantId="blue"),
        INVALID,
        "The invoked function is not enabled with tenancy configuration. "
        "Remove the tenant ID from your request and try again.",
    ),
    (
        "invoke_with_response_stream",
        on(TenantId="blue"),
        INVALID,
        "The invoked function is not enabled with tenancy configuration. "
        "Remove the tenant ID from your request and try again.",
    ),
    ("invoke", on(DurableExecutionName="one"), INVALID, "DurableExecutionName is not supported by lambdad yet."),
]

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html and configuration-tags.html
NO_SIGNING_CONFIG = f"The Lambda code signing configuration {SIGNING} can not be found."
TOO_MANY_TAGS = {f"key-{number}": "" for number in range(51)}
THE_REST: list[Case] = [
    *(
        (f"{verb}_code_signing_config", {"CodeSigningConfigArn": SIGNING}, ABSENT, NO_SIGNING_CONFIG)
        for verb in ("get", "update", "delete")
    ),
    ("list_functions_by_code_signing_config", {"CodeSigningConfigArn": SIGNING}, ABSENT, NO_SIGNING_CONFIG),
    (
        "put_function_code_signing_config",
        on(CodeSigningConfigArn=SIGNING),
        ("CodeSigningConfigNotFoundException", 404),
        "The code signing configuration cannot be found. "
        f"Check that the provided configuration is not deleted: {SIGNING}.",
    ),
    ("get_function_code_signing_config", on(f"{NAME}-gone"), ABSENT, f"{NO_FUNCTION}-gone"),
    (
        "update_function_configuration",
        on(KMSKeyArn=KEY, Environment={"Variables": {"NAME": "value"}}),
        INVALID,
        "Lambda was unable to configure access to your environment variables because the KMS key is invalid for "
        "CreateGrant. Please check your KMS key settings. KMS Exception: NotFoundException KMS Message: "
        f"Key '{KEY}' does not exist",
    ),
    ("tag_resource", {"Resource": f"{FUNCTION}-gone", "Tags": {"a": "b"}}, ABSENT, f"{NO_FUNCTION}-gone"),
    (
        "tag_resource",
        {"Resource": f"{FUNCTION}:live", "Tags": {"a": "b"}},
        INVALID,
        "Tags on function aliases and versions are not supported. "
        "Please specify either a function name or an unqualified function ARN.",
    ),
    (
        "tag_resource",
        {"Resource": FUNCTION, "Tags": {"aws:a": "b"}},
        INVALID,
        "Tag keys starting with 'aws:' are reserved for internal use.",
    ),
    (
        "tag_resource",
        {"Resource": FUNCTION, "Tags": TOO_MANY_TAGS},
        INVALID,
        "Number of tags exceeds resource tag limit.",
    ),
    (
        "list_tags",
        {"Resource": FUNCTION.replace(REGION, "eu-west-1")},
        ABSENT,
        "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
    ),
    (
        "put_runtime_management_config",
        on(UpdateRuntimeOn="Manual"),
        INVALID,
        "RuntimeVersionArn must be specified when UpdateRuntimeOn is set to Manual.",
    ),
    (
        "put_runtime_management_config",
        on(UpdateRuntimeOn="Auto", RuntimeVersionArn=f"arn:aws:lambda:{REGION}::runtime:python-3.11.7"),
        INVALID,
        "RuntimeVersionArn can only be specified when UpdateRuntimeOn is set to Manual.",
    ),
    (
        "put_function_recursion_config",
        on(f"{NAME}-gone", RecursiveLoop="Allow"),
        ABSENT,
        f"{NO_FUNCTION}-gone",
    ),
    (
        "update_function_configuration",
        on(LoggingConfig={"ApplicationLogLevel": "DEBUG"}),
        INVALID,
        "To set ApplicationLogLevel or SystemLogLevel, set LogFormat to JSON.",
    ),
    (
        "put_function_event_invoke_config",
        on(),
        INVALID,
        "You must specify at least one of error handling or destination setting.",
    ),
    (
        "update_function_event_invoke_config",
        on(MaximumRetryAttempts=1),
        ABSENT,
        f"The function {FUNCTION}:$LATEST doesn't have an EventInvokeConfig",
    ),
    (
        "create_event_source_mapping",
        on(EventSourceArn=f"{QUEUE}-gone"),
        INVALID,
        "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
        "SQS Error Message: The specified queue does not exist.",
    ),
    (
        "create_event_source_mapping",
        on(EventSourceArn=QUEUE, BatchSize=11),
        INVALID,
        "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
    ),
    (
        "create_event_source_mapping",
        on(EventSourceArn=QUEUE, FilterCriteria={"Filters": [{"Pattern": '{"body": "text"}'}]}),
        INVALID,
        "Invalid filter pattern definition.",
    ),
    (
        "create_event_source_mapping",
        on(EventSourceArn=QUEUE, StartingPosition="LATEST"),
        INVALID,
        f"Unsupported starting position for arn type: {QUEUE}",
    ),
    ("create_event_source_mapping", on("gone", EventSourceArn=QUEUE), INVALID, "Function does not exist"),
    ("delete_event_source_mapping", {"UUID": REVISION}, ABSENT, NO_RESOURCE),
]

CASES = [*URLS, *PERMISSIONS, *LAYERS, *VERSIONS, *THE_REST]


@pytest.mark.parametrize(("operation", "parameters", "answer", "text"), CASES, ids=names(CASES))
def test_what_lambda_says(
    aws_lambda: Any, operation: str, parameters: Mapping[str, Any], answer: tuple[str, int], text: str
) -> None:
    assert refusal(getattr(aws_lambda, operation), **parameters) == Refusal(*answer, text)


# What the model alone refuses, in the words of its validator.
@pytest.mark.parametrize(
    ("operation", "parameters", "value", "member"),
    [
        ("create_function_url_config", on(AuthType="IAM"), "'IAM'", "authType"),
        ("create_function_url_config", on(), "null", "authType"),
        ("create_function_url_config", on(AuthType="NONE", Qualifier="1"), "'1'", "qualifier"),
        ("create_function_url_config", on(AuthType="NONE", Qualifier="$LATEST"), "'$LATEST'", "qualifier"),
        ("update_function_url_config", on(InvokeMode="STREAM"), "'STREAM'", "invokeMode"),
        ("update_function_url_config", on(Cors={"AllowMethods": ["OPTIONS"]}), "'[OPTIONS]'", "cors.allowMethods"),
        ("update_function_url_config", on(Cors={"MaxAge": 100_000}), "'100000'", "cors.maxAge"),
        ("add_permission", permission(Action="InvokeFunction"), "'InvokeFunction'", "action"),
        ("add_permission", permission(StatementId="a b"), "'a b'", "statementId"),
        ("add_permission", permission(SourceArn="bucket"), "'bucket'", "sourceArn"),
        ("add_permission", permission(SourceAccount="1"), "'1'", "sourceAccount"),
        ("update_function_configuration", layers(LAYER), f"'[{LAYER}]'", "layers"),
        ("add_layer_version_permission", grant(Action="lambda:*"), "'lambda:*'", "action"),
        ("add_layer_version_permission", grant(Principal="me"), "'me'", "principal"),
        ("put_provisioned_concurrency_config", provision("live", 0), "'0'", "provisionedConcurrentExecutions"),
        ("create_alias", on(Name="1", FunctionVersion="1"), "'1'", "name"),
        ("create_alias", on(Name="new", FunctionVersion="live"), "'live'", "functionVersion"),
        ("update_alias", weights(**{"2": 1.5}), "'{2=1.5}'", "routingConfig.additionalVersionWeights"),
        ("put_runtime_management_config", on(UpdateRuntimeOn="Never"), "'Never'", "updateRuntimeOn"),
        ("put_function_recursion_config", on(RecursiveLoop="Stop"), "'Stop'", "recursiveLoop"),
        ("update_function_configuration", on(KMSKeyArn="alias/mine"), "'alias/mine'", "kMSKeyArn"),
        (
            "create_code_signing_config",
            {"AllowedPublishers": {}},
            "null",
            "allowedPublishers.signingProfileVersionArns",
        ),
        ("tag_resource", {"Resource": NAME, "Tags": {}}, f"'{NAME}'", "resource"),
        ("create_event_source_mapping", on(EventSourceArn="queue"), "'queue'", "eventSourceArn"),
        ("list_functions", {"FunctionVersion": "all"}, "'all'", "functionVersion"),
    ],
)
def test_what_the_model_does_not_allow(
    aws_lambda: Any, operation: str, parameters: Mapping[str, Any], value: str, member: str
) -> None:
    code, status, text = refusal(getattr(aws_lambda, operation), **parameters)
    assert (code, status) == ("ValidationException", 400)
    begin = f"1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: "
    assert text.startswith(begin)


@pytest.mark.parametrize(
    ("method", "target", "body", "text"),
    [
        ("POST", f"/2021-10-31/functions/{NAME}/url", b"{AuthType: NONE}", "Unexpected token received from parser"),
        (
            "POST",
            f"/2021-10-31/functions/{NAME}/url",
            b'{"AuthType": 1}',
            "NUMBER_VALUE can not be converted to a String",
        ),
        (
            "PUT",
            f"/2019-09-30/functions/{NAME}/provisioned-concurrency?Qualifier=live",
            b'{"ProvisionedConcurrentExecutions": "two"}',
            "STRING_VALUE can not be converted to an Integer",
        ),
        ("GET", f"/2018-10-31/layers/{NAME}/versions/one", None, "STRING_VALUE can not be converted to a Long"),
        (
            "POST",
            f"/2018-10-31/layers/{NAME}/versions",
            b'{"Content": {"ZipFile": "***"}}',
            "STRING_VALUE can not be converted to a Blob: it is not base64",
        ),
    ],
)
def test_what_is_no_document(daemon: Daemon, method: str, target: str, body: bytes | None, text: str) -> None:
    answer = send(daemon, method, target, body, account_id=ACCOUNT)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "SerializationException")
    assert answer.document["message"] == text


# Settings that have no effect here yet, and what is the same as leaving them out: Terraform, SAM, CDK and Serverless
# send these for every function.
NOT_YET = {
    "CapacityProviderConfig": {
        "LambdaManagedInstancesCapacityProviderConfig": {
            "CapacityProviderArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:x"
        }
    },
    "DurableConfig": {"ExecutionTimeout": 60},
    "FileSystemConfigs": [
        {
            "Arn": f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-0123456789abcdef0",
            "LocalMountPath": "/mnt/files",
        }
    ],
    "ImageConfig": {"Command": ["app.handler"]},
    "SnapStart": {"ApplyOn": "PublishedVersions"},
    "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
}
NOTHING: dict[str, Any] = {
    "DeadLetterConfig": {"TargetArn": ""},
    "Description": "",
    "DurableConfig": {},
    "Environment": {"Variables": {}},
    "FileSystemConfigs": [],
    "ImageConfig": {"Command": [], "EntryPoint": [], "WorkingDirectory": ""},
    "KMSKeyArn": "",
    "Layers": [],
    "LoggingConfig": {},
    "SnapStart": {"ApplyOn": "None"},
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": [], "Ipv6AllowedForDualStack": False},
}


@pytest.mark.parametrize("setting", NOT_YET)
def test_what_has_no_effect_yet_is_refused_and_not_stored(aws_lambda: Any, setting: str) -> None:
    wanted = {setting: NOT_YET[setting]}
    expected = Refusal(*INVALID, f"{setting} is not supported by lambdad yet.")
    assert refusal(aws_lambda.create_function, **function(**wanted)) == expected
    assert refusal(aws_lambda.get_function, FunctionName=f"{NAME}-new").code == "ResourceNotFoundException"
    before = aws_lambda.get_function_configuration(FunctionName=NAME)
    assert refusal(aws_lambda.update_function_configuration, FunctionName=NAME, **wanted) == expected
    after = aws_lambda.get_function_configuration(FunctionName=NAME)
    assert {**after, "ResponseMetadata": None} == {**before, "ResponseMetadata": None}


def test_images_and_tenants_are_refused(aws_lambda: Any) -> None:
    """These are settings of CreateFunction alone."""
    image = function(PackageType="Image", Code={"ImageUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/x:latest"})
    expected = Refusal(*INVALID, "PackageType Image is not supported by lambdad yet.")
    assert refusal(aws_lambda.create_function, **image) == expected
    tenants = function(TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    expected = Refusal(*INVALID, "TenancyConfig is not supported by lambdad yet.")
    assert refusal(aws_lambda.create_function, **tenants) == expected


def test_empty_settings_ask_for_nothing(aws_lambda: Any) -> None:
    plain = aws_lambda.create_function(**function(FunctionName=f"{NAME}-plain"))
    created = aws_lambda.create_function(**function(FunctionName=f"{NAME}-empty", **NOTHING))
    own = {"FunctionArn", "FunctionName", "LastModified", "LoggingConfig", "ResponseMetadata", "RevisionId"}
    assert {name: value for name, value in created.items() if name not in own} == {
        name: value for name, value in plain.items() if name not in own
    }
    assert created["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{NAME}-empty"}
    updated = aws_lambda.update_function_configuration(FunctionName=f"{NAME}-empty", **NOTHING)
    own = {"LastModified", "ResponseMetadata", "RevisionId"}
    assert {name: value for name, value in updated.items() if name not in own} == {
        name: value for name, value in created.items() if name not in own
    }
