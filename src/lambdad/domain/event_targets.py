"""Targets of rules: what may be one, and the dispatch by which it gets an event.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-targets.html and
https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutTargets.html
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lambdad.domain.dispatches import LAMBDA, SQS, DeadLetter, Dispatch, DispatchPolicy
from lambdad.domain.errors import ServiceError, ValidationException
from lambdad.domain.event_buses import BusKey, Event, event_time
from lambdad.domain.input_transformers import (
    MISSING,
    InvalidTransformer,
    Transformer,
    parse_path,
    parse_transformer,
    to_json,
)

PRINCIPAL: Final = "events.amazonaws.com"
SNS: Final = "sns"
STEP_FUNCTIONS: Final = "stepfunctions"
LOGS: Final = "logs"
EVENTS: Final = "events"
KINESIS: Final = "kinesis"
FIREHOSE: Final = "firehose"

RETRY_ATTEMPTS: Final = 185
EVENT_AGE_S: Final = 24 * 3600
_MS: Final = 1000

_ARN: Final = re.compile(
    r"arn:aws[\w-]*:(?P<service>[a-z0-9-]+):(?P<region>[a-z0-9-]*):(?P<account>\d{12})?:(?P<rest>.+)"
)
_KINDS: Final = {
    "lambda": (LAMBDA, re.compile(r"function:[a-zA-Z0-9-_]+(?::(?:\$LATEST|[a-zA-Z0-9-_]+))?")),
    "sqs": (SQS, re.compile(r"[a-zA-Z0-9_-]{1,80}(?:\.fifo)?")),
    "sns": (SNS, re.compile(r"[a-zA-Z0-9_-]{1,256}")),
    "states": (STEP_FUNCTIONS, re.compile(r"stateMachine:[^:]+(?::[^:]+)?")),
    "logs": (LOGS, re.compile(r"log-group:(?P<group>[^:]+)(?::\*)?")),
    "events": (EVENTS, re.compile(r"event-bus/(?P<bus>[/._\-A-Za-z0-9]+)")),
    "kinesis": (KINESIS, re.compile(r"stream/[a-zA-Z0-9_.-]+")),
    "firehose": (FIREHOSE, re.compile(r"deliverystream/(?P<stream>[a-zA-Z0-9_.-]+)")),
}
"""Botocore's names of the services by those in ARNs, and what their resources are called."""
_ROLE_NEEDED: Final = frozenset({STEP_FUNCTIONS, KINESIS, FIREHOSE})
_FIFO: Final = ".fifo"
_PARAMETERS_OF: Final = {"SqsParameters": SQS, "KinesisParameters": KINESIS}
_PARAMETERS_OF_OTHERS: Final = (
    "RunCommandParameters",
    "EcsParameters",
    "BatchParameters",
    "HttpParameters",
    "RedshiftDataParameters",
    "SageMakerPipelineParameters",
    "AppSyncParameters",
)
_INPUTS: Final = ("Input", "InputPath", "InputTransformer")

RESOURCE_GONE: Final = "NO_RESOURCE", "The resource does not exist."
NOT_PERMITTED: Final = "NO_PERMISSIONS", "The resource does not let events of this account in."
THIRD_HOP: Final = "THIRD_ACCOUNT_HOP_DETECTED", "An event that has come from another bus is not sent to a third one."
_ERROR_ATTRIBUTES: Final = {
    name: name for name in ("ERROR_CODE", "ERROR_MESSAGE", "EXHAUSTED_RETRY_CONDITION", "RETRY_ATTEMPTS")
}


class UnsupportedTarget(ServiceError):
    """A target that cannot be served; PutTargets tells it as a failed entry."""

    code = "ValidationException"
    status = 400


