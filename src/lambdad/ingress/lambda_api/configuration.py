"""Function configurations as the API writes and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lambdad.domain import code_signing
from lambdad.domain.errors import AccessDeniedException, InvalidParameterValueException, ResourceNotFoundException
from lambdad.domain.functions import FunctionVersion, LoggingConfig, is_latest, runtime_version_arn
from lambdad.domain.layers import LayerUse
from lambdad.domain.packages import PackageObject
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.functions import hex_to_base64

# The documents that people learn from write account and region as words (seed 003); they stand for the caller's own.
_ACCOUNT_AS_WORD: Final = "iam::account:"
_PLACE_AS_WORDS: Final = ":region:account:"

_NOT_LISTED: Final = frozenset(
    {
        "State",
        "StateReason",
        "StateReasonCode",
        "LastUpdateStatus",
        "LastUpdateStatusReason",
        "LastUpdateStatusReasonCode",
        "RuntimeVersionConfig",
    }
)
_CODE_ELSEWHERE: Final = ("ImageUri", "S3Bucket", "S3Key", "S3ObjectVersion", "S3ObjectStorageMode")
_UNSUPPORTED: Final = (
    "AcceleratorConfig",
    "CapacityProviderConfig",
    "DurableConfig",
    "FileSystemConfigs",
    "ImageConfig",
    "PublishTo",
    "RuntimeConfig",
    "TenancyConfig",
    "VpcConfig",
)


def output(version: FunctionVersion, environment: Output | None, arn: str | None = None) -> dict[str, Any]:
    """A FunctionConfiguration, under the ARN that it was asked for: that of the version unless `arn` is given.

    `environment` is the member of that name, which takes a decryption.

    https://docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html
    """
    shown: dict[str, Any] = {
        "FunctionName": version.key.name,
        "FunctionArn": arn or version.arn,
        "Runtime": version.runtime,
        "Role": version.role,
        "Handler": version.handler or None,
        "CodeSize": version.code_size,
        "Description": version.description,
        "Timeout": version.timeout_s,
        "MemorySize": version.memory_mb,
        "LastModified": version.last_modified,
        "CodeSha256": hex_to_base64(version.code_sha256),
        "Version": version.version,
        "TracingConfig": {"Mode": version.tracing_mode},
        "RevisionId": version.revision_id,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": [version.architecture],
        "EphemeralStorage": {"Size": version.ephemeral_storage_mb},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": _logging(version.logging),
    }
    if environment:
        shown["Environment"] = environment
    if version.layers:
        shown["Layers"] = [_layer(layer) for layer in version.layers]
    for member, value in (
        ("KMSKeyArn", version.kms_key_arn),
        ("SigningProfileVersionArn", version.signing_profile_version_arn),
        ("SigningJobArn", version.signing_job_arn),
    ):
        if value:
            shown[member] = value
    if version.dead_letter_arn:
        shown["DeadLetterConfig"] = {"TargetArn": version.dead_letter_arn}
    if version.runtime_version:
        arn = runtime_version_arn(version.key.region, version.runtime_version)
        shown["RuntimeVersionConfig"] = {"RuntimeVersionArn": arn}
    return shown


def output_of_change(version: FunctionVersion, environment: Output | None) -> dict[str, Any]:
    """What an operation that has changed a function answers: `$LATEST` under the ARN of the function."""
    return output(version, environment, version.key.arn if is_latest(version) else None)


def listed(version: FunctionVersion, environment: Output | None, arn: str | None = None) -> dict[str, Any]:
    """A FunctionConfiguration in ListFunctions, which has a subset of the fields.

    https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html
    """
    shown = output(version, environment, arn)
    return {name: value for name, value in shown.items() if name not in _NOT_LISTED}


def _layer(layer: LayerUse) -> Output:
    shown: dict[str, Any] = {"Arn": layer.arn, "CodeSize": layer.code_size}
    if layer.signing_job_arn:
        shown["SigningProfileVersionArn"] = layer.signing_profile_version_arn
        shown["SigningJobArn"] = layer.signing_job_arn
    return shown


def _logging(logging: LoggingConfig) -> Output:
    return {
        "LogFormat": logging.log_format,
        "ApplicationLogLevel": logging.application_log_level,
        "SystemLogLevel": logging.system_log_level,
        "LogGroup": logging.log_group,
    }


def changes(call: Call, params: Params) -> dict[str, Any]:
    """The fields of a FunctionVersion that a Create- or UpdateFunctionConfiguration sets."""
    refuse_unsupported(params)
    found: dict[str, Any] = {}
    for member, name in (("Runtime", "runtime"), ("Handler", "handler"), ("Description", "description")):
        if params.get(member) is not None:
            found[name] = params[member]
    if params.get("Role") is not None:
        found["role"] = role(call, params["Role"])
    if params.get("Timeout") is not None:
        found["timeout_s"] = params["Timeout"]
    if params.get("MemorySize") is not None:
        found["memory_mb"] = params["MemorySize"]
    if params.get("EphemeralStorage") is not None:
        found["ephemeral_storage_mb"] = params["EphemeralStorage"]["Size"]
    if params.get("Environment") is not None:
        found["environment"] = dict(params["Environment"].get("Variables") or {})
    if params.get("KMSKeyArn") is not None:
        found["kms_key_arn"] = params["KMSKeyArn"]
    if params.get("Layers") is not None:
        found["layers"] = tuple(params["Layers"])
    if params.get("DeadLetterConfig") is not None:
        found["dead_letter_arn"] = _dead_letter_arn(call, params["DeadLetterConfig"].get("TargetArn") or "")
    if (params.get("TracingConfig") or {}).get("Mode") is not None:
        found["tracing_mode"] = params["TracingConfig"]["Mode"]
    if params.get("LoggingConfig") is not None:
        found["logging"] = _logging_changes(params["LoggingConfig"])
    return found


def _logging_changes(config: Params) -> Mapping[str, str]:
    names = {
        "LogGroup": "log_group",
        "LogFormat": "log_format",
        "ApplicationLogLevel": "application_log_level",
        "SystemLogLevel": "system_log_level",
    }
    return {name: config[member] for member, name in names.items() if config.get(member) is not None}


def role(call: Call, arn: str) -> str:
    """An execution role's ARN, with the caller's account where it only says `account`."""
    return arn.replace(_ACCOUNT_AS_WORD, f"iam::{call.account_id}:", 1)


def _dead_letter_arn(call: Call, arn: str) -> str:
    return arn.replace(_PLACE_AS_WORDS, f":{call.region}:{call.account_id}:", 1)


def architecture(params: Params) -> str | None:
    architectures = params.get("Architectures")
    return architectures[0] if architectures else None


def code_signing_config_arn(call: Call, params: Params) -> str:
    """The configuration that a request names, which is one of the caller's; empty where it names none.

    Raises AccessDeniedException for another account's, ResourceNotFoundException for one of another region.
    """
    arn: str = params.get("CodeSigningConfigArn") or ""
    key = code_signing.parse_arn(arn)
    if key is not None:
        require_own(call, arn, *key[:2])
    return arn


def require_own(call: Call, arn: str, account_id: str, region: str) -> None:
    """Whether the resource with this ARN is one of the caller's, in the region that was called.

    Raises AccessDeniedException and ResourceNotFoundException.
    """
    if account_id != call.account_id:
        raise AccessDeniedException(
            f"User: arn:aws:iam::{call.account_id}:root is not authorized to perform: lambda:{call.operation} on "
            f"resource: {arn}"
        )
    if region != call.region:
        raise ResourceNotFoundException(f"Resources from '{region}' are not reachable in this region ('{call.region}')")


def refuse_unsupported(params: Params) -> None:
    """Settings that would have no effect are refused, not stored; empty ones, which tools send, ask for nothing.

    Raises InvalidParameterValueException.
    """
    if (params.get("PackageType") or "Zip") != "Zip":
        raise _unsupported("PackageType Image")
    if (params.get("SnapStart") or {}).get("ApplyOn", "None") != "None":
        raise _unsupported("SnapStart")
    for member in _UNSUPPORTED:
        if _asks_for_something(params.get(member)):
            raise _unsupported(member)


def _asks_for_something(value: Any) -> bool:
    """Whether there is anything in a value: `{"SubnetIds": [], "SecurityGroupIds": []}` is empty."""
    if isinstance(value, Mapping):
        return any(map(_asks_for_something, value.values()))
    return bool(value)


def _unsupported(setting: str) -> InvalidParameterValueException:
    return InvalidParameterValueException(f"{setting} is not supported by lambdad yet.")


def package(params: Params) -> bytes | PackageObject:
    """The deployment package of a request, or where it is. Raises InvalidParameterValueException."""
    elsewhere = any(params.get(member) for member in _CODE_ELSEWHERE)
    if params.get("ZipFile") is not None and elsewhere:
        raise InvalidParameterValueException(
            "Please do not provide other FunctionCode parameters when providing a ZipFile."
        )
    if params.get("ImageUri"):
        raise _unsupported("ImageUri")
    if params.get("SourceKMSKeyArn"):
        raise _unsupported("SourceKMSKeyArn")
    if params.get("ZipFile") is not None:
        return bytes(params["ZipFile"])
    if not params.get("S3Bucket") or not params.get("S3Key"):
        raise InvalidParameterValueException("Please provide a source for your function code.")
    if params.get("S3ObjectStorageMode") == "REFERENCE":
        raise _unsupported("S3ObjectStorageMode REFERENCE")
    return PackageObject(params["S3Bucket"], params["S3Key"], params.get("S3ObjectVersion") or "")
