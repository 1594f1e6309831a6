"""Every error that a client of an AWS API can be sent, with AWS's code and status.

    LambdadError
    ├── IllegalTransition                  a lifecycle was asked for a step that its table does not have
    └── ServiceError                       carries code, status, message and the extra fields of the error shape
        ├── ValidationException            400  the input breaks a constraint of the service model
        ├── InvalidParameterValueException 400
        ├── InvalidRequestContentException 400
        ├── CodeStorageExceededException   400
        ├── CodeVerificationFailedException 400
        ├── InvalidCodeSignatureException  400
        ├── PolicyLengthExceededException  400
        ├── RecursiveInvocationException   400
        ├── IncompleteSignatureException   400
        ├── UnrecognizedClientException    403
        ├── InvalidSignatureException      403
        ├── AccessDeniedException          403
        ├── CodeSigningConfigNotFoundException 404
        ├── ResourceNotFoundException      404
        ├── ProvisionedConcurrencyConfigNotFoundException 404
        ├── UnknownOperationException      404
        ├── ResourceConflictException      409
        ├── PreconditionFailedException    412
        ├── RequestEntityTooLargeException 413
        ├── RequestTooLargeException       413
        ├── UnsupportedMediaTypeException  415
        ├── TooManyRequestsException       429
        ├── ServiceException               500
        ├── NotImplementedException        501  the operation is in AWS's model and not in lambdad
        ├── InvalidRuntimeException        502
        ├── InvalidZipFileException        502
        ├── KMSAccessDeniedException       502  and KMSDisabled-, KMSInvalidState-, KMSNotFoundException
        └── (CloudWatch Logs)              400  ResourceAlreadyExistsException, InvalidParameterException, ...

The codes and statuses are those of botocore's service models; messages follow what the services send.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class LambdadError(Exception):
    """The root of lambdad's own errors."""


class IllegalTransition(LambdadError):
    """A lifecycle table has no entry for this state and event."""

    def __init__(self, machine: str, state: object, event: object) -> None:
        super().__init__(f"{machine}: no transition from {state} on {event}")
        self.state = state
        self.event = event


class ServiceError(LambdadError):
    """An answer other than success, as the AWS API words it.

    `fault` is the `Type` field of Lambda's errors: "User" when the caller can mend it, "Service" otherwise.
    `fields` are further members of the error's shape, such as `Reason` of TooManyRequestsException.
    """

    code: ClassVar[str] = "ServiceException"
    status: ClassVar[int] = 500
    fault: ClassVar[str] = "User"

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields: Mapping[str, Any] = fields


class ValidationException(ServiceError):
    code = "ValidationException"
    status = 400


class SerializationException(ServiceError):
    code = "SerializationException"
    status = 400


class InvalidParameterValueException(ServiceError):
    code = "InvalidParameterValueException"
    status = 400


class InvalidRequestContentException(ServiceError):
    code = "InvalidRequestContentException"
    status = 400


class CodeStorageExceededException(ServiceError):
    code = "CodeStorageExceededException"
    status = 400


class CodeVerificationFailedException(ServiceError):
    """A package is not signed as the code signing configuration wants it, and that enforces it."""

    code = "CodeVerificationFailedException"
    status = 400


class InvalidCodeSignatureException(ServiceError):
    """A package has been changed since it was signed, or its signature cannot be checked."""

    code = "InvalidCodeSignatureException"
    status = 400


class PolicyLengthExceededException(ServiceError):
    code = "PolicyLengthExceededException"
    status = 400


class RecursiveInvocationException(ServiceError):
    """A function has been invoked by itself, directly or through others, more often than is allowed."""

    code = "RecursiveInvocationException"
    status = 400


class AccessDeniedException(ServiceError):
    code = "AccessDeniedException"
    status = 403


class IncompleteSignatureException(ServiceError):
    """What a request says of its signature lacks something, or cannot be understood."""

    code = "IncompleteSignatureException"
    status = 400


class UnrecognizedClientException(ServiceError):
    code = "UnrecognizedClientException"
    status = 403


class InvalidSignatureException(ServiceError):
    """A request is not signed with the secret of the key that it names, or was not lately."""

    code = "InvalidSignatureException"
    status = 403


class CodeSigningConfigNotFoundException(ServiceError):
    code = "CodeSigningConfigNotFoundException"
    status = 404


class ResourceNotFoundException(ServiceError):
    code = "ResourceNotFoundException"
    status = 404


class ProvisionedConcurrencyConfigNotFoundException(ServiceError):
    code = "ProvisionedConcurrencyConfigNotFoundException"
    status = 404


class UnknownOperationException(ServiceError):
    code = "UnknownOperationException"
    status = 404


class ResourceConflictException(ServiceError):
    code = "ResourceConflictException"
    status = 409


class PreconditionFailedException(ServiceError):
    code = "PreconditionFailedException"
    status = 412


class RequestEntityTooLargeException(ServiceError):
    code = "RequestEntityTooLargeException"
    status = 413


class RequestTooLargeException(ServiceError):
    code = "RequestTooLargeException"
    status = 413


class UnsupportedMediaTypeException(ServiceError):
    code = "UnsupportedMediaTypeException"
    status = 415


class TooManyRequestsException(ServiceError):
    """Throttled; `Reason` is one of the model's ThrottleReason values."""

    code = "TooManyRequestsException"
    status = 429


class ServiceException(ServiceError):
    fault = "Service"


class NotImplementedException(ServiceError):
    """The operation exists in AWS's model and lambdad declares that it does not have it."""

    code = "NotImplementedException"
    status = 501
    fault = "Service"


class InvalidRuntimeException(ServiceError):
    code = "InvalidRuntimeException"
    status = 502


class InvalidZipFileException(ServiceError):
    code = "InvalidZipFileException"
    status = 502


class KMSAccessDeniedException(ServiceError):
    code = "KMSAccessDeniedException"
    status = 502


class KMSDisabledException(ServiceError):
    code = "KMSDisabledException"
    status = 502


class KMSInvalidStateException(ServiceError):
    code = "KMSInvalidStateException"
    status = 502


class KMSNotFoundException(ServiceError):
    code = "KMSNotFoundException"
    status = 502