@dataclass(frozen=True, slots=True)
class Target:
    """What PutTargets was given. `role_arn` is shown as it was put. Empty texts, and None, were not given."""

    id: str
    arn: str
    role_arn: str = ""
    input: str = ""
    input_path: str = ""
    input_template: str = ""
    input_paths: Mapping[str, str] = field(default_factory=dict)
    message_group_id: str = ""
    partition_key_path: str = ""
    dead_letter_arn: str = ""
    retry_attempts: int | None = None
    event_age_s: int | None = None

    @property
    def service(self) -> str:
        """Botocore's name of the service that the target is of."""
        return _service_of(self.arn)

    def log_group(self) -> tuple[str, str, str]:
        """The account, the region and the name of a log group that is the target."""
        match = _match(self.arn)
        return match["account"], match["region"], _resource(match)["group"]

    def bus(self) -> BusKey:
        """An event bus that is the target."""
        match = _match(self.arn)
        return BusKey(match["account"], match["region"], _resource(match)["bus"])

    @property
    def policy(self) -> DispatchPolicy:
        retries = RETRY_ATTEMPTS if self.retry_attempts is None else self.retry_attempts
        age_s = EVENT_AGE_S if self.event_age_s is None else self.event_age_s
        return DispatchPolicy(retries + 1, age_s * _MS)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to a target of a rule."""

    rule_arn: str
    rule_name: str
    owner: BusKey
    """The bus of the rule."""
    event: Event
    ingested_ms: int
    """When the event arrived."""
    text: str
    """The event as JSON."""


Sender = Callable[[Delivery], Dispatch]


def read_target(given: Mapping[str, Any], owner: BusKey) -> Target:
    """A target as a request has it, for a rule of this bus.

    Raises ValidationException, which refuses the whole request, and UnsupportedTarget for what cannot be served.
    """
    name, arn = given["Id"], given["Arn"]
    match = _ARN.fullmatch(arn)
    if match is None:
        raise _invalid_arn(arn)
    if match["service"] not in _KINDS:
        raise UnsupportedTarget(f"Targets of the service {match['service']} are not supported by lambdad.")
    service = _service_of(arn)
    others = [each for each in _PARAMETERS_OF_OTHERS if each in given]
    others += [each for each, owning in _PARAMETERS_OF.items() if each in given and owning != service]
    if others:
        raise ValidationException(f"Parameter(s) {', '.join(others)} not supported for target: {name}.")
    role_arn = given.get("RoleArn", "")
    if service in _ROLE_NEEDED and not role_arn:
        raise ValidationException(f"RoleArn is required for target {arn}.")
    if service == LOGS and (match["account"], match["region"]) != (owner.account_id, owner.region):
        raise UnsupportedTarget("A log group must be in the account and region of the rule.")
    group_id = given.get("SqsParameters", {}).get("MessageGroupId", "")
    if service == SQS and arn.endswith(_FIFO) != bool(group_id):
        if group_id:
            raise ValidationException(f"Parameter(s) SqsParameters not valid for target: {name}.")
        raise ValidationException(f"Parameter(s) SqsParameters must be specified for target: {name}.")
    transformer = given.get("InputTransformer", {})
    target = Target(
        id=name,
        arn=arn,
        role_arn=role_arn,
        input=given.get("Input", ""),
        input_path=given.get("InputPath", ""),
        input_template=transformer.get("InputTemplate", ""),
        input_paths=dict(transformer.get("InputPathsMap", {})),
        message_group_id=group_id,
        partition_key_path=given.get("KinesisParameters", {}).get("PartitionKeyPath", ""),
        dead_letter_arn=_dead_letter(given.get("DeadLetterConfig", {}).get("Arn", ""), name, owner),
        retry_attempts=given.get("RetryPolicy", {}).get("MaximumRetryAttempts"),
        event_age_s=given.get("RetryPolicy", {}).get("MaximumEventAgeInSeconds"),
    )
    _check_input(target, [each for each in _INPUTS if given.get(each)])
    return target


def shown_target(target: Target) -> dict[str, Any]:
    """A target as ListTargetsByRule shows it."""
    shown: dict[str, Any] = {"Id": target.id, "Arn": target.arn}
    shown |= {
        name: value
        for name, value in (
            ("RoleArn", target.role_arn),
            ("Input", target.input),
            ("InputPath", target.input_path),
        )
        if value
    }
    if target.input_template:
        shown["InputTransformer"] = {"InputPathsMap": target.input_paths, "InputTemplate": target.input_template}
    if target.message_group_id:
        shown["SqsParameters"] = {"MessageGroupId": target.message_group_id}
    if target.partition_key_path:
        shown["KinesisParameters"] = {"PartitionKeyPath": target.partition_key_path}
    if target.dead_letter_arn:
        shown["DeadLetterConfig"] = {"Arn": target.dead_letter_arn}
    retry = {"MaximumRetryAttempts": target.retry_attempts, "MaximumEventAgeInSeconds": target.event_age_s}
    if any(value is not None for value in retry.values()):
        shown["RetryPolicy"] = {name: value for name, value in retry.items() if value is not None}
    return shown


def sender(target: Target) -> Sender:
    """What makes the dispatches for a target; made once for each."""
    payload = _payload(target)
    parameters = _PARAMETERS[target.service]
    operation = _OPERATIONS[target.service]

    def send(delivery: Delivery) -> Dispatch:
        text = payload(delivery)
        return Dispatch(
            target=target.arn,
            service=target.service,
            operation=operation,
            parameters=parameters(target, delivery, text),
            source=delivery.rule_arn,
            principal=PRINCIPAL,
            account_id=delivery.owner.account_id,
            region=delivery.owner.region,
            policy=target.policy,
            dead_letter=dead_letter(target, delivery),
        )

    return send


def dead_letter(target: Target, delivery: Delivery) -> DeadLetter | None:
    """The event itself, whatever the target was to get of it, so that it can be put again.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    if not target.dead_letter_arn:
        return None
    attributes = {"RULE_ARN": _attribute(delivery.rule_arn), "TARGET_ARN": _attribute(target.arn)}
    return DeadLetter(target.dead_letter_arn, delivery.text, attributes, _ERROR_ATTRIBUTES)


