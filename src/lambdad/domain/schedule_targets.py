"""What a schedule calls when it is fired: templated targets, universal ones, and what they are sent.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets.html
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from lambdad.domain import quotas
from lambdad.domain.arns import parse_foreign_name
from lambdad.domain.dispatches import LAMBDA, SQS, DeadLetter, Dispatch, DispatchPolicy
from lambdad.domain.errors import ValidationException
from lambdad.domain.neighbour_services import SERVICES
from lambdad.domain.scheduler import ScheduleKey, ScheduleRecord, Target, utc_text

INPUT_BYTES: Final = quotas.ASYNC_REQUEST_BYTES
_DEAD_LETTER_BYTES: Final = INPUT_BYTES - 8 * 1024
"""A message holds 256 KB with its attributes, so this much of the input."""
_ECHOED_ERROR: Final = ("ERROR_CODE", "ERROR_MESSAGE", "EXHAUSTED_RETRY_CONDITION", "RETRY_ATTEMPTS")
_ACTIONS_THAT_READ: Final = re.compile(
    "get|describe|list|poll|receive|search|scan|query|select|read|lookup|discover|validate|batchGet|batchDescribe|"
    "batchRead|transactGet|adminGet|adminList|testMigration|retrieve|testConnection|translateDocument|isAuthorized|"
    "invokeModel"
)
"""https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html#unsupported-api-actions"""

_UNIVERSAL: Final = re.compile(
    r"arn:aws[a-z-]*:scheduler:::aws-sdk:(?P<service>[a-z0-9]+):(?P<action>[a-z][a-zA-Z0-9]*)"
)
_TEMPLATED: Final = re.compile(r"arn:aws[a-z-]*:(?P<service>[a-z-]+):(?P<region>[a-z0-9-]+):\d{12}:(?P<resource>.+)")
_RESOURCES: Final = {
    "lambda": re.compile(r"function:[a-zA-Z0-9_-]{1,64}(:(\$LATEST|[a-zA-Z0-9_-]{1,128}))?"),
    "sqs": re.compile(r"[a-zA-Z0-9_-]{1,80}(\.fifo)?"),
    "sns": re.compile(r"[a-zA-Z0-9_-]{1,256}(\.fifo)?"),
    "events": re.compile(r"event-bus/[a-zA-Z0-9._/-]{1,256}"),
    "states": re.compile(r"stateMachine:[a-zA-Z0-9_-]{1,80}(:[a-zA-Z0-9_-]{1,80})?"),
    "kinesis": re.compile(r"stream/[a-zA-Z0-9_.-]{1,128}"),
    "firehose": re.compile(r"deliverystream/[a-zA-Z0-9_.-]{1,64}"),
}
_WANTS_JSON: Final = ("lambda", "states", "events")
_STEP_FUNCTIONS: Final = "stepfunctions"
_SEND: Final = "SendMessage"
_QUEUE_URL: Final = re.compile(r"https?://[^/]+/(?:.*/)?(?P<account>\d{12})/(?P<name>[a-zA-Z0-9_.-]+)")
_SDK_NAMES: Final = {
    "cloudwatchlogs": "logs",
    "cognitoidentity": "cognito-identity",
    "cognitoidentityprovider": "cognito-idp",
    "elasticloadbalancing": "elb",
    "elasticloadbalancingv2": "elbv2",
    "eventbridge": "events",
    "iotdataplane": "iot-data",
    "sfn": _STEP_FUNCTIONS,
}
"""The SDKs' identifiers of services where botocore has another name."""


def universal(arn: str) -> tuple[str, str] | None:
    """The service, by botocore's name, and the action of a universal target; None for another target.

    Raises ValidationException for a service that lambdad does not know, and for an action that only reads.
    """
    if ":aws-sdk:" not in arn:
        return None
    match = _UNIVERSAL.fullmatch(arn)
    if match is None:
        raise ValidationException("Provided Arn is not in correct format.")
    named, action = match["service"], match["action"]
    service = _SDK_NAMES.get(named, named)
    if service not in SERVICES or named in _SDK_NAMES.values():
        raise _not_supported(named)
    if _ACTIONS_THAT_READ.match(action) or (service == LAMBDA and action != "invoke"):
        raise ValidationException(f"{action} is not a supported api for the service {named}.")
    return service, action


