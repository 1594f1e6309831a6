"""Universal targets: the operation that an ARN means, and its parameters as botocore's model calls them.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
The SDK for Java, which Scheduler calls services by, writes names of members with a capital; models do as they like.
"""

from __future__ import annotations

import json
from typing import Any, Final

from lambdad.domain import schedule_targets
from lambdad.domain.errors import ValidationException
from lambdad.ingress.wire.service import Service

_STRUCTURE: Final = "structure"


def resolve(arn: str, text: str | None) -> tuple[str, str]:
    """The operation and the request of a universal target; of another target nothing, and an empty request.

    Raises ValidationException for an operation, or a parameter, that the service does not have.
    """
    called = schedule_targets.universal(arn)
    if called is None:
        return "", "{}"
    service, action = called
    model = Service.load(service).model
    operation = {name.lower(): name for name in model.operation_names}.get(action.lower())
    if operation is None:
        raise ValidationException(f"{action} is not a supported api for the service {service}.")
    request = {} if text is None else schedule_targets.json_of(text)
    shape = model.operation_model(operation).input_shape
    if not isinstance(request, dict) or (request and shape is None):
        raise ValidationException(f"Invalid RequestJson provided. Reason: it is no input of the api {action}.")
    try:
        return operation, json.dumps(_named(request, shape) if shape is not None else {}, ensure_ascii=False)
    except RecursionError:
        raise ValidationException("Invalid RequestJson provided. Reason: it is nested too deeply.") from None


def _named(value: Any, shape: Any) -> Any:
    """A value with its members called as in the model."""
    if shape.type_name == _STRUCTURE and isinstance(value, dict) and not getattr(shape, "is_document_type", False):
        names = {name.lower(): name for name in shape.members}
        named = {}
        for given, member in value.items():
            name = names.get(given.lower())
            if name is None:
                raise ValidationException(f'Invalid RequestJson provided. Reason: the field "{given}" is not known.')
            named[name] = _named(member, shape.members[name])
        return named
    if shape.type_name == "list" and isinstance(value, list):
        return [_named(element, shape.member) for element in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {key: _named(member, shape.value) for key, member in value.items()}
    return value