def undeliverable(target: Target, delivery: Delivery, error: tuple[str, str]) -> Dispatch | None:
    """The message for the dead-letter queue, if there is one, about an event that another bus does not take."""
    if not target.dead_letter_arn:
        return None
    attributes = {
        "RULE_ARN": delivery.rule_arn,
        "TARGET_ARN": target.arn,
        "ERROR_CODE": error[0],
        "ERROR_MESSAGE": error[1],
    }
    message = {name: _attribute(value) for name, value in attributes.items()}
    message["RETRY_ATTEMPTS"] = {"DataType": "Number", "StringValue": "0"}
    return Dispatch(
        target=target.dead_letter_arn,
        service=SQS,
        operation="SendMessage",
        parameters={"MessageBody": delivery.text, "MessageAttributes": message},
        source=delivery.rule_arn,
        principal=PRINCIPAL,
        account_id=delivery.owner.account_id,
        region=delivery.owner.region,
        policy=target.policy,
    )


def log_stream(rule_arn: str) -> str:
    """The stream of a log group to which a rule writes: a UUID, always the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, rule_arn))


def _attribute(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


def _payload(target: Target) -> Callable[[Delivery], str]:
    """What makes the text for a target of an event."""
    if target.input:
        return lambda delivery: target.input
    if target.input_path:
        path = parse_path(target.input_path)

        def part(delivery: Delivery) -> str:
            value = path.find(delivery.event)
            return to_json({} if value is MISSING else value)

        return part
    if target.input_template:
        transformer: Transformer = parse_transformer(target.input_template, target.input_paths)
        return lambda delivery: transformer.render(
            delivery.event, delivery.rule_arn, delivery.rule_name, event_time(delivery.ingested_ms)
        )
    return lambda delivery: delivery.text


def _message(target: Target, delivery: Delivery, text: str) -> dict[str, Any]:
    message: dict[str, Any] = {"MessageBody": text}
    if target.message_group_id:
        message["MessageGroupId"] = target.message_group_id
    return message


def _execution(target: Target, delivery: Delivery, text: str) -> dict[str, Any]:
    """The name makes a repetition of the call harmless: it stands for one event, rule and target."""
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{delivery.rule_arn} {target.id} {delivery.event['id']}")
    return {"stateMachineArn": target.arn, "name": f"{delivery.event['id']}_{name}", "input": text}


def _log_events(target: Target, delivery: Delivery, text: str) -> dict[str, Any]:
    _, _, group = target.log_group()
    timestamp_ms, message = delivery.ingested_ms, text
    if target.input_template:  # which has to make an object of these two
        value = _loaded(text)
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            message = value["message"]
            if type(value.get("timestamp")) is int:
                timestamp_ms = value["timestamp"]
    return {
        "logGroupName": group,
        "logStreamName": log_stream(delivery.rule_arn),
        "logEvents": [{"timestamp": timestamp_ms, "message": message}],
    }


def _record(target: Target, delivery: Delivery, text: str) -> dict[str, Any]:
    key = parse_path(target.partition_key_path).find(delivery.event) if target.partition_key_path else MISSING
    if not isinstance(key, str) or not key:
        key = delivery.event["id"] if key is MISSING or not key else to_json(key)
    return {"StreamARN": target.arn, "Data": text, "PartitionKey": key}


def _delivery_stream(target: Target, delivery: Delivery, text: str) -> dict[str, Any]:
    return {"DeliveryStreamName": _resource(_match(target.arn))["stream"], "Record": {"Data": text}}


_PARAMETERS: Final[Mapping[str, Callable[[Target, Delivery, str], dict[str, Any]]]] = {
    LAMBDA: lambda target, delivery, text: {"Payload": text},
    SQS: _message,
    SNS: lambda target, delivery, text: {"TopicArn": target.arn, "Message": text},
    STEP_FUNCTIONS: _execution,
    LOGS: _log_events,
    KINESIS: _record,
    FIREHOSE: _delivery_stream,
}
_OPERATIONS: Final = {
    LAMBDA: "Invoke",
    SQS: "SendMessage",
    SNS: "Publish",
    STEP_FUNCTIONS: "StartExecution",
    LOGS: "PutLogEvents",
    KINESIS: "PutRecord",
    FIREHOSE: "PutRecord",
}


def _match(arn: str) -> re.Match[str]:
    match = _ARN.fullmatch(arn)
    if match is None or match["service"] not in _KINDS:
        raise _invalid_arn(arn)
    return match


def _resource(match: re.Match[str]) -> re.Match[str]:
    resource = _KINDS[match["service"]][1].fullmatch(match["rest"])
    if resource is None or not match["account"] or not match["region"]:
        raise _invalid_arn(match[0])
    return resource


def _service_of(arn: str) -> str:
    """Botocore's name of the service. Raises ValidationException, also when it has no such resources."""
    match = _match(arn)
    _resource(match)
    return _KINDS[match["service"]][0]