def service_of(arn: str) -> str:
    """The service that a target belongs to, by botocore's name. Raises ValidationException for one that cannot be."""
    called = universal(arn)
    if called is not None:
        return called[0]
    match = _TEMPLATED.fullmatch(arn)
    if match is None:
        raise ValidationException("Provided Arn is not in correct format.")
    service = match["service"]
    if service not in _RESOURCES:
        raise _not_supported(service)
    if _RESOURCES[service].fullmatch(match["resource"]) is None:
        raise ValidationException("Provided Arn is not in correct format.")
    return _STEP_FUNCTIONS if service == "states" else service


def check(target: Target) -> str:
    """Check a target and what goes with it; returns its service. Raises ValidationException."""
    service = service_of(target.arn)
    kind = "universal" if universal(target.arn) else "states" if service == _STEP_FUNCTIONS else service
    for parameters, given, fits in (
        ("EventBridgeParameters", target.detail_type is not None, "events"),
        ("KinesisParameters", target.partition_key is not None, "kinesis"),
        ("SqsParameters", target.has_sqs_parameters, "sqs"),
    ):
        if given and kind != fits:
            raise ValidationException(f"{parameters} is not supported for the target {target.arn}.")
        if not given and kind == fits and fits != "sqs":
            raise ValidationException(f"{parameters} is required for the target {target.arn}.")
    if kind == "sqs" and target.arn.endswith(".fifo") != (target.message_group_id is not None):
        raise ValidationException("MessageGroupId is required for a FIFO queue, and only for one.")
    if kind == "universal" and service == LAMBDA:
        _check_invocation(json.loads(target.universal_request))
    if target.input is None:
        return service
    try:
        size = len(target.input.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        raise ValidationException("The Input you specify is not Unicode text.") from None
    if size > INPUT_BYTES:
        raise ValidationException(f"The Input must be smaller than {INPUT_BYTES} bytes.")
    if kind in _WANTS_JSON:
        json_of(target.input)
    return service


def json_of(text: str) -> Any:
    """Raises ValidationException for an input that is not JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValidationException("The Input you specify is not well-formed JSON.") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_invocation(request: Mapping[str, Any]) -> None:
    """lambda:invoke: everything that would have no effect is refused."""
    if not isinstance(request.get("FunctionName"), str) or not isinstance(request.get("Payload", ""), str):
        raise ValidationException("Invalid RequestJson provided. Reason: FunctionName and Payload are strings.")
    if request.get("InvocationType") != "Event":
        raise ValidationException(
            "Invalid RequestJson provided. Reason: lambdad runs functions for schedules asynchronously, "
            "so that the InvocationType has to be Event."
        )
    unknown = set(request) - {"FunctionName", "Qualifier", "InvocationType", "Payload"}
    if unknown:
        raise ValidationException(f"Invalid RequestJson provided. Reason: {min(unknown)} is not supported.")


def _not_supported(service: str) -> ValidationException:
    return ValidationException(f"{service} is not a supported service for a target.")


def execution_id(key: ScheduleKey, scheduled_ms: int) -> str:
    """What tells one occurrence from all others; the same whenever it is asked for."""
    return hashlib.sha256(f"{key.arn} {scheduled_ms}".encode()).hexdigest()[:16]


def dispatch(record: ScheduleRecord, scheduled_ms: int) -> Dispatch:
    """What an occurrence of a schedule sends."""
    key, target = record.key, record.settings.target
    execution = execution_id(key, scheduled_ms)
    account_id, region = key.group.account_id, key.group.region
    arn, called = target.arn, universal(target.arn)
    if called is not None:
        text = _substituted(target.universal_request, record, scheduled_ms, execution)
        service, operation = called[0], target.universal_operation
        parameters: Mapping[str, Any] = json.loads(text)
        if service == LAMBDA:
            function = parse_foreign_name(parameters["FunctionName"], account_id, region, parameters.get("Qualifier"))
            arn, operation, parameters = function.arn, "", {"Payload": parameters.get("Payload", "{}")}
        elif service == SQS:
            arn, parameters = _queue(parameters, region)
    else:
        if target.input is None:
            text = _notification(record, scheduled_ms)
        else:
            text = _substituted(target.input, record, scheduled_ms, execution)
        region = arn.split(":")[3]
        service, operation, parameters = _templated(target, text, execution)
    return Dispatch(
        target=arn,
        service=service,
        operation=operation,
        parameters=parameters,
        source=key.arn,
        principal="",  # Scheduler acts as the target's role: no resource policy has to let it in
        account_id=account_id,
        region=region,
        policy=DispatchPolicy(target.max_attempts + 1, target.max_age_s * 1000),
        dead_letter=_dead_letter(record, scheduled_ms, execution, text),
    )


def _queue(parameters: Mapping[str, Any], region: str) -> tuple[str, Mapping[str, Any]]:
    """The queue that a QueueUrl names, and the parameters beside it: a dispatch finds the URL from the queue.

    Raises ValidationException, for the few operations that have no queue too.
    """
    match = _QUEUE_URL.fullmatch(str(parameters.get("QueueUrl")))
    if match is None:
        raise ValidationException("Invalid RequestJson provided. Reason: QueueUrl is not the URL of a queue.")
    arn = f"arn:aws:sqs:{region}:{match['account']}:{match['name']}"
    return arn, {name: value for name, value in parameters.items() if name != "QueueUrl"}


def _templated(target: Target, text: str, execution: str) -> tuple[str, str, Mapping[str, Any]]:
    """The service, operation and parameters of a templated target."""
    service = service_of(target.arn)
    match service:
        case "lambda":
            return service, "", {"Payload": text}
        case "sqs":
            group = {} if target.message_group_id is None else {"MessageGroupId": target.message_group_id}
            return SQS, _SEND, {"MessageBody": text, **group}
        case "sns":
            return service, "Publish", {"TopicArn": target.arn, "Message": text}
        case "events":
            entry = {
                "EventBusName": target.arn,
                "Source": target.event_source,
                "DetailType": target.detail_type,
                "Detail": text,
            }
            return service, "PutEvents", {"Entries": [entry]}
        case "kinesis":
            return service, "PutRecord", {"StreamARN": target.arn, "PartitionKey": target.partition_key, "Data": text}
        case "firehose":
            stream = target.arn.partition("/")[2]
            return service, "PutRecord", {"DeliveryStreamName": stream, "Record": {"Data": text}}
        case _:
            return service, "StartExecution", {"stateMachineArn": target.arn, "name": execution, "input": text}


def _substituted(text: str, record: ScheduleRecord, scheduled_ms: int, execution: str) -> str:
    """https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html"""
    for name, value in (
        ("schedule-arn", record.key.arn),
        ("scheduled-time", utc_text(scheduled_ms)),
        ("execution-id", execution),
        ("attempt-number", "1"),
    ):
        text = text.replace(f"<aws.scheduler.{name}>", value)
    return text


def _notification(record: ScheduleRecord, scheduled_ms: int) -> str:
    """What a target gets whose schedule has no input."""
    key = record.key
    return json.dumps(
        {
            "version": "0",
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{key.arn} {scheduled_ms}")),
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": key.group.account_id,
            "time": utc_text(scheduled_ms),
            "region": key.group.region,
            "resources": [key.arn],
            "detail": "{}",
        }
    )


def _dead_letter(record: ScheduleRecord, scheduled_ms: int, execution: str, text: str) -> DeadLetter | None:
    """https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html"""
    target = record.settings.target
    if target.dead_letter_arn is None:
        return None
    body = text.encode()
    kept = body[:_DEAD_LETTER_BYTES].decode(errors="ignore")
    told = {
        "EXECUTION_ID": execution,
        "IS_PAYLOAD_TRUNCATED": "true" if len(body) > _DEAD_LETTER_BYTES else "false",
        "SCHEDULED_TIME": utc_text(scheduled_ms),
        "SCHEDULE_ARN": record.key.arn,
        "TARGET_ARN": target.arn,
    }
    return DeadLetter(
        target.dead_letter_arn,
        kept,
        {name: {"DataType": "String", "StringValue": value} for name, value in told.items()},
        {name: name for name in _ECHOED_ERROR},
    )