def _invalid_arn(arn: str) -> ValidationException:
    return ValidationException(f"Parameter {arn} is not valid. Reason: Provided Arn is not in correct format.")


def _dead_letter(arn: str, target_id: str, owner: BusKey) -> str:
    """The ARN of a standard queue of the rule's own region, or nothing. Raises ValidationException."""
    if not arn:
        return ""
    match = _ARN.fullmatch(arn)
    if match is None or match["service"] != SQS or match["region"] != owner.region or arn.endswith(_FIFO):
        raise ValidationException(
            f"Parameter DeadLetterConfig.Arn is not valid for target {target_id}. Reason: It must be the ARN of a "
            "standard SQS queue in the region of the rule."
        )
    return arn


def _check_input(target: Target, given: list[str]) -> None:
    if len(given) > 1:
        raise ValidationException(
            f"Only one of Input, InputPath, or InputTransformer must be provided for target {target.id}."
        )
    if given and target.service == EVENTS:
        raise ValidationException(f"{given[0]} is not supported for target {target.arn}: buses get events as they are.")
    if target.input:
        try:
            json.loads(target.input)
        except (ValueError, RecursionError) as error:
            place = f"line: {error.lineno}, column: {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise ValidationException(
                f'JSON syntax error in input for target {target.id}: [Source: (String)"{target.input}"; {place}]'
            ) from None
    try:
        for path in (target.input_path, target.partition_key_path):
            if path:
                parse_path(path)
        if target.input_template:
            parse_transformer(target.input_template, target.input_paths)
    except InvalidTransformer as error:
        raise _invalid_transformer(target, str(error)) from None


def _invalid_transformer(target: Target, reason: str) -> ValidationException:
    if reason.startswith("contains"):
        return ValidationException(f"InputTemplate for target {target.id} {reason}.")
    if reason.startswith("line"):
        return ValidationException(
            f'Invalid InputTemplate for target {target.id} : [Source: (String)"{target.input_template}"; {reason}]'
        )
    return ValidationException(f"Invalid JSONPath for target {target.id}: {reason}.")


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
